"""The picture of all pairs: sources above and beside, mixes between (Karras et al. 2019, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facegan.plotting.palette import BACKGROUND, FOREGROUND
from facegan.plotting.sheets import to_pil

SMALLEST, LARGEST = 128, 256  # pixels of a face in the picture: small ones are enlarged, large ones reduced
GAP, WIDE = 4, 12  # between faces, and between sources and mixes
MARGIN, LABEL, FONT = 8, 26, 16  # around everything, height of a line of names, its letters
SIDE = 120  # width for the rows' names
MOST_PIXELS, LEAST = 100_000_000, 12  # of the picture, which takes 300 MB in memory then; of a face's side in it


def cell_side(resolution: int, count: int = 0) -> int:
    """Pixels of a face in a picture of `count` cells; where they are very many, few enough that it has `MOST_PIXELS` at most."""
    side = LARGEST if resolution > LARGEST else resolution * max(1, -(-SMALLEST // resolution))
    return min(side, max(LEAST, math.isqrt(MOST_PIXELS // max(count, 1)) - GAP))


def cell_corner(row: int, column: int, side: int) -> tuple[int, int]:
    """Left and top of the mix of `row` and `column`; -1 is the header."""
    left, top = MARGIN + SIDE, MARGIN + LABEL
    return tuple(start + (0 if index < 0 else side + WIDE + index * (side + GAP)) for start, index in ((left, column), (top, row)))  # type: ignore[return-value]


class Grid:
    """The picture of all pairs, filled as they come: of each face a thumbnail is kept. The corner stays empty.

    Of more than `MOST_PIXELS // (LEAST + GAP) ** 2` cells, which is 390,000, the first rows and columns are shown.
    """

    def __init__(self, row_names: Sequence[str], column_names: Sequence[str], resolution: int) -> None:
        rows, columns = len(row_names), len(column_names)
        while (rows + 1) * (columns + 1) * (LEAST + GAP) ** 2 > MOST_PIXELS:
            rows, columns = (rows // 2, columns) if rows > columns else (rows, columns // 2)
        self.shown, self.side = (rows, columns), cell_side(resolution, (rows + 1) * (columns + 1))
        right, bottom = cell_corner(rows, columns, self.side)
        self.picture = Image.new("RGB", (right - GAP + MARGIN, bottom - GAP + MARGIN), BACKGROUND)
        draw, font = ImageDraw.Draw(self.picture), ImageFont.load_default(FONT)
        for column, name in enumerate(column_names[:columns] if self.side > FONT else ()):
            left, top = cell_corner(-1, column, self.side)
            at = (left + self.side // 2, top - LABEL // 2)
            draw.text(at, fitted(draw, name, font, self.side), fill=FOREGROUND, font=font, anchor="mm")
        for row, name in enumerate(row_names[:rows] if self.side > FONT else ()):
            left, top = cell_corner(row, -1, self.side)
            at = (left - MARGIN, top + self.side // 2)
            draw.text(at, fitted(draw, name, font, SIDE - MARGIN), fill=FOREGROUND, font=font, anchor="rm")

    def put(self, picture: Image.Image, row: int, column: int) -> None:
        """The mix of `row` and `column`; the source of a row where `column` is -1, that of a column where `row` is."""
        if row < self.shown[0] and column < self.shown[1]:
            thumbnail = picture.resize((self.side, self.side), Image.Resampling.LANCZOS)
            self.picture.paste(thumbnail, cell_corner(row, column, self.side))


def grid(rows: Tensor, columns: Tensor, mixes: Tensor, row_names: Sequence[str], column_names: Sequence[str]) -> Image.Image:
    """Sources [R, 3, H, W] and [C, 3, H, W], mixes [R, C, 3, H, W], all in [-1, 1] -> the picture."""
    found = Grid(row_names, column_names, rows.shape[-1])
    for column, image in enumerate(columns):
        found.put(to_pil(image), -1, column)
    for row, images in enumerate(mixes):
        found.put(to_pil(rows[row]), row, -1)
        for column, image in enumerate(images):
            found.put(to_pil(image), row, column)
    return found.picture


def fitted(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, its middle left out where it is too long: names often differ at their ends."""
    kept = len(text)
    shown = text
    while draw.textlength(shown, font=font) > width and kept > 2:
        kept -= 1
        shown = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
    return shown
