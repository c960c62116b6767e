"""How much a data set may take decoded, and what is done where it would take more."""

from __future__ import annotations

from dataclasses import dataclass

from facegan.config import TrainConfig, size_of


@dataclass(frozen=True)
class Limits:
    """Bytes, and how images are decoded that are not kept; none of it changes a pixel."""

    stream: bool = False  # decode as needed in any case
    cache: int = size_of(TrainConfig.cache_limit, "cache_limit")  # bytes of decoded images, beyond which they are streamed
    download: int = size_of(TrainConfig.download_limit, "download_limit")  # bytes of shards fetched
    decoders: int = 0  # processes; 0: half of the cores

    @classmethod
    def of(cls, config: TrainConfig) -> Limits:
        cache, download = (size_of(getattr(config, name), name) for name in ("cache_limit", "download_limit"))
        return cls(config.stream, cache, download, config.decoders)
