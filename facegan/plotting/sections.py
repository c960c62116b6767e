"""A sheet of pictures in sections: a title, and below it rows of pictures with a line of words each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from facegan.plotting.grid import fitted
from facegan.plotting.palette import BACKGROUND, FOREGROUND, GREY, LINES, MUTED, font

GAP, MARGIN, TITLE, CAPTION, LINE = 6, 16, 34, 16, 18
LETTERS, SMALL = 17, 11  # pixels of titles, and of captions


@dataclass(frozen=True, eq=False)
class Section:
    """Pictures under a title."""

    title: str
    pictures: Sequence[tuple[str, Image.Image]]  # words, picture of any size and mode
    more: int = 0  # how many are not shown
    lines: Sequence[str] = ()  # of words, above the pictures


def sections(parts: Sequence[Section], side: int = 104, columns: int = 12) -> Image.Image:
    """All parts below one another, pictures within `side` x `side`, at most `columns` abreast."""
    columns = min(columns, max(4, *(len(part.pictures) for part in parts)))
    heights = [TITLE + LINE * len(part.lines) + -(-len(part.pictures) // columns) * (side + CAPTION + GAP) for part in parts]
    width = 2 * MARGIN + columns * (side + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + sum(heights) + GAP * len(parts)), BACKGROUND)
    draw, top = ImageDraw.Draw(sheet), MARGIN
    for part, height in zip(parts, heights, strict=True):
        draw.line([(MARGIN, top), (width - MARGIN, top)], fill=LINES)
        draw.text((MARGIN, top + TITLE // 2), fitted(draw, part.title, font(LETTERS), width * 3 // 4), FOREGROUND, font(LETTERS), "lm")
        if part.more:
            draw.text((width - MARGIN, top + TITLE // 2), f"and {part.more:,} more", fill=MUTED, font=font(SMALL + 2), anchor="rm")
        for index, line in enumerate(part.lines):
            where = (MARGIN, top + TITLE + LINE * index + LINE // 2)
            draw.text(where, fitted(draw, line, font(SMALL + 2), width - 2 * MARGIN), MUTED, font(SMALL + 2), "lm")
        for index, (words, picture) in enumerate(part.pictures):
            left, above = MARGIN + index % columns * (side + GAP), top + TITLE + LINE * len(part.lines)
            above += index // columns * (side + CAPTION + GAP)
            shown = ImageOps.contain(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
            sheet.paste(shown, (left + (side - shown.width) // 2, above + (side - shown.height) // 2))
            if shown.width < side or shown.height < side:
                draw.rectangle((left, above, left + side - 1, above + side - 1), outline=GREY)
            text = fitted(draw, words, font(SMALL), side)
            draw.text((left + side // 2, above + side + CAPTION // 2), text, fill=MUTED, font=font(SMALL), anchor="mm")
        top += height + GAP
    return sheet
