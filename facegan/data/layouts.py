"""Readers of the layouts that data sets come in: from the files of a `Source` to `Rows`.

Each reader takes the source, the marker files that gave the layout away (the shallowest first) and all image files. No
image is decoded here. Damaged files raise FaceganError with file and line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from facegan.data.sources import Source
from facegan.errors import FaceganError

LAYOUTS = """the layouts understood, in a folder or a .zip, are
  CelebA          list_attr_celeba.txt with img_align_celeba/, identity_CelebA.txt optional
  Kaggle CelebA   list_attr_celeba.csv with img_align_celeba/
  CelebAMask-HQ   CelebAMask-HQ-attribute-anno.txt with CelebA-HQ-img/
  NVIDIA          dataset.json with "labels": [[file, class or floats], ...]
  imagefolder     metadata.csv or metadata.jsonl with a file_name column
  class folders   two or more folders of images, each named after the attribute its images carry"""


@dataclass
class Rows:
    """What a layout's reader hands back; rows whose `members` entry is None have no image file."""

    ids: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray  # float [N, C], in [0, 1] or NaN
    members: Sequence[str | None]
    identities: Sequence[str]  # "" where unknown
    notes: list[str]


Reader = Callable[[Source, Sequence[str], Sequence[str]], Rows]
_MOST_CLASSES = 10_000  # of an NVIDIA data set, one column each: a larger number is no class


def _unit(values: np.ndarray) -> np.ndarray | None:
    """Values to [0, 1]: -1/1 lists (0 = unknown) become 0/1; None when neither that nor within [0, 1] already."""
    known = values[~np.isnan(values)]
    if np.isin(known, (-1, 0, 1)).all() and (known == -1).any():
        return np.where(values == 0, np.nan, (values + 1) / 2)
    return values if ((known >= 0) & (known <= 1)).all() else None


# --- CelebA: list_attr_celeba.txt, Kaggle's csv, CelebAMask-HQ --------------------------------------------------------


def celeba(source: Source, marked: Sequence[str], images: Sequence[str]) -> Rows:
    """CelebA's and CelebAMask-HQ's text list: the number of rows, the attribute names, then `file -1 1 …`."""
    lines = source.text(marked[0]).splitlines()
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise FaceganError(
            f"{source.path}: {marked[0]}: line 1 must be the number of rows and line 2 the attribute names"
        )
    rows = [(number, line.split()) for number, line in enumerate(lines[2:], start=3) if line.strip()]
    result = _celeba_rows(source, marked[0], lines[1].split(), rows, images)
    if int(lines[0]) != len(rows):
        result.notes.append(f"{marked[0]}: line 1 announces {int(lines[0])} rows, but there are {len(rows)}")
    return result


def celeba_csv(source: Source, marked: Sequence[str], images: Sequence[str]) -> Rows:
    """Kaggle's list: a header `image_id,…`, then `file,-1,1,…`."""
    (_, header), *rows = _csv(source, marked[0])
    if header[:1] != ["image_id"]:
        raise FaceganError(
            f"{source.path}: {marked[0]}: line 1 must start with image_id, got {','.join(header)[:60]!r}"
        )
    return _celeba_rows(source, marked[0], header[1:], rows, images)


def _csv(source: Source, file: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not empty, the header first."""
    reader = csv.reader(io.StringIO(source.text(file), newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise FaceganError(f"{source.path}: {file}: line {reader.line_num}: {error}") from error
    if not rows:
        raise FaceganError(f"{source.path}: {file}: is empty; expected a header line and one line per image")
    return rows


def _celeba_rows(
    source: Source, file: str, columns: Sequence[str], rows: Sequence[tuple[int, list[str]]], images: Sequence[str]
) -> Rows:
    values = np.empty((len(rows), len(columns)), np.float32)
    for i, (number, row) in enumerate(rows):
        if len(row) != len(columns) + 1:
            raise FaceganError(
                f"{source.path}: {file}: line {number}: expected an image name and {len(columns)} values, got "
                f"{len(row) - 1} values; the file is cut off or damaged there, so fetch it again"
            )
        try:
            values[i] = [float(value) for value in row[1:]]
        except ValueError as error:
            raise FaceganError(
                f"{source.path}: {file}: line {number}: {error}; expected the values -1 and 1"
            ) from error
    unit = _unit(values)
    if unit is None:
        raise FaceganError(
            f"{source.path}: {file}: expected the values -1 and 1, got {values.min():g} to {values.max():g}"
        )
    ids = [row[0] for _, row in rows]
    files = _by_name(images)
    members = [files.get(name) or files.get(PurePosixPath(name).stem) for name in ids]
    people = _identities(source)
    return Rows(ids, columns, unit, members, [people.get(name, "") for name in ids], [])


def _by_name(images: Sequence[str]) -> dict[str, str]:
    """Image file by base name and by stem (img_align_celeba_png holds .png); of the aligned folder, if there is one."""
    aligned = [name for name in images if re.search(r"(^|/)(img_align_celeba|CelebA-HQ-img)[^/]*/", name)]
    files: dict[str, str] = {}
    for name in sorted(aligned or images, key=lambda name: -name.count("/")):  # the shallowest wins
        path = PurePosixPath(name)
        files[path.stem] = files[path.name] = name
    return files


def _identities(source: Source) -> dict[str, str]:
    """identity_CelebA.txt, where there is one: image name to person."""
    for name in source.names:
        if posixpath.basename(name) == "identity_CelebA.txt":
            pairs = [line.split() for line in source.text(name).splitlines() if line.strip()]
            damaged = next((pair for pair in pairs if len(pair) != 2), None)
            if damaged is not None:
                raise FaceganError(
                    f"{source.path}: {name}: expected lines of an image name and a person, got {' '.join(damaged)!r}"
                )
            return {image: person for image, person in pairs}
    return {}


# --- NVIDIA: dataset.json ---------------------------------------------------------------------------------------------


def nvidia(source: Source, marked: Sequence[str], images: Sequence[str]) -> Rows:
    """NVIDIA's dataset.json: one column per class or float, `label0`, `label1`, …"""
    where = f"{source.path}: {marked[0]}"
    labels = _json(source.text(marked[0]), where)
    labels = labels.get("labels") if isinstance(labels, dict) else None
    if not labels:
        raise FaceganError(
            f'{where}: its "labels" are missing or null, so no attribute is known; expected '
            '{"labels": [[file, class or floats], ...]}'
        )
    if not isinstance(labels, list) or not all(
        isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) for row in labels
    ):
        raise FaceganError(f'{where}: expected "labels" to be a list of [file, class or list of floats]')
    try:
        given = np.array([row[1] for row in labels], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise FaceganError(
            f"{where}: expected every label to be a class number, or a list of as many floats: {error}"
        ) from error
    if given.ndim == 1:
        if not np.isin(given, np.arange(_MOST_CLASSES)).all():
            raise FaceganError(
                f"{where}: expected class numbers from 0 to {_MOST_CLASSES - 1}, got {given.min():g} to {given.max():g}"
            )
        given = np.eye(int(given.max()) + 1)[given.astype(np.int64)]
    unit = _unit(given) if given.ndim == 2 else None
    if unit is None:
        raise FaceganError(
            f"{where}: expected labels within [0, 1] (or -1 and 1), got {np.min(given):g} to {np.max(given):g}"
        )
    root, present = posixpath.dirname(marked[0]), set(images)
    ids = [row[0] for row in labels]
    members = [_present(posixpath.join(root, name), present) for name in ids]
    return Rows(ids, [f"label{i}" for i in range(unit.shape[1])], unit, members, [""] * len(ids), [])


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FaceganError(f"{where}: not valid JSON: {error}") from error


def _present(name: str, images: set[str]) -> str | None:
    name = posixpath.normpath(name)
    return name if name in images else None


# --- Hugging Face imagefolder: metadata.csv, metadata.jsonl, one per folder or one in all -----------------------------


def metadata_csv(source: Source, file: str) -> list[dict[str, Any]]:
    """The rows of a metadata.csv, cells as text."""
    (_, header), *rows = _csv(source, file)
    for number, row in rows:
        if len(row) != len(header):
            raise FaceganError(
                f"{source.path}: {file}: line {number}: expected {len(header)} cells as in the header, got {len(row)}; "
                "the file is cut off or damaged there"
            )
    return [dict(zip(header, row, strict=True)) for _, row in rows]


def metadata_jsonl(source: Source, file: str) -> list[dict[str, Any]]:
    """The rows of a metadata.jsonl, one JSON object per line."""
    lines = enumerate(source.text(file).split("\n"), start=1)
    rows = [_json(line, f"{source.path}: {file}: line {number}") for number, line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise FaceganError(f"{source.path}: {file}: expected one JSON object per line")
    return rows


def imagefolder(read: Callable[[Source, str], list[dict[str, Any]]]) -> Reader:
    """A reader of imagefolder metadata in the form that `read` understands, of all such files together.

    Columns of numbers or booleans are attributes, `identity` is the person, `file_name` is relative to the file.
    """

    def load(source: Source, marked: Sequence[str], images: Sequence[str]) -> Rows:
        root = posixpath.commonpath([posixpath.dirname(file) for file in marked])
        present, rows, members = set(images), [], []
        for file in marked:
            for row in read(source, file):
                if not isinstance(row.get("file_name"), str):
                    raise FaceganError(
                        f"{source.path}: {file}: every row needs a file_name, got columns {', '.join(map(str, row))}"
                    )
                rows.append(row)
                members.append(posixpath.normpath(posixpath.join(posixpath.dirname(file), row["file_name"])))
        ids = [posixpath.relpath(member, root or ".") for member in members]
        columns, ignored = {}, []
        for name in dict.fromkeys(key for row in rows for key in row if key not in ("file_name", "identity")):
            column = _numbers([row.get(name) for row in rows])
            unit = None if column is None else _unit(column)
            if unit is None:
                ignored.append(name)
            else:
                columns[name] = unit
        notes = [f"columns that are not numbers within [0, 1] are ignored: {', '.join(ignored)}"] if ignored else []
        identities = [str(person) if (person := row.get("identity")) is not None else "" for row in rows]
        values = np.stack(list(columns.values()), 1) if columns else np.empty((len(rows), 0))
        return Rows(ids, list(columns), values, [_present(member, present) for member in members], identities, notes)

    return load


_WORDS = {"true": 1.0, "false": 0.0, "": np.nan}


def _numbers(cells: Sequence[Any]) -> np.ndarray | None:
    """A column of numbers or booleans, as such or as text, empty = NaN; None when a cell is not, or none is filled."""
    texts = ("" if cell is None else str(cell).strip().lower() for cell in cells)
    try:
        column = np.array([_WORDS[text] if text in _WORDS else float(text) for text in texts])
    except ValueError:
        return None
    return None if np.isnan(column).all() else column


# --- One folder per attribute -----------------------------------------------------------------------------------------


def class_folders(source: Source, images: Sequence[str]) -> Rows:
    """An image carries what its folder says, and what others say only if the same content is there too: file names tell
    nothing, as cameras number alike."""
    root = posixpath.commonpath([posixpath.dirname(name) for name in images])
    ids = {name: posixpath.relpath(name, root or ".") for name in images}
    stray = [name for name in images if "/" not in ids[name]]
    if stray:
        raise FaceganError(
            f"data {source.path}: nothing tells the attributes of {len(stray)} images such as {stray[0]}: there is no "
            f"attribute file, and they stand beside, not in, class folders; {LAYOUTS}"
        )
    folders = {name: ids[name].split("/")[0] for name in images}
    columns = sorted(set(folders.values()))
    content = _contents(source, images)
    first: dict[str, str] = {}  # content -> the file that stands for it
    for name in images:
        first.setdefault(content[name], name)
    members = list(first.values())
    row = {name: i for i, name in enumerate(members)}
    values = np.zeros((len(members), len(columns)), np.float32)
    for name in images:
        values[row[first[content[name]]], columns.index(folders[name])] = 1
    return Rows([ids[name] for name in members], columns, values, members, [""] * len(members), [])


def _contents(source: Source, images: Sequence[str]) -> dict[str, str]:
    """A key per image, equal exactly when the bytes are: only files of equal size are read."""
    sizes: dict[int, list[str]] = defaultdict(list)
    for name in images:
        sizes[source.stamp(name)[0]].append(name)
    keys = {}
    for size, names in sizes.items():
        for name in names:
            keys[name] = _digest(source, name) if len(names) > 1 else f"only one of {size} bytes"
    return keys


def _digest(source: Source, name: str) -> str:
    try:
        return hashlib.sha256(source.read(name)).hexdigest()
    except Exception:  # unreadable, whatever the reason: equal to none other, and named again where images are decoded
        return f"unreadable {name}"
