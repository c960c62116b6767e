"""One call from a path (or `synthetic`) to images with attributes and identities."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from facegan.data.checks import checks_of
from facegan.data.decoders import usual_processes
from facegan.data.images import build, cached, content_key
from facegan.data.limits import Limits
from facegan.data.loaders import Catalog, open_catalog
from facegan.data.streaming import StreamedImages
from facegan.data.table import AttributeTable
from facegan.errors import FaceganError

log = logging.getLogger("facegan.data")
STREAMED = "files-"  # begins the fingerprint of images that are decoded as they are needed


@dataclass(frozen=True, eq=False)
class FaceData:
    """A data set ready for training; row i of everything is the same image."""

    table: AttributeTable
    images: np.ndarray  # uint8 [N, 3, R, R], read-only; memory-mapped when large; a `StreamedImages` where they are streamed
    identities: tuple[str, ...]  # the person; the image id where none is known
    name: str
    skipped: tuple[tuple[str, str], ...]  # (file, reason) of the images that could not be read, and have no row
    fingerprint: str  # sha256 over pixels, ids, identities and attributes: equal data, wherever it lies; see `_streamed`

    def __len__(self) -> int:
        return len(self.images)


def open_faces(
    data: str | Path,
    resolution: int,
    *,
    num: int = 8000,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    limits: Limits | None = None,
) -> FaceData:
    """Load a data set at `resolution` x `resolution` pixels, each image decoded once and for all (`images`), or as `limits` say.

    `data` is a folder, .zip or shards in one of `layouts.LAYOUTS`, or "synthetic" / "synthetic:SEED" for `num` synthetic faces of
    `seed`. Raises FaceganError when there is no such data, its layout is unknown, or its files are damaged.
    """
    if resolution < 1:
        raise FaceganError(f"resolution: expected a number of pixels, 1 or more, got {resolution}")
    limits, drawn = limits or Limits(), synthetic_seed(data, seed)
    if drawn is not None:
        if limits.stream:
            log.info("synthetic faces are drawn once and kept: --stream and --cache-limit are for files")
        return _synthetic(num, resolution, drawn, cache_dir, progress)
    catalog = open_catalog(data, cache_dir=cache_dir, download_limit=limits.download, progress=progress)
    if _too_large(len(catalog.members), resolution, limits):
        return _streamed(catalog, resolution, limits, cache_dir, progress)
    stamps = [catalog.source.stamp(name) for name in catalog.members]
    decoded = build(catalog.source.read, catalog.members, stamps, resolution, cache_dir=cache_dir, progress=progress)
    table = catalog.table.rows(decoded.kept)
    identities = tuple(catalog.identities[i] for i in decoded.kept)
    return FaceData(table, decoded.images, identities, _name(catalog), decoded.skipped, _fingerprint(decoded.digest, table, identities))


def _name(catalog: Catalog) -> str:
    return catalog.source.path.resolve().name.removesuffix(".zip").removesuffix(".tar")


def _too_large(count: int, resolution: int, limits: Limits) -> bool:
    """Whether images are streamed, a function of what is asked for alone; tells why."""
    size = 3 * count * resolution**2
    if not (limits.stream or size > limits.cache):
        return False
    why = "as --stream asks" if limits.stream else f"more than the {limits.cache / 2**30:g} GiB of --cache-limit"
    log.info(
        "%s images of %d px, %.1f GiB decoded, %s: they are decoded as they are needed, by %d process(es)",
        f"{count:,}", resolution, size / 2**30, why, limits.decoders or usual_processes(),
    )  # fmt: skip
    return True


def _streamed(catalog: Catalog, resolution: int, limits: Limits, cache_dir: str | Path | None, progress: bool) -> FaceData:
    """Images that are decoded as they are needed. The fingerprint rests on `checks` in place of pixels, wherever the files lie: equal
    for a folder, the .zip and the shards that were made of it. No file is known to be bad yet, so none is left out."""
    digest = content_key("streamed", checks_of(catalog.source, catalog.members, cache_dir, progress))
    images = StreamedImages(catalog.source, catalog.members, resolution, catalog.table.values, limits.decoders)
    fingerprint = f"{STREAMED}{_fingerprint(digest, catalog.table, catalog.identities)}"
    return FaceData(catalog.table, cast(np.ndarray, images), catalog.identities, _name(catalog), (), fingerprint)


def synthetic_seed(data: str | Path, seed: int = 0) -> int | None:
    """The seed that `synthetic` (then `seed`) or `synthetic:SEED` asks for; None for a path."""
    word, _, number = str(data).partition(":")
    if word != "synthetic":
        return None
    if not number:
        return seed
    if not number.isdecimal():
        raise FaceganError(f"data: expected synthetic or synthetic:SEED with a whole number, got {str(data)!r}")
    return int(number)


def _synthetic(num: int, resolution: int, seed: int, cache_dir: str | Path | None, progress: bool) -> FaceData:
    from facegan.data import synthetic  # only here: reading photographs needs no renderer

    key = content_key("synthetic", synthetic.VERSION, num, resolution, seed)

    def produce(notes: dict[str, Any]) -> Iterator[np.ndarray]:
        images, attributes = synthetic.render_dataset(num, resolution, seed, progress=progress)
        notes["attributes"] = attributes.tolist()
        yield from images

    entry = cached(key, (num, 3, resolution, resolution), produce, cache_dir)
    ids = synthetic_ids(num)
    table = AttributeTable(ids, tuple(synthetic.COLUMNS), np.array(entry.notes["attributes"], np.float32))
    return FaceData(table, entry.images, ids, f"synthetic-{seed}", (), _fingerprint(entry.notes["digest"], table, ids))


def synthetic_ids(num: int) -> tuple[str, ...]:
    """Ids of synthetic faces, each of whom is a person of their own."""
    return tuple(f"{i:06d}" for i in range(num))


def _fingerprint(pixels: str, table: AttributeTable, identities: tuple[str, ...]) -> str:
    digest = hashlib.sha256(content_key(pixels, table.ids, table.columns, identities).encode())
    digest.update(np.nan_to_num(table.values, nan=-1.0).astype("<f4").tobytes())  # NaN has many bit patterns
    return digest.hexdigest()
