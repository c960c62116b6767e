"""Readers of the layouts that data sets come in: from the files of a `Source` to `Rows`.

Each reader takes the source, the marker files that gave the layout away (the shallowest first) and all image files. No
image is decoded here. Damaged files raise FaceganError with file and line. `facegan.data.classes` reads class folders.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from facegan.data.formats import is_image
from facegan.data.lists import (
    CHECKED,
    INDEX,
    MOST_ROWS,
    SAID,
    USUAL,
    bounded,
    bounded_text,
    checked_columns,
    number,
    numbers,
    parted_by,
    rated_columns,
    records,
    several,
    unit,
    untouched,
    usual_width,
)
from facegan.data.sources import Source
from facegan.errors import FaceganError
from facegan.files import parse_json, quoted

LAYOUTS = """the layouts understood, in a folder or a .zip, are
  CelebA          list_attr_celeba.txt with img_align_celeba/, identity_CelebA.txt optional
  Kaggle CelebA   list_attr_celeba.csv with img_align_celeba/
  CelebAMask-HQ   CelebAMask-HQ-attribute-anno.txt with CelebA-HQ-img/
  NVIDIA          dataset.json with "labels": [[file, class or floats], ...]
  imagefolder     metadata.csv or metadata.jsonl with a file_name column
  class folders   two or more folders of images, each named after the attribute its images carry, or after several of them
                  ("bald and beard"); or train/, val/, test/ with such folders in each
  WebDataset      shards: one or more .tar, a pattern faces-{000..009}.tar or its http(s) address, with a .json or .cls beside each image"""


@dataclass
class Rows:
    """What a layout's reader hands back; rows whose `members` entry is None have no image file."""

    ids: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray  # float [N, C], in [0, 1] or NaN
    members: Sequence[str | None]
    identities: Sequence[str]  # "" where unknown
    notes: list[str]
    images: Sequence[str]  # the files among which the rows' images were looked for
    unchecked: np.ndarray | None = None  # bool [N, C]: values that `facegan data label` wrote and nobody has looked at


_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
Reader = Callable[[Source, Sequence[str], Sequence[str]], Rows]


def _where(source: Source, file: str) -> str:
    return f"{source.path}: {file}"


# --- CelebA: list_attr_celeba.txt, Kaggle's csv, CelebAMask-HQ, and what pandas makes of them -------------------------


_NOT_ATTRIBUTES = re.compile(r"(?i)|#|index|unnamed: 0|(.*[ _])?(image|img|file|photo|picture|filename|name|path|id)(s|[ _].*)?")


def celeba(source: Source, marked: Sequence[str], images: Sequence[str]) -> Rows:
    """CelebA's list: the number of rows (or not), the attribute names, then `file -1 1 …`, parted by blanks, commas, semicolons or tabs.

    The names may follow a cell that names the column of files, and all this the numbers of the rows, as pandas writes it.
    """
    where = _where(source, marked[0])
    text = bounded_text(where, source.text(marked[0]), ",", ";", " ", "\t")
    first, _, rest = text.partition("\n")
    announced = first.strip() if first.strip().isdecimal() else None
    rest, start = (rest, 2) if announced is not None else (text, 1)
    lines = enumerate(rest.splitlines(), start=start)
    mark = parted_by(rest.partition("\n")[0])
    rows = records(where, rest, start, mark) if mark else ((number, line.split()) for number, line in lines if line.strip())
    _, header = next(rows, (0, []))
    width, row, rows = usual_width(rows)
    if not row or width < 2:
        raise FaceganError(
            f"{where}: line 1 must be the number of rows or the attribute names, and a line for each image must follow, its file and values"
            + f', such as 000001.jpg -1 1; got "{quoted(" ".join(row))}"' * bool(row)
        )
    counted = len(row) > 1 and is_image(row[1]) and not is_image(row[0])  # numbers of rows before the names of files
    beside = len(header) - (width - 1 - counted)  # cells of the header that name no attribute
    if 0 < beside <= 1 + counted and _NOT_ATTRIBUTES.fullmatch(header[beside - 1]):
        header = header[beside:]
    columns = checked_columns(where, header)
    bounded(where, rest.count("\n"), len(columns))
    names, values = _signs(where, rows, len(rest.splitlines()), len(columns), counted)
    notes = []
    if announced is not None and announced.lstrip("0") != str(len(names)):
        notes.append(f"{marked[0]}: line 1 announces {quoted(announced)} rows, but there are {len(names)}")
    aligned = [name for name in images if re.search(r"(^|/)(img_align_celeba|CelebA-HQ-img)[^/]*/", name)]
    files = _ByName(where, aligned or images)
    people = _identities(source)
    members = [files.find(name) for name in names]
    return Rows(names, columns, values, members, [people.get(name, "") for name in names], notes, aligned or images)


def _signs(where: str, rows: Iterator[tuple[int, list[str]]], most: int, columns: int, counted: bool) -> tuple[list[str], np.ndarray]:
    """Names, and values float32 [N, columns] in [0, 1] or NaN, of at most `most` rows `file -1 1 …`, `counted` with a number before."""
    names: list[str] = []
    given = np.empty((most, columns), np.float32)
    for line, row in rows:
        if len(row) != columns + 1 + counted:
            raise FaceganError(
                f"{where}: line {line}: expected an image name and {columns} values, got "
                f"{len(row) - 1 - counted} values; the file is cut off or damaged there, so fetch it again"
            )
        cells = row[1 + counted :]
        try:
            given[len(names)] = list(map(float, cells))
        except ValueError:
            read = [number(cell) for cell in cells]
            if None in read:
                raise FaceganError(f'{where}: line {line}: "{quoted(cells[read.index(None)])}" is none of the values -1 and 1') from None
            given[len(names)] = read
        names.append(row[counted])
    given = given[: len(names)]
    signs = unit(given)
    if signs is None:
        raise FaceganError(f"{where}: expected the values -1 and 1, got {np.nanmin(given):g} to {np.nanmax(given):g}")
    return names, signs


class _ByName:
    """Image files by base name, or else by stem (img_align_celeba_png holds .png)."""

    def __init__(self, where: str, images: Sequence[str]) -> None:
        self.where = where
        self.names: dict[str, list[str]] = defaultdict(list)
        self.stems: dict[str, list[str]] = defaultdict(list)
        for name in images:
            path = PurePosixPath(name)
            self.names[path.name].append(name)
            self.stems[path.stem].append(name)

    def ending(self, name: str) -> str | None:
        """The image that shares most of the end of a path of another machine; raises FaceganError as `find` does."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for start in range(1, len(parts) - 1):
            end = "/".join(parts[start:])
            if sum(f"/{each}".endswith(f"/{end}") for each in self.names.get(parts[-1], ())) == 1:
                return self.find(end)
        return self.find(name) if parts[-1:] and parts[-1] in self.names else None

    def find(self, name: str) -> str | None:
        """The image that a list calls `name`; raises FaceganError, naming both, where there are two."""
        path = PurePosixPath(name.replace("\\", "/"))
        found = self.names.get(path.name) or self.stems.get(path.stem) or self.stems.get(path.name) or []
        whole = [each for each in found if f"/{each}".endswith(f"/{path}")] or found
        if len(whole) > 1:
            raise FaceganError(
                f'{self.where}: "{quoted(name)}" may be {quoted(whole[0])} or {quoted(whole[1])}; expected it in one place: '
                "move the other folder out of the data"
            )
        return whole[0] if whole else None


def _identities(source: Source) -> dict[str, str]:
    """identity_CelebA.txt, where there is one: image name to person."""
    for name in source.names:
        if posixpath.basename(name) == "identity_CelebA.txt":
            where = _where(source, name)
            pairs = [line.split() for line in bounded_text(where, source.text(name), "\n", most=MOST_ROWS).splitlines() if line.strip()]
            damaged = next((pair for pair in pairs if len(pair) != 2), None)
            if damaged is not None:
                raise FaceganError(f'{where}: expected lines of an image name and a person, got "{quoted(" ".join(damaged[:9]))}"')
            return {image: person for image, person in pairs}
    return {}


# --- NVIDIA: dataset.json ---------------------------------------------------------------------------------------------


def nvidia(source: Source, marked: Sequence[str], images: Sequence[str]) -> Rows:
    """NVIDIA's dataset.json: one column per class or float, `label0`, `label1`, …"""
    where = _where(source, marked[0])
    labels = parse_json(bounded_text(where, source.text(marked[0]), "[", "{", most=2 * MOST_ROWS), where)
    labels = labels.get("labels") if isinstance(labels, dict) else None
    if not labels:
        raise FaceganError(
            f'{where}: its "labels" are missing or null, so no attribute is known; expected {{"labels": [[file, class or floats], ...]}}'
        )
    if not isinstance(labels, list) or not all(isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) for row in labels):
        raise FaceganError(f'{where}: expected "labels" to be a list of [file, class or list of floats]')
    given = _labels(where, [row[1] for row in labels])
    values = unit(given)
    if values is None:
        raise FaceganError(f"{where}: expected labels within [0, 1] (or -1 and 1), got {np.nanmin(given):g} to {np.nanmax(given):g}")
    root, present = posixpath.dirname(marked[0]), set(images)
    ids = [row[0] for row in labels]
    members = [_present(root, name, present) for name in ids]
    return Rows(ids, [f"label{i}" for i in range(values.shape[1])], values, members, [""] * len(ids), [], images)


def _labels(where: str, labels: list[Any]) -> np.ndarray:
    """Labels as float32 [N, C]: lists of as many numbers, or class numbers, one column each."""
    lists = isinstance(labels[0], list)
    flat = list(chain.from_iterable(labels)) if lists and all(isinstance(each, list) for each in labels) else labels
    if not all(isinstance(each, (int, float)) for each in flat) or lists and any(len(each) != len(labels[0]) for each in labels):
        raise FaceganError(f"{where}: expected every label to be a class number, or a list of as many floats")
    if lists:
        bounded(where, len(labels), len(labels[0]))
        return np.array(flat, np.float32).reshape(len(labels), len(labels[0]))
    classes = np.array(labels, np.float64)
    if not ((classes >= 0) & (classes == np.floor(classes)) & (classes < 2**31)).all():
        raise FaceganError(f"{where}: expected class numbers from 0, got {classes.min():g} to {classes.max():g}")
    bounded(where, len(classes), int(classes.max()) + 1)
    return (classes[:, None] == np.arange(int(classes.max()) + 1)).astype(np.float32)


def _present(root: str, name: str, images: set[str]) -> str | None:
    """The image that a list in the folder `root` calls `name`, as Windows writes it too."""
    path = posixpath.normpath(posixpath.join(root, name))
    if path not in images and "\\" in name:
        path = posixpath.normpath(posixpath.join(root, name.replace("\\", "/")))
    return path if path in images else None


# --- Hugging Face imagefolder: metadata.csv, metadata.jsonl, one per folder or one in all -----------------------------


def metadata_csv(source: Source, file: str) -> dict[str, Sequence[Any]]:
    """The columns of a metadata.csv, cells as text; without that of an index, and of equal ones of one name only the first."""
    where = _where(source, file)
    text = bounded_text(where, source.text(file), "\n", most=MOST_ROWS)
    mark = parted_by(text.partition("\n")[0], ",;") or ","
    read = records(where, bounded_text(where, text, mark), mark=mark)
    # One object for equal cells: columns of as many objects as cells take three times as long.
    (_, header), *rows = [(line, list(map(USUAL.get, row, row))) for line, row in read] or [(0, [])]
    header = [name.strip() for name in header]
    bounded(where, len(rows), len(header))
    for line, row in rows:
        if len(row) != len(header):
            raise FaceganError(
                f"{where}: line {line}: expected {len(header)} cells as in the header, got {len(row)}; the file is cut off or damaged there"
            )
    columns: dict[str, Sequence[Any]] = {}
    for name, cells in zip(header, zip(*(row for _, row in rows), strict=True), strict=False):  # no columns where there are no rows
        if name not in INDEX and columns.setdefault(name, cells) != cells:
            raise FaceganError(f"{where}: column {quoted(name)} is there twice, with different values; leave one")
    return columns


def metadata_jsonl(source: Source, file: str) -> dict[str, Sequence[Any]]:
    """The columns of a metadata.jsonl, one JSON object per line; None where an object lacks one."""
    where = _where(source, file)
    lines = enumerate(bounded_text(where, source.text(file), "\n", "{", "[", most=MOST_ROWS).split("\n"), start=1)
    rows = [parse_json(line, f"{where}: line {number}") for number, line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise FaceganError(f"{where}: expected one JSON object per line")
    names = dict.fromkeys(name for row in rows for name in row)
    bounded(where, len(rows), len(names))
    return {name: [row.get(name) for row in rows] for name in names}


def imagefolder(read: Callable[[Source, str], dict[str, Sequence[Any]]]) -> Reader:
    """A reader of imagefolder metadata in the form that `read` understands, of all such files together.

    Columns of numbers or booleans are attributes, `identity` is the person, `file_name` is relative to the file.
    """

    def load(source: Source, marked: Sequence[str], images: Sequence[str]) -> Rows:
        root = posixpath.commonpath([posixpath.dirname(file) for file in marked])
        present = set(images)
        tables, ids, members = [], [], []
        by_name = cache(lambda: _ByName(str(source.path), images))
        for file in marked:
            table = read(source, file)
            names = table.get("file_name", [])
            if not names or not all(isinstance(name, str) and name.strip() for name in names):
                raise FaceganError(f"{_where(source, file)}: every row needs a file_name, got columns {several(list(table), 12)}")
            folder = posixpath.dirname(file)
            found = [by_name().ending(name) if _ABSOLUTE.match(name) else _present(folder, name, present) for name in names]
            members += found
            ids += [
                (name if _ABSOLUTE.match(name) else _below(root, posixpath.join(folder, name))) if member is None else _below(root, member)
                for name, member in zip(names, found, strict=True)
            ]
            tables.append(table)
        titles = dict.fromkeys(name for table in tables for name in table)
        bounded(str(source.path), len(ids), len(titles))

        def cells(name: str) -> list[Any]:
            return list(chain.from_iterable(table.get(name) or [None] * len(table["file_name"]) for table in tables))

        ours = rated_columns(titles)
        columns, notes = _attributes({name: cells(name) for name in titles if name not in ("file_name", "identity", *ours)})
        checked_columns(str(source.path), list(columns))
        unchecked = np.zeros((len(ids), len(columns)), bool)
        for j, name in enumerate(columns):
            if f"{name}{SAID}" in ours:
                unchecked[:, j] = untouched(columns[name], cells(f"{name}{SAID}"), cells(CHECKED) if CHECKED in ours else ())
                known = int((unchecked[:, j] & ~np.isnan(columns[name])).sum())
                notes += [f"column {quoted(name)}: {known:,} values are of `facegan data label`, and nobody has checked them"] * bool(known)
        people = ["" if each is None else each if isinstance(each, str) else quoted(each) for each in cells("identity")]
        values = np.stack(list(columns.values()), 1) if columns else np.empty((len(ids), 0))
        return Rows(ids, list(columns), values, members, people, notes, images, unchecked)

    return load


def _below(root: str, path: str) -> str:
    """A path relative to `root`; `posixpath.relpath` takes ten times as long."""
    path = posixpath.normpath(path)
    return path[len(root) + bool(root) :] if not root or path.startswith(f"{root}/") else posixpath.relpath(path, root)


def _attributes(cells: dict[str, Sequence[Any]]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns that are numbers within [0, 1] or say yes and no, and what else is to be said."""
    columns, ignored, notes, words = {}, [], [], {}
    for name, column in cells.items():
        read = numbers(column)
        values = None if read is None else unit(read.values)
        if read is None or values is None:
            ignored.append(name)
            continue
        columns[name] = values
        if read.words:
            words[name] = sorted(read.words)
        if read.odds:
            notes.append(f"column {quoted(name)}: {read.odds:,} cells such as {several(read.odd)} are no numbers, and read as unknown")
    if words:
        example = several(next(iter(words.values())), 3)
        notes.insert(0, f"words such as {example} are read as 1, 0 or unknown in columns {several(list(words))}")
    if ignored:
        notes.insert(0, f"columns that are not numbers within [0, 1] are ignored: {several(ignored, 12)}")
    return columns, notes
