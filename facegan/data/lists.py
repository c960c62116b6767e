"""What lists of images and their labels have in common: lines, cells and columns of numbers, within bounds."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np

from facegan.errors import FaceganError
from facegan.files import quoted

MOST_COLUMNS = 10_000
MOST_ROWS = 1 << 20
MOST_CELLS = 9 << 20  # CelebA's 202,599 x 40 are six sevenths of it
_LONGEST = 200  # characters of a column's name
INDEX = ("", "Unnamed: 0")  # what pandas calls the column of its index when it writes a table, and when it reads it again
USUAL = {cell: cell for cell in ("-1", "0.0", "1.0", "-1.0", "True", "False", "TRUE", "FALSE", "true", "false", "yes", "no", "NA", "nan")}
_WORDS = {"": np.nan, "true": 1.0, "false": 0.0}  # as programs write them
_PEOPLES = {"yes": 1.0, "y": 1.0, "no": 0.0, "n": 0.0, "na": np.nan, "n/a": np.nan, "none": np.nan, "null": np.nan, "nan": np.nan,
            "unknown": np.nan, "?": np.nan}  # fmt: skip


def bounded(where: str, rows: int, columns: int) -> None:
    """Raises FaceganError for a table that no data set of faces has."""
    if columns > MOST_COLUMNS or rows > MOST_ROWS or rows * columns > MOST_CELLS:
        raise FaceganError(
            f"{where}: {rows:,} rows of {columns:,} columns; expected at most {MOST_ROWS:,} rows, {MOST_COLUMNS:,} columns "
            f"and {MOST_CELLS:,} values in all"
        )


def bounded_text(where: str, text: str, *marks: str, most: int = MOST_CELLS) -> str:
    """The text, unless it holds more values than any data set of faces, by the marks that part them; raises FaceganError."""
    count = sum(text.count(mark) for mark in marks)
    if count > most:
        raise FaceganError(f"{where}: has some {count:,} rows or values; expected at most {most:,}")
    return text


def checked_columns(where: str, columns: Sequence[str]) -> Sequence[str]:
    """The names, unless one is repeated, empty, very long, or has control characters, which every later message would carry."""
    for name, count in Counter(columns).items():
        if count > 1:
            raise FaceganError(f"{where}: column {quoted(name)} is there twice; leave one")
        if not name or len(name) > _LONGEST or re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name):
            raise FaceganError(f'{where}: "{quoted(name)}" is no name of an attribute: expected 1 to {_LONGEST} printable characters')
    return columns


def records(where: str, text: str, start: int = 1, mark: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row of a csv that is not empty; `start` is the first line's number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        yield from ((reader.line_num + start - 1, row) for row in reader if row)
    except csv.Error as error:
        raise FaceganError(f"{where}: line {reader.line_num + start - 1}: {error}") from None


def parted_by(header: str, marks: str = ",\t;") -> str:
    """The first of the marks that a header line has, or ""; Excel writes semicolons where the comma is the decimal one."""
    return next((mark for mark in marks if mark in header), "")


def number(cell: object, words: set[str] | None = None) -> float | None:
    """A cell as a number, NaN where it says that it is unknown, None where it is no number; notes words that stood for one."""
    if isinstance(cell, (bool, int, float)):
        return float(cell)
    if cell is None:
        return np.nan
    if not isinstance(cell, str):
        return None
    text = cell.strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    if text in _PEOPLES:
        if words is not None:
            words.add(cell.strip())
        return _PEOPLES[text]
    try:
        return float(text)
    except ValueError:
        return None


@dataclass
class Column:
    """A column of numbers, float64 [N] with NaN for unknown."""

    values: np.ndarray
    words: set[str] = field(default_factory=set)  # that were read as numbers or as unknown
    odd: list[str] = field(default_factory=list)  # cells that are no number, read as unknown; quoted, the first few
    odds: int = 0  # how many


def numbers(cells: Sequence[object]) -> Column | None:
    """A column; None when most of its filled cells are no numbers, or none is filled."""
    words: set[str] = set()
    odd: list[object] = []
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        read = [number(cell, words) for cell in cells]
        odd = [cell for cell, value in zip(cells, read, strict=True) if value is None]
        values = np.array([np.nan if value is None else value for value in read])
    if np.isnan(values).all() or (~np.isnan(values)).sum() <= len(odd):
        return None
    return Column(values, words, [quoted(cell) for cell in odd[:2]], len(odd))


def unit(values: np.ndarray) -> np.ndarray | None:
    """Values to [0, 1]: -1/1 lists (0 = unknown) become 0/1; None when neither that nor within [0, 1] already."""
    known = values[~np.isnan(values)]
    if (known == -1).any() and ((known == 0) | (np.abs(known) == 1)).all():
        return np.where(values == 0, np.nan, (values + 1) / 2)
    return values if ((known >= 0) & (known <= 1)).all() else None


def usual_width(rows: Iterator[tuple[int, list[str]]]) -> tuple[int, list[str], Iterator[tuple[int, list[str]]]]:
    """How many cells most of the first hundred rows have, the first row, and all the rows."""
    first = list(islice(rows, 100))
    widths = [len(row) for _, row in first]
    return max(widths, key=widths.count, default=0), first[0][1] if first else [], chain(first, rows)


def several(names: Sequence[Any], most: int = 6) -> str:
    """The first few names for a message, each quoted."""
    return ", ".join(quoted(name) for name in names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


# --- what `facegan data label` writes beside the column of an attribute, `bald:score` and `bald:said`, and a column for people


SCORE, SAID, CHECKED = ":score", ":said", "checked"


def rated_columns(titles: Iterable[str]) -> set[str]:
    """The columns that say how those of attributes came about, and are none: `X:score` and `X:said` beside X, and `checked` with them."""
    names = set(titles)
    found = {f"{name}{end}" for name in names for end in (SCORE, SAID)} & names
    return found | ({CHECKED} & names if found else set())


def is_checked(cell: object) -> bool:
    """Whether a cell says that a person has looked at its row: any that is filled, but for 0, no, false and unknown."""
    value = number(cell)
    return value is None or value > 0


def untouched(values: np.ndarray, said: Sequence[object], checked: Sequence[object]) -> np.ndarray:
    """bool [N]: where values [N] are what was said, and nobody has checked the row; `checked` may be empty."""
    before = np.array([np.nan if (value := number(cell)) is None else value for cell in said], np.float64)
    seen = np.array(list(map(is_checked, checked)), bool) if checked else np.zeros(len(values), bool)
    return ~seen & ((values == before) | np.isnan(values) & np.isnan(before))
