"""The sheet to check labels by eye: of each attribute faces that have it, many that are uncertain, faces that have it not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from facegan.files import quoted
from facegan.plotting.palette import BACKGROUND, FOREGROUND, GREEN, MUTED, ORANGE, RED, font

SHEET = "labels.png"
COLUMNS, SIDE, GAP, MARGIN = 12, 80, 4, 12  # faces in a row, pixels
LINE, TITLE, LEFT = 18, 34, 104  # heights of a score and of a heading, width of the words beside rows
SURE, UNSURE = 2 * COLUMNS, 4 * COLUMNS  # faces at most, of each part


def spread(order: np.ndarray, most: int) -> np.ndarray:
    """At most so many, evenly spaced, the first and the last among them."""
    return order[np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))] if len(order) else order


def parts(scores: np.ndarray, said: np.ndarray) -> list[tuple[str, tuple[int, int, int], np.ndarray, int]]:
    """(words, colour, rows to show by falling score, how many there are) of the sure, the uncertain and the surely absent ones."""
    falling = np.argsort(-scores, kind="stable")
    groups = [("has it", GREEN, said == 1), ("unknown", ORANGE, np.isnan(said)), ("has it not", RED, said == 0)]
    found = []
    for words, colour, where in groups:
        index = falling[where[falling]]
        if words == "unknown":
            nearest = index[np.argsort(np.abs(scores[index] - 0.5), kind="stable")[:UNSURE]]
            shown = nearest[np.argsort(-scores[nearest], kind="stable")]
        else:
            shown = spread(index, SURE)
        found.append((words, colour, shown, len(index)))
    return found


def label_sheet(names: Sequence[str], scores: np.ndarray, said: np.ndarray, face: Callable[[int], np.ndarray]) -> Image.Image:
    """Of attributes `names`, scores and verdicts [N, K]; `face(i)` is uint8 [3, R, R]."""
    blocks = [(name, parts(scores[:, k], said[:, k]), scores[:, k]) for k, name in enumerate(names)]
    row = SIDE + LINE + GAP
    height = MARGIN + sum(TITLE + sum(-(-len(shown) // COLUMNS) * row for _, _, shown, _ in each) for _, each, _ in blocks) + MARGIN
    picture = Image.new("RGB", (LEFT + COLUMNS * (SIDE + GAP) + MARGIN, height), BACKGROUND)
    draw, top = ImageDraw.Draw(picture), MARGIN
    for name, groups, values in blocks:
        draw.text((MARGIN, top + TITLE // 2), quoted(name, 60), fill=FOREGROUND, font=font(20), anchor="lm")
        top += TITLE
        for words, colour, shown, count in groups:
            if len(shown):
                draw.text((MARGIN, top + 4), words, fill=colour, font=font(15))
                draw.text((MARGIN, top + 26), f"{count:,} faces", fill=MUTED, font=font(13))
            for place, i in enumerate(shown):
                left, down = LEFT + place % COLUMNS * (SIDE + GAP), top + place // COLUMNS * row
                picture.paste(Image.fromarray(face(int(i)).transpose(1, 2, 0)).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, down))
                draw.text((left + SIDE // 2, down + SIDE + 2), f"{values[i]:.2f}", fill=colour, font=font(13), anchor="ma")
            top += -(-len(shown) // COLUMNS) * row
    return picture
