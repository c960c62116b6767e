"""What `facegan data align` left out of the faces that it wrote, by the list `faces.csv` that stands beside them."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from facegan.data.lists import records
from facegan.data.sources import Source
from facegan.errors import FaceganError
from facegan.files import quoted

NAME = "faces.csv"
_NEEDED = ("source", "face", "file", "reason")
_DUPLICATE = "duplicate of "
_MOST = 20  # reasons that are told apart; a list of another program may have one a row
ADVICE = {
    "no face": "turned away, covered, or small in the photo: cut it out by hand, or do without it",
    "small": "enlarging adds no detail: take the original of the photo, or align to fewer pixels with --size",
    "blurred": "take a sharper photo, or align to fewer pixels with --size",
    "padding": "the photo ends within the face's square: take a photo with more around the face",
    "turned": "training wants faces from the front",
    "duplicate": "of a face that was taken: --keep-duplicates takes all of them",
    "removed by hand": "files deleted from the folder of faces between two calls",
    "another face of a labelled photo": "a label is of one face: cut the others out by hand",
    "unreadable": "open the photo in another program and save it as PNG or JPEG",
}


@dataclass(frozen=True, eq=False)
class Leftovers:
    """What a `faces.csv` says; `problem` instead where it cannot be used."""

    name: str  # within the data
    problem: str = ""
    photos: int = 0
    taken: int = 0
    gone: int = 0  # of the faces taken: no longer there
    reasons: tuple[tuple[str, int], ...] = ()  # the most frequent first
    elsewhere: tuple[tuple[str, str], ...] = ()  # (photo, face taken) of duplicates that lie in different folders
    sides: np.ndarray | None = None  # float64: pixels of the photo that the faces taken were


def leftovers(source: Source) -> Leftovers | None:
    """Of the list nearest to the data's root; None where there is none."""
    names = sorted((name for name in source.names if posixpath.basename(name) == NAME), key=lambda name: (name.count("/"), name))
    if not names:
        return None
    try:
        return _read(source, names[0])
    except FaceganError as error:
        return Leftovers(names[0], str(error))


def kind(reason: str) -> str:
    """A reason without the file or the words that follow it."""
    if reason.startswith(_DUPLICATE):
        return "duplicate"
    return reason.partition(":")[0].strip()


def _read(source: Source, name: str) -> Leftovers:
    where, folder = f"{source.path}: {quoted(name)}", posixpath.dirname(name)
    rows = records(where, source.text(name))
    place = _places(where, next(rows, (1, []))[1])
    there, photos = frozenset(source.names), set()
    reasons: Counter[str] = Counter()
    taken = gone = 0
    sides, elsewhere = [], []
    for line, row in _whole(where, rows, len(place)):
        cell = {column: row[i] for column, i in place.items()}
        photos.add(cell["source"])
        if cell["reason"]:
            reasons[quoted(kind(cell["reason"]), 60)] += 1
            twin = cell["reason"].removeprefix(_DUPLICATE)
            if twin != cell["reason"] and not _in_folder(cell["source"], posixpath.dirname(twin)):
                elsewhere.append((cell["source"], twin))
        elif not cell["file"]:
            raise FaceganError(f"{where}: line {line} names neither a file nor why there is none")
        else:
            taken += 1
            gone += posixpath.normpath(posixpath.join(folder, cell["file"])) not in there
            sides.append(_pixels(where, line, cell.get("side", "")))
    if len(reasons) > _MOST:
        raise FaceganError(f"{where}: gives {len(reasons):,} different reasons; expected those of `facegan data align`")
    known = np.array([side for side in sides if side is not None], np.float64)
    return Leftovers(name, "", len(photos), taken, gone, tuple(reasons.most_common()), tuple(elsewhere), known if len(known) else None)


def _in_folder(photo: str, folder: str) -> bool:
    """Whether a photo came from the folder of that name: the faces' folders are those of the photos."""
    return f"/{posixpath.dirname(photo.replace(chr(92), '/'))}/".endswith(f"/{folder}/" if folder else "/")


def _places(where: str, header: Sequence[str]) -> dict[str, int]:
    place = {column.strip(): i for i, column in enumerate(header)}
    lacking = [column for column in _NEEDED if column not in place]
    if lacking or len(place) < len(header):
        raise FaceganError(
            f"{where}: is no list of `facegan data align`: " + (f"no column {', '.join(lacking)}" if lacking else "a column twice")
        )
    return place


def _whole(where: str, rows: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    for line, row in rows:
        if len(row) != width:
            raise FaceganError(f"{where}: line {line} has {len(row)} cells; expected {width}")
        yield line, row


def _pixels(where: str, line: int, cell: str) -> float | None:
    if not cell:
        return None
    try:
        side = float(cell)
    except ValueError:
        side = np.nan
    if not 0 < side < np.inf:
        raise FaceganError(f"{where}: line {line}: side is {quoted(cell)}; expected pixels")
    return side
