"""What is known of photographs' attributes: from their folders and lists, for the faces cut out of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facegan.data.formats import is_image
from facegan.data.layouts import celeba, imagefolder, metadata_csv, metadata_jsonl
from facegan.data.lists import parted_by, rated_columns, records
from facegan.data.loaders import open_catalog
from facegan.data.sources import Source
from facegan.errors import FaceganError
from facegan.files import TEXT_LIMIT, read_bytes

FOLDERS = "folders"


@dataclass(frozen=True, eq=False)
class Labels:
    """Attributes by photo; photos without a row are unknown."""

    columns: tuple[str, ...]
    values: Mapping[str, np.ndarray]  # resolved path of a photo -> float32 [C] in [0, 1], NaN where unknown
    persons: Mapping[str, str]  # resolved path -> who it shows, where a list says so

    def of(self, photo: str | Path) -> np.ndarray:
        """float32 [C]."""
        unknown = np.full(len(self.columns), np.nan, np.float32)
        return self.values.get(str(Path(photo).resolve()), unknown)


def read_labels(given: str, photos: Sequence[str], files: Sequence[Path]) -> Labels:
    """The labels of `files`: from the folders of `photos` that hold them, or from a list in the file `given`.

    Raises:
        FaceganError: there is no such list, it cannot be read, or names none of the files.
    """
    return _from_folders(photos) if given == FOLDERS else _from_list(Path(given), files)


def _from_folders(photos: Sequence[str]) -> Labels:
    folders = [Path(each) for each in photos if Path(each).is_dir()]
    if len(folders) != 1:
        raise FaceganError(
            f"`attributes_from` is {FOLDERS}, but {len(folders)} folders of photos are given: name the one folder that holds a folder for "
            "each attribute"
        )
    catalog = open_catalog(folders[0])
    place = catalog.source.path
    resolved = [str((place / member).resolve()) for member in catalog.members]
    persons = {path: person for path, person, id in zip(resolved, catalog.identities, catalog.table.ids, strict=True) if person != id}
    return Labels(catalog.table.columns, dict(zip(resolved, catalog.table.values, strict=True)), persons)


class _Listed(Source):
    """Photos wherever they lie, and a list of them, under the names that they have below the folder that holds all."""

    def __init__(self, place: Path, names: Sequence[str], file: Path) -> None:
        self.path, self.file, self.names = place, file, tuple(names)

    def read(self, name: str, most: int = TEXT_LIMIT) -> bytes:
        return read_bytes(self.file, most, "list of attributes")


def _from_list(file: Path, files: Sequence[Path]) -> Labels:
    if not file.is_file():
        raise FaceganError(f"`attributes_from` is {file}: expected {FOLDERS}, or a metadata.csv, .jsonl or CelebA's list of the photos")
    read = {".csv": imagefolder(metadata_csv), ".jsonl": imagefolder(metadata_jsonl), ".txt": celeba}.get(file.suffix.lower())
    if read is None:
        raise FaceganError(f"`attributes_from` is {file}: expected a .csv or .jsonl with a column file_name, or CelebA's .txt")
    if file.name.startswith("list_attr"):
        read = celeba
    folder = file.resolve().parent
    paths = [path.resolve() for path in files]
    below = all(path.is_relative_to(folder) for path in paths)
    names = [path.relative_to(folder).as_posix() if below else path.as_posix().lstrip("/") for path in paths]
    images = [name for name in names if is_image(name)]
    rows = read(_Listed(folder, names, file), [file.name], images)
    where = dict(zip(names, map(str, paths), strict=True))
    if not any(rows.members) and not below:  # by the ends of their paths
        ends = {name: [path for path in names if f"/{path}".endswith(f"/{name}")] for name in rows.ids}
        members = [found[0] if len(found) == 1 else None for found in (ends[name] for name in rows.ids)]
    else:
        members = list(rows.members)
    values = np.array(rows.values, np.float32).reshape(len(rows.ids), len(rows.columns))
    found = [(where[member], row) for row, member in enumerate(members) if member is not None]
    if not found:
        raise FaceganError(f"{file} names none of the {len(files)} photos, but such as {str(rows.ids[0])[:80]!r}")
    persons = {path: rows.identities[row] for path, row in found if rows.identities[row]}
    return Labels(tuple(rows.columns), {path: values[row] for path, row in found}, persons)


def corrected(written: str, found: str, where: Path, moved: Mapping[str, str] | None = None) -> str:
    """The metadata.csv `written` now, with the rows of one that was `found` in its place, changed by hand, and its further columns.

    `moved`: what files are called now, by what they were called. FaceganError where columns are missing there, or it is another's.
    """
    header, rows = _read(written, where)
    other, kept = _read(found, where)
    if other[:1] != header[:1] or not set(header) <= set(other) or rated_columns(other):
        raise FaceganError(
            f"{where} was not written by alignment, or its columns were changed: expected {','.join(header)}; move it away, or leave out "
            "`attributes_from`"
        )
    by_hand = _by_file(kept, moved or {})
    return _text(other, (by_hand.get(row["file_name"], row) for row in rows))


def joined(written: str, found: str, where: Path, moved: Mapping[str, str], earlier: Collection[str]) -> str:
    """The metadata.csv `written` now, where the rows of `earlier` files are those of the one that was `found` in its place, and all
    columns of both."""
    header, rows = _read(written, where)
    other, kept = _read(found, where)
    before = _by_file(kept, moved)
    columns = [*header, *(name for name in other if name not in header)]
    return _text(columns, (before.get(row["file_name"], row) if row["file_name"] in earlier else row for row in rows))


def _read(text: str, where: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns, and cells by column of each row; parted by commas, or by what spreadsheets write instead."""
    lines = records(str(where), text, mark=parted_by(text.partition("\n")[0]) or ",")
    header = [name.strip() for name in next(lines, (1, []))[1]]
    rows = []
    for line, row in lines:
        if len(row) != len(header):
            raise FaceganError(f"{where}: line {line} has {len(row)} cells; expected {len(header)}, as its first line")
        rows.append(dict(zip(header, row, strict=True)))
    return header, rows


def _by_file(rows: Sequence[Mapping[str, str]], moved: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {file: {**row, "file_name": file} for row in rows for file in (moved.get(row["file_name"], row["file_name"]),)}


def _text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *([row.get(name, "") for name in columns] for row in rows)])
    return text.getvalue()


def metadata(labels: Labels, faces: Sequence[tuple[str, str, bool]]) -> str:
    """metadata.csv of (file, photo, whether the photo's only face) each; of several faces none has the photo's label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    persons = ["identity"] * bool(labels.persons)
    writer.writerow(["file_name", *persons, *labels.columns])
    for file, photo, alone in faces:
        values = labels.of(photo) if alone else np.full(len(labels.columns), np.nan)
        person = [labels.persons.get(str(Path(photo).resolve()), "") if alone else ""] * len(persons)
        writer.writerow([file, *person, *("" if np.isnan(value) else f"{value:g}" for value in values)])
    return text.getvalue()
