"""The sheet of what alignment took and what it left out, and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath

from PIL import Image

from facegan.alignment.face import UNREADABLE, FaceRow
from facegan.alignment.geometry import crop
from facegan.alignment.photos import read_photo
from facegan.data.formats import open_image
from facegan.data.leftovers import kind
from facegan.errors import FaceganError
from facegan.plotting.sections import SIDE, Section, sections

log = logging.getLogger("facegan.align")

TAKEN, LEFT_OUT = 96, 24  # pictures shown of those taken, and of each reason


def contact_sheet(rows: Sequence[FaceRow], out: Path) -> Image.Image:
    """The first faces taken, from the files in `out`, evenly over all; and of each reason some that were left out, from the photos."""
    taken = [row for row in rows if not row.reason]
    shown = [(_words(row, PurePosixPath(row.file).stem), _face(out / row.file)) for row in _spread(taken, TAKEN)]
    parts = [_section(f"{len(taken):,} taken", shown, len(taken))]
    left = sorted((row for row in rows if row.reason), key=lambda row: kind(row.reason))
    for why, group in groupby(left, key=lambda row: kind(row.reason)):
        some = list(group)
        if why == kind(UNREADABLE):
            lines = [f"{Path(row.source).name}: {row.reason.removeprefix(UNREADABLE).strip()}" for row in some[:LEFT_OUT]]
            parts.append(Section(f"{len(some):,} left out: {why}", (), max(0, len(some) - LEFT_OUT), lines))
            continue
        shown = [(_words(row, Path(row.source).stem), _left_out(row)) for row in _spread(some, LEFT_OUT)]
        parts.append(_section(f"{len(some):,} left out: {why}", shown, len(some)))
    return sections(parts)


def _section(title: str, shown: Sequence[tuple[str, Image.Image | None]], count: int) -> Section:
    pictures = [(words, picture) for words, picture in shown if picture is not None]
    return Section(title, pictures, count - len(pictures))


def _spread(rows: Sequence[FaceRow], most: int) -> list[FaceRow]:
    """At most so many, evenly over all."""
    return list(rows) if len(rows) <= most else [rows[i * len(rows) // most] for i in range(most)]


def _words(row: FaceRow, name: str) -> str:
    """What stands below a picture: the figure that decided, or the name."""
    figures = {"small": f"{row.side:.0f} px" if row.side else "", "blurred": f"{row.sharpness}", "turned": f"{row.turn} deg",
               "padding": f"{row.padding:.0%}" if row.padding is not None else ""}  # fmt: skip
    figure = figures.get(row.reason, "")
    return f"{figure}  {name}" if figure else name


def _face(path: Path) -> Image.Image | None:
    try:
        with open_image(path) as opened:
            return opened.convert("RGB")
    except Exception:  # removed or damaged meanwhile: the sheet is made without it
        return None


def _left_out(row: FaceRow) -> Image.Image | None:
    """The face, or the whole photo where none was found; None where it cannot be read."""
    try:
        photo = read_photo(Path(row.source))
        return photo.image if row.face is None else crop(photo.image, row.square().scaled(1 / photo.scale), SIDE)
    except FaceganError:
        return None
