"""A labelled data set of any layout written as WebDataset shards: the files as they are, each with its labels beside it."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from facegan.config import size_of
from facegan.data.faces import synthetic_seed
from facegan.data.loaders import Catalog, open_catalog
from facegan.data.streaming import StreamedImages
from facegan.errors import FaceganError
from facegan.files import quoted, written
from facegan.options import DataPack

_PATTERN, _TOGETHER = "faces-%06d.tar", 512
_CHECKED_AT = 64  # pixels: enough to read all that is compressed


@dataclass(frozen=True)
class Packed:
    """What was written."""

    folder: Path
    shards: int
    images: int
    size: int  # bytes
    skipped: tuple[tuple[str, str], ...]  # (file, reason)

    @property
    def pattern(self) -> str:
        """What `--data` takes."""
        return str(self.folder / (f"faces-{{{0:06d}..{self.shards - 1:06d}}}.tar" if self.shards > 1 else _PATTERN % 0))

    def describe(self) -> str:
        lines = [f"{self.images:,} images in {self.shards} shard(s), {self.size / 2**20:,.1f} MiB"]
        lines += [f"left out {quoted(name)}: {reason}" for name, reason in self.skipped[:20]]
        return "\n".join([*lines, *[f"and {len(self.skipped) - 20:,} more"] * (len(self.skipped) > 20), self.pattern])


def pack(options: DataPack, progress: bool = True) -> Packed:
    """Write the shards. Raises FaceganError for data that cannot be read and for a folder that has something in it."""
    try:
        from webdataset import ShardWriter
    except ImportError as error:
        raise FaceganError(f"shards are written by webdataset, which needs pip install 'facegan[webdataset]' ({error})") from error
    size = size_of(options.shard_size, "shard_size")
    if size < 1 << 20:
        raise FaceganError(f"`shard_size` is {options.shard_size!r}: expected 1MiB or more")
    if not options.data or synthetic_seed(options.data) is not None:
        raise FaceganError("`data` are to be files: `facegan data synth` writes synthetic faces as such")
    out = Path(options.out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FaceganError(f"`out` is {quoted(options.out)}, where there is something already: expected a new or empty folder")
    catalog = open_catalog(options.data, progress=progress)
    skipped: list[tuple[str, str]] = []
    count = total = 0
    try:
        with written(out) as aside:
            aside.mkdir()
            kept = {"mtime": 0, "user": "", "group": "", "encoder": False, "opener": lambda name: open(name, "wb")}
            with ShardWriter(str(aside / _PATTERN).replace("%", "%%").replace("%%06d", "%06d"), 10**9, size, verbose=0, **kept) as writer:
                for sample in _samples(catalog, options.decoders, skipped, progress):
                    writer.write(sample)
                    count += 1
            if not count:
                raise FaceganError(
                    f"data {catalog.source.path}: none of its images can be read, such as {quoted(skipped[0][0])}: {skipped[0][1]}"
                )
            shards = sorted(aside.glob("*.tar"))
            total = sum(shard.stat().st_size for shard in shards)
    except OSError as error:
        raise FaceganError(f"`out={out}` cannot be written ({error}): make room, or name another folder") from error
    return Packed(out, len(shards), count, total, tuple(skipped))


def _samples(catalog: Catalog, decoders: int, skipped: list[tuple[str, str]], progress: bool) -> Iterator[dict[str, Any]]:
    """Every image that can be decoded, as WebDataset's writer takes it."""
    images = StreamedImages(catalog.source, catalog.members, _CHECKED_AT, catalog.table.values, decoders)
    used: set[str] = set()
    with tqdm(total=len(images), desc="packing", unit="image", disable=None if progress else True) as bar:
        for start in range(0, len(images), _TOGETHER):
            rows = np.arange(start, min(start + _TOGETHER, len(images)))
            for row, reason in zip(rows.tolist(), images.tried(rows), strict=True):
                bar.update()
                if reason is not None:
                    skipped.append((catalog.members[row], reason))
                    continue
                ending = PurePosixPath(catalog.members[row]).suffix.lower().lstrip(".")
                labels = json.dumps(_labels(catalog, row), ensure_ascii=False).encode()
                yield {"__key__": _key(catalog.table.ids[row], used), ending: catalog.source.read(catalog.members[row]), "json": labels}
    images.decoders.close()


def _labels(catalog: Catalog, row: int) -> dict[str, Any]:
    """What `facegan.data.shards` reads: the id, the person where known, and each attribute, null where unknown."""
    name, person = catalog.table.ids[row], catalog.identities[row]
    values = catalog.table.values[row].tolist()
    plain = (None if value != value else int(value) if value == int(value) else value for value in values)
    told = {"file_name": name} | ({"identity": person} if person != name else {})
    return told | {"attributes": dict(zip(catalog.table.columns, plain, strict=True))}


def _key(name: str, used: set[str]) -> str:
    """An id without its ending and without dots, by which WebDataset tells samples apart; another one for each."""
    folder, base = posixpath.split(posixpath.splitext(name.replace("\\", "/").lstrip("/"))[0])
    stem = posixpath.join(*(part.replace(".", "_") for part in folder.split("/")), base.replace(".", "_") or "_")
    key, number = stem, 1
    while key in used:
        number += 1
        key = f"{stem}-{number}"
    used.add(key)
    return key
