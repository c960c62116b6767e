"""`metadata.csv` as `facegan data label` writes it, and reads it again once people have worked on it."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facegan.data.layouts import metadata_csv
from facegan.data.lists import CHECKED, SAID, SCORE, is_checked, number, rated_columns, untouched
from facegan.data.sources import DirectorySource
from facegan.errors import FaceganError
from facegan.files import quoted, read_bytes


class _OneFile(DirectorySource):
    """A folder of which one file is looked at; nothing of it is listed."""

    def __init__(self, folder: Path) -> None:
        self.path, self.names = folder, ()


@dataclass(frozen=True)
class Written:
    """A file that was there before: cells by column, one a row."""

    content: bytes = b""
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """Relative paths, as people and other programs write them too."""
        return [posixpath.normpath(name.strip().replace("\\", "/")) for name in self.columns.get("file_name", ())]

    def kept(self, attribute: str) -> dict[str, float]:
        """File name -> value, NaN for unknown, of the rows that a person has checked or changed.

        FaceganError for values that are none, and where nothing tells which ones are a person's.
        """
        if attribute not in self.columns:
            return {}
        if f"{attribute}{SAID}" not in self.columns:
            raise FaceganError(
                f"the file that is there has {quoted(attribute)} without {quoted(attribute + SAID)}, by which values are told that people "
                "changed: put that column back, name another file with `out`, or give `overwrite`"
            )
        values = np.array([_value(cell, name) for cell, name in zip(self.columns[attribute], self.names, strict=True)])
        old = untouched(values, self.columns[f"{attribute}{SAID}"], self.columns.get(CHECKED, ()))
        return {name: float(value) for name, value, same in zip(self.names, values, old, strict=True) if not same}

    def checked(self) -> set[str]:
        """The files whose rows are marked as checked."""
        return {name for name, cell in zip(self.names, self.columns.get(CHECKED, ()), strict=False) if is_checked(cell)}

    def others(self, attributes: Sequence[str]) -> dict[str, dict[str, str]]:
        """Column -> cells by file name, of the columns that are not about these attributes."""
        own = {"file_name", CHECKED, *(f"{name}{end}" for name in attributes for end in ("", SCORE, SAID))}
        return {name: dict(zip(self.names, cells, strict=True)) for name, cells in self.columns.items() if name not in own}


def _value(cell: str, name: str) -> float:
    """1, 0, or NaN for unknown."""
    value = number(cell)
    if value is None or not (np.isnan(value) or value in (0, 1)):
        raise FaceganError(f"the file that is there has {quoted(cell)!r} for {quoted(name)}, written by hand: expected 1, 0 or nothing")
    return value


def read_written(path: Path) -> Written:
    """A file of `facegan data label`; raises FaceganError for any other, which is not to be written over."""
    columns = metadata_csv(_OneFile(path.parent), path.name)
    if not rated_columns(columns) or "file_name" not in columns:
        raise FaceganError(
            f"{path} is there already, and is not of `facegan data label`: move it away, name another file with `out`, or give `overwrite`"
        )
    return Written(read_bytes(path), columns)


def metadata(
    names: Sequence[str],
    attributes: Sequence[str],
    columns: Mapping[str, Sequence[np.ndarray]],
    checked: np.ndarray,
    others: Mapping[str, Mapping[str, str]],
) -> bytes:
    """The file's content, a row a face. `columns`: of each attribute values, scores and what was said, [N] each; `checked`: bool [N]."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file_name", *attributes, CHECKED, *(f"{name}{end}" for name in attributes for end in (SCORE, SAID)), *others])
    for i, name in enumerate(names):
        values = [_cell(columns[each][0][i]) for each in attributes]
        told = [cell for each in attributes for cell in (f"{columns[each][1][i]:.4f}", _cell(columns[each][2][i]))]
        table.writerow([name, *values, "1" if checked[i] else "", *told, *(cells.get(name, "") for cells in others.values())])
    content = text.getvalue()
    # Excel takes a file without a mark of byte order for one of its own alphabet.
    return content.encode("utf-8" if content.isascii() else "utf-8-sig")


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:g}"
