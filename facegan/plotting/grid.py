"""The picture of all pairs: sources above and beside, mixes between (Karras et al. 2019, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facegan.plotting.palette import BACKGROUND, FOREGROUND
from facegan.plotting.sheets import to_pil

SMALLEST, LARGEST = 128, 256  # pixels of a face in the picture: small ones are enlarged, large ones reduced
GAP, WIDE = 4, 12  # between faces, and between sources and mixes
MARGIN, LABEL, FONT = 8, 26, 16  # around everything, height of a line of names, its letters
SIDE = 120  # width for the rows' names


def cell_side(resolution: int) -> int:
    """Pixels of a face in the picture."""
    if resolution > LARGEST:
        return LARGEST
    return resolution * max(1, -(-SMALLEST // resolution))


def cell_corner(row: int, column: int, side: int) -> tuple[int, int]:
    """Left and top of the mix of `row` and `column`; -1 is the header."""
    left, top = MARGIN + SIDE, MARGIN + LABEL
    return tuple(start + (0 if index < 0 else side + WIDE + index * (side + GAP)) for start, index in ((left, column), (top, row)))  # type: ignore[return-value]


def grid(rows: Tensor, columns: Tensor, mixes: Tensor, row_names: Sequence[str], column_names: Sequence[str]) -> Image.Image:
    """Sources [R, 3, H, W] and [C, 3, H, W], mixes [R, C, 3, H, W], all in [-1, 1] -> the picture; its corner stays empty."""
    side = cell_side(rows.shape[-1])
    right, bottom = cell_corner(len(rows), len(columns), side)
    picture = Image.new("RGB", (right - GAP + MARGIN, bottom - GAP + MARGIN), BACKGROUND)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT)

    def paste(image: Tensor, row: int, column: int) -> None:
        picture.paste(to_pil(image).resize((side, side), Image.Resampling.LANCZOS), cell_corner(row, column, side))

    for column, name in enumerate(column_names):
        paste(columns[column], -1, column)
        left, top = cell_corner(-1, column, side)
        draw.text((left + side // 2, top - LABEL // 2), fitted(draw, name, font, side), fill=FOREGROUND, font=font, anchor="mm")
    for row, name in enumerate(row_names):
        paste(rows[row], row, -1)
        left, top = cell_corner(row, -1, side)
        draw.text((left - MARGIN, top + side // 2), fitted(draw, name, font, SIDE - MARGIN), fill=FOREGROUND, font=font, anchor="rm")
        for column in range(len(column_names)):
            paste(mixes[row, column], row, column)
    return picture


def fitted(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, its middle left out where it is too long: names often differ at their ends."""
    kept = len(text)
    shown = text
    while draw.textlength(shown, font=font) > width and kept > 2:
        kept -= 1
        shown = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
    return shown
