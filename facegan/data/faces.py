"""One call from a path (or `synthetic`) to images with attributes and identities."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facegan.data.images import build, cached, content_key
from facegan.data.loaders import open_catalog
from facegan.data.table import AttributeTable
from facegan.errors import FaceganError


@dataclass(frozen=True, eq=False)
class FaceData:
    """A data set ready for training; row i of everything is the same image."""

    table: AttributeTable
    images: np.ndarray  # uint8 [N, 3, R, R], read-only; memory-mapped when large
    identities: tuple[str, ...]  # the person; the image id where none is known
    name: str
    skipped: tuple[tuple[str, str], ...]  # (file, reason) of the images that could not be read, and have no row
    fingerprint: str  # sha256 over pixels, ids, identities and attributes: equal data, wherever it lies

    def __len__(self) -> int:
        return len(self.images)


def open_faces(
    data: str | Path, resolution: int, *, num: int = 8000, seed: int = 0, cache_dir: str | Path | None = None, progress: bool = True
) -> FaceData:
    """Load a data set at `resolution` x `resolution` pixels, each image decoded once and for all (`images`).

    `data` is a folder or .zip in one of `layouts.LAYOUTS`, or "synthetic" / "synthetic:SEED" for `num` synthetic faces of
    `seed`. Raises FaceganError when there is no such data, its layout is unknown, or its files are damaged.
    """
    if resolution < 1:
        raise FaceganError(f"resolution: expected a number of pixels, 1 or more, got {resolution}")
    drawn = synthetic_seed(data, seed)
    if drawn is not None:
        return _synthetic(num, resolution, drawn, cache_dir, progress)
    catalog = open_catalog(data)
    stamps = [catalog.source.stamp(name) for name in catalog.members]
    decoded = build(catalog.source.read, catalog.members, stamps, resolution, cache_dir=cache_dir, progress=progress)
    table = catalog.table.rows(decoded.kept)
    identities = tuple(catalog.identities[i] for i in decoded.kept)
    return FaceData(
        table,
        decoded.images,
        identities,
        catalog.source.path.resolve().name.removesuffix(".zip"),
        decoded.skipped,
        _fingerprint(decoded.digest, table, identities),
    )


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
