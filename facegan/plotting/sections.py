"""A sheet of pictures in sections: a title, lines of words, and rows of pictures with some words each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from facegan.plotting.grid import fitted
from facegan.plotting.palette import BACKGROUND, FOREGROUND, GREY, LINES, MUTED, font

SIDE, COLUMNS = 104, 12  # pixels of a picture, pictures abreast
GAP, MARGIN, HEADING, TITLE, LINE, CAPTION = 6, 16, 36, 34, 18, 16  # heights, and widths of what is between and around
LARGE, LETTERS, SMALL = 20, 16, 11  # pixels of letters


@dataclass(frozen=True, eq=False)
class Section:
    """Pictures under a title."""

    title: str
    pictures: Sequence[tuple[str, Image.Image]] = ()  # words, or none; a picture of any size and mode
    more: int = 0  # how many are not shown
    lines: Sequence[str] = ()  # of words, above the pictures

    def height(self, columns: int, side: int) -> int:
        """Of all of it, in pixels."""
        return TITLE + LINE * len(self.lines) + -(-len(self.pictures) // columns) * (side + self.caption + GAP) + GAP

    @property
    def caption(self) -> int:
        """Height of the words below pictures."""
        return CAPTION if any(words for words, _ in self.pictures) else 0


def sections(parts: Sequence[Section], title: str = "", side: int = SIDE, columns: int = COLUMNS) -> Image.Image:
    """All parts below one another, pictures within `side` x `side`, at most `columns` abreast."""
    width = 2 * MARGIN + columns * (side + GAP) - GAP
    top = MARGIN + (HEADING if title else 0)
    sheet = Image.new("RGB", (width, top + sum(part.height(columns, side) for part in parts) + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN, MARGIN + HEADING // 3), title, LARGE, width - 2 * MARGIN, FOREGROUND)
    for part in parts:
        draw.line([(MARGIN, top), (width - MARGIN - 1, top)], fill=LINES)
        more = f"and {part.more:,} more" if part.more else ""
        taken = draw.textlength(more, font=font(SMALL + 2))
        draw.text((width - MARGIN - taken, top + TITLE // 2), more, MUTED, font(SMALL + 2), "lm")
        colour = FOREGROUND if part.pictures or part.lines else MUTED
        _write(draw, (MARGIN, top + TITLE // 2), part.title, LETTERS, width - 3 * MARGIN - taken, colour)
        start = top + TITLE
        for line in part.lines:
            _write(draw, (MARGIN, start + LINE // 2), line, SMALL + 2, width - 2 * MARGIN, MUTED)
            start += LINE
        for index, (words, picture) in enumerate(part.pictures):
            left, above = MARGIN + index % columns * (side + GAP), start + index // columns * (side + part.caption + GAP)
            _paste(sheet, draw, picture, left, above, side)
            text = fitted(draw, words, font(SMALL), side)
            draw.text((left + side // 2, above + side + CAPTION // 2), text, fill=MUTED, font=font(SMALL), anchor="mm")
        top += part.height(columns, side)
    return sheet


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, most: float, colour: tuple[int, int, int]) -> None:
    draw.text(place, fitted(draw, text, font(size), int(most)), fill=colour, font=font(size), anchor="lm")


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, left: int, top: int, side: int) -> None:
    """In the middle of its square; tiny pictures are enlarged by repeating pixels."""
    kernel = Image.Resampling.NEAREST if 2 * max(picture.size) <= side else Image.Resampling.LANCZOS
    shown = ImageOps.contain(picture.convert("RGB"), (side, side), kernel)
    if shown.width < side or shown.height < side:
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=GREY)
    sheet.paste(shown, (left + (side - shown.width) // 2, top + (side - shown.height) // 2))
