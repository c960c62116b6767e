"""Charts of an ablation: rates with intervals, rates in the course of training, faces of the same noise in every row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from facegan.plotting.palette import BACKGROUND, FOREGROUND, GREEN, LINES, MUTED, ORANGE, font
from facegan.plotting.sheets import to_pil
from facegan.plotting.text import interval

RATE, RANGE, SWITCH = GREEN, (178, 220, 203), ORANGE
MARGIN, NAME = 24, 150  # NAME: room for a row's name
LINE, SPAN = 28, 620  # of a bar; of the axis from 0 to 1
PANEL, GAP, ACROSS = (250, 130), (34, 46), 4
SHOWN, FACE = 12, 64


def rates(summary: dict[str, Any]) -> Image.Image:
    """A bar a row: the mean over seeds, its interval, a dot a seed; each row's floor as a tick, the ceiling across."""
    rows = summary["rows"]
    bottom = MARGIN + 50 + len(rows) * LINE
    sheet = Image.new("RGB", (2 * MARGIN + NAME + SPAN + 190, bottom + 64), BACKGROUND)
    draw, left = ImageDraw.Draw(sheet), MARGIN + NAME
    draw.text((MARGIN, MARGIN - 8), f"joint rate: {summary['title']}", fill=FOREGROUND, font=font(20))
    for tick in range(6):
        x = left + tick * SPAN // 5
        draw.line((x, MARGIN + 46, x, bottom), fill=LINES)
        draw.text((x, bottom + 4), f"{tick / 5:.1f}", fill=MUTED, font=font(13), anchor="ma")
    ceilings = {seed: run["ceiling"] for row in rows.values() for seed, run in row["seeds"].items()}  # all rows of a seed share one
    ceiling = sum(ceilings.values()) / len(ceilings)
    x = left + round(ceiling * SPAN)
    draw.line((x, MARGIN + 40, x, bottom), fill=FOREGROUND, width=2)
    draw.text((x, MARGIN + 38), f"ceiling {ceiling:.2f}", fill=FOREGROUND, font=font(13), anchor="ms")
    for i, (name, row) in enumerate(rows.items()):
        _bar(draw, left, MARGIN + 50 + i * LINE + LINE // 2, name, row)
    note = "bar: mean over seeds; dots: seeds; whiskers: 95 % interval over seeds (one seed: of its samples); orange: the row's floor"
    draw.text((MARGIN, bottom + 32), note, fill=MUTED, font=font(13))
    return sheet


def _bar(draw: ImageDraw.ImageDraw, left: int, y: int, name: str, row: dict[str, Any]) -> None:
    joint = row["joint"]

    def at(value: float) -> int:
        return left + round(SPAN * value)

    draw.text((left - 10, y), name, fill=FOREGROUND, font=font(15), anchor="rm")
    draw.rectangle((left, y - 7, max(left, at(joint["rate"])), y + 7), fill=RANGE)
    if joint["low"] is not None:
        low, high = (at(min(1.0, max(0.0, joint[key]))) for key in ("low", "high"))
        draw.line((low, y, high, y), fill=FOREGROUND, width=2)
        for x in (low, high):
            draw.line((x, y - 4, x, y + 4), fill=FOREGROUND, width=2)
    for run in row["seeds"].values():
        x = at(run["joint"]["rate"])
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=RATE)
    floor = at(row["floor"])
    draw.line((floor, y - 10, floor, y + 10), fill=SWITCH, width=3)
    draw.text((left + SPAN + 14, y), interval(joint), fill=FOREGROUND, font=font(14), anchor="lm")


def curves(rows: Mapping[str, tuple[list[np.ndarray], list[float]]], axis: str, longest: float = 0.0) -> Image.Image:
    """A panel a row: {name: (courses [points, 2] of each seed, where the row switches)}, mean and range of the seeds.

    Args:
        axis: what the first column counts.
        longest: where all axes end; 0: each with its row.
    """
    down = math.ceil(len(rows) / ACROSS)
    cell = (PANEL[0] + GAP[0], PANEL[1] + GAP[1])
    sheet = Image.new("RGB", (MARGIN + ACROSS * cell[0], 2 * MARGIN + down * cell[1] + 20), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, (name, (courses, switches)) in enumerate(rows.items()):
        corner = (MARGIN + 10 + i % ACROSS * cell[0], MARGIN + 10 + i // ACROSS * cell[1])
        _panel(draw, corner, name, courses, switches, longest)
    note = f"joint rate (0 to 1) of 64 faces of fixed noise over {axis}; line: mean, shade: range of seeds; orange: switch"
    draw.text((MARGIN, sheet.height - MARGIN - 6), note, fill=MUTED, font=font(13))
    return sheet


def _panel(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, courses: list[np.ndarray], switches: list[float], longest: float
) -> None:
    """`longest`: where the axis ends; 0: with this row."""
    left, top = corner
    width, height = PANEL
    most = longest or max(course[-1, 0] for course in courses)

    def at(epoch: float, rate: float) -> tuple[int, int]:
        return left + round(width * epoch / max(most, 1e-9)), top + round(height * (1 - rate))

    for tick in range(3):
        draw.line((*at(0, tick / 2), *at(most, tick / 2)), fill=LINES)
    grid = courses[0][:, 0]
    rated = np.stack([np.interp(grid, course[:, 0], course[:, 1]) for course in courses])
    above = [at(x, y) for x, y in zip(grid, rated.max(0), strict=True)]
    below = [at(x, y) for x, y in zip(grid, rated.min(0), strict=True)]
    if len(above) > 1:
        draw.polygon(above + below[::-1], fill=RANGE)
    for epoch in switches:
        draw.line((*at(epoch, 0), *at(epoch, 1)), fill=SWITCH, width=2)
    draw.line([at(x, y) for x, y in zip(grid, rated.mean(0), strict=True)], fill=RATE, width=3)
    draw.text((left, top - 20), name, fill=FOREGROUND, font=font(14))
    draw.text((left + width, top + height + 2), f"{most:.0f}", fill=MUTED, font=font(12), anchor="ra")


def rows_of_faces(lines: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """A row of faces [N, 3, R, R] for each name, the first SHOWN of them."""
    sheet = Image.new("RGB", (2 * MARGIN + NAME + SHOWN * (FACE + 2), 2 * MARGIN + len(lines) * (FACE + 4)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(lines):
        top = MARGIN + i * (FACE + 4)
        draw.text((MARGIN + NAME - 10, top + FACE // 2), name, fill=FOREGROUND, font=font(15), anchor="rm")
        for j, image in enumerate(images[:SHOWN]):
            sheet.paste(to_pil(image).resize((FACE, FACE), Image.Resampling.BICUBIC), (MARGIN + NAME + j * (FACE + 2), top))
    return sheet
