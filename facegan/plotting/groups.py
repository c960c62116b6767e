"""A sheet of the faces of each group of a data set, for people to look at before they train."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from facegan.plotting.grid import fitted
from facegan.plotting.palette import BACKGROUND, FOREGROUND, LINES, MUTED, font

FACE, ABREAST, GAP, MARGIN, TITLE = 96, 12, 4, 20, 30  # pixels of a face, faces of a row, ..., height of a row's title


def group_sheet(groups: Sequence[tuple[str, Sequence[Image.Image]]], title: str) -> Image.Image:
    """Under the title of each group a row of its first ABREAST faces, square pictures of any size."""
    width = ABREAST * (FACE + GAP) - GAP + 2 * MARGIN
    height = MARGIN + TITLE + sum(TITLE + (FACE if faces else 0) + 2 * GAP for _, faces in groups) + MARGIN
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), fitted(draw, title, font(20), width - 2 * MARGIN), fill=FOREGROUND, font=font(20))
    y = MARGIN + TITLE
    for name, faces in groups:
        draw.line((MARGIN, y + GAP, width - MARGIN, y + GAP), fill=LINES)
        line = fitted(draw, name if faces else f"{name}, none to show", font(15), width - 2 * MARGIN)
        draw.text((MARGIN, y + TITLE // 2 + GAP), line, fill=FOREGROUND if faces else MUTED, font=font(15), anchor="lm")
        y += TITLE + GAP
        for i, face in enumerate(faces[:ABREAST]):
            enlarged = Image.Resampling.NEAREST if 2 * face.width <= FACE else Image.Resampling.LANCZOS
            sheet.paste(face.resize((FACE, FACE), enlarged), (MARGIN + i * (FACE + GAP), y))
        y += (FACE if faces else 0) + GAP
    return sheet
