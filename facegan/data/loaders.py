"""The layouts that data sets come in, each read into a `Catalog`: which image file is which row of an `AttributeTable`.

A layout is recognised by its marker file (`MARKED` below), in a folder or straight inside a `.zip`, at any depth.
No image is decoded here.
"""

from __future__ import annotations

import logging
import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facegan.data.classes import class_folders
from facegan.data.formats import is_image, told_masks, told_unread, unread, without_masks
from facegan.data.layouts import LAYOUTS, Reader, Rows, celeba, imagefolder, metadata_csv, metadata_jsonl, nvidia
from facegan.data.shards import ShardSource, names_shards, samples
from facegan.data.sources import Source, open_source
from facegan.data.table import AttributeTable
from facegan.errors import FaceganError
from facegan.files import quoted

logger = logging.getLogger("facegan.data")


@dataclass(frozen=True, eq=False)
class Catalog:
    """A data set before decoding: row i of `table` is the file `members[i]` and shows the person `identities[i]`."""

    source: Source
    layout: str
    table: AttributeTable
    members: tuple[str, ...]
    identities: tuple[str, ...]  # the image id where no person is known
    notes: tuple[str, ...]  # what was odd, in sentences; logged already
    unread: tuple[tuple[str, str], ...] = ()  # (file, reason) of the pictures that are not read here, by their names alone
    unchecked: np.ndarray | None = None  # bool like `table.values`: written by `facegan data label`, and nobody has looked at them


MARKED: tuple[tuple[str, str, Reader], ...] = (
    ("list_attr_celeba.txt", "CelebA", celeba),
    ("list_attr_celeba.csv", "Kaggle CelebA", celeba),
    ("CelebAMask-HQ-attribute-anno.txt", "CelebAMask-HQ", celeba),
    ("dataset.json", "NVIDIA", nvidia),
    ("metadata.csv", "imagefolder", imagefolder(metadata_csv)),
    ("metadata.jsonl", "imagefolder", imagefolder(metadata_jsonl)),
)


def open_catalog(
    path: str | Path, *, cache_dir: str | Path | None = None, download_limit: int | None = None, progress: bool = True
) -> Catalog:
    """Find out the layout of a folder, zip or shards and read its attributes; shards are indexed, and fetched, first.

    Raises FaceganError, which lists the layouts, when there is nothing there or nothing known; and with file and line
    for damaged attribute files.
    """
    source = _source(path, cache_dir, download_limit, progress)
    path = source.path
    images, masks = without_masks([name for name in source.names if is_image(name)])
    others = (*source.lost, *unread(source.names))
    notes = told_unread(others)
    dropped = [*told_masks(masks), *notes]
    if not images:
        archives = [name for name in source.names if name.endswith(".zip")]
        hint = f"; unpack {archives[0]}, or give it instead" if archives else ""
        raise FaceganError(f"data {path}: contains no image{hint}{''.join(f'; {note}' for note in dropped)}; {LAYOUTS}")
    beside = [pair for pair in masks if pair[1]]  # the others belong to CelebAMask-HQ as it comes
    for marker, layout, load in MARKED:
        marked = [name for name in source.names if posixpath.basename(name) == marker]
        if marked:
            return _catalog(source, layout, load(source, sorted(marked, key=_depth), images), [*told_masks(beside), *notes], others)
    if isinstance(source, ShardSource) and source.labels:
        return _catalog(source, "WebDataset", samples(source, images), [*told_masks(beside), *notes], others)
    return _catalog(source, "class folders", class_folders(source, images, dropped), dropped, others)


def _source(data: str | Path, cache_dir: str | Path | None, download_limit: int | None, progress: bool) -> Source:
    if names_shards(data):
        return ShardSource(data, cache_dir=cache_dir, download_limit=download_limit, progress=progress)
    path = Path(data).expanduser()
    if not os.path.exists(path):
        raise FaceganError(f"data {path}: no such folder or file; {LAYOUTS}")
    return open_source(path)


def _depth(name: str) -> int:
    return name.count("/")


def _catalog(source: Source, layout: str, rows: Rows, notes: list[str], others: tuple[tuple[str, str], ...]) -> Catalog:
    """One row per image file: rows without a file and files without a row are dropped, rows of one file joined, each with a note."""
    values = np.array(rows.values, dtype=np.float32).reshape(len(rows.ids), len(rows.columns))
    first: dict[str, int] = {}  # image file -> row
    for i, member in enumerate(rows.members):
        if member is not None:
            kept = values[first.setdefault(member, i)]
            kept[kept != values[i]] = np.nan  # a joint image must not pass for another because one row says so
    absent = [name for name, member in zip(rows.ids, rows.members, strict=True) if member is None]
    repeated = len(rows.ids) - len(absent) - len(first)
    notes = [*notes, *rows.notes]
    unlisted = [name for name in rows.images if name not in first] if layout != "class folders" else []
    if unlisted:
        notes.append(f"{len(unlisted):,} of {len(rows.images):,} images have no row and are left out, such as {quoted(unlisted[0])}")
    if absent:
        notes.append(f"{len(absent)} of {len(rows.ids)} rows have no image file and are left out, such as {quoted(absent[0])}")
    if repeated:
        notes.append(f"{repeated} rows repeat an image of another row; where such rows disagree the value is unknown")
    if not first:
        raise FaceganError(
            f"data {source.path}: read as {layout}, but none of its {len(rows.ids)} rows has an image file"
            + f", such as {quoted(absent[0])}" * bool(absent)
            + f"; {LAYOUTS}"
        )
    for note in notes:
        logger.warning("%s: %s", source.path, note)
    keep = list(first.values())
    table = AttributeTable(tuple(rows.ids[i] for i in keep), tuple(rows.columns), values[keep])
    identities = tuple(rows.identities[i] or rows.ids[i] for i in keep)
    unchecked = None if rows.unchecked is None else rows.unchecked[keep]
    return Catalog(source, layout, table, tuple(first), identities, tuple(notes), others, unchecked)
