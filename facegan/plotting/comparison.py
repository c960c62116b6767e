"""A picture of a few faces side by side, one row each, with titles: a photo and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facegan.plotting.grid import FONT, GAP, LABEL, MARGIN, SIDE, cell_side, fitted
from facegan.plotting.palette import BACKGROUND, FOREGROUND
from facegan.plotting.sheets import to_pil


def comparison(images: Tensor, titles: Sequence[str], names: Sequence[str]) -> Image.Image:
    """[rows, columns, 3, H, W] in [-1, 1] with a title a column and a name a row -> the picture."""
    rows, columns = images.shape[:2]
    side = cell_side(images.shape[-1])
    left, top = MARGIN + SIDE, MARGIN + LABEL
    picture = Image.new("RGB", (left + columns * (side + GAP) - GAP + MARGIN, top + rows * (side + GAP) - GAP + MARGIN), BACKGROUND)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT)
    for column, title in enumerate(titles):
        x = left + column * (side + GAP)
        draw.text((x + side // 2, top - LABEL // 2), fitted(draw, title, font, side), fill=FOREGROUND, font=font, anchor="mm")
    for row, name in enumerate(names):
        y = top + row * (side + GAP)
        draw.text((left - MARGIN, y + side // 2), fitted(draw, name, font, SIDE - MARGIN), fill=FOREGROUND, font=font, anchor="rm")
        for column in range(columns):
            face = to_pil(images[row, column]).resize((side, side), Image.Resampling.LANCZOS)
            picture.paste(face, (left + column * (side + GAP), y))
    return picture
