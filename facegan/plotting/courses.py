"""How figures change in the course of trainings: a panel a figure, a line a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from facegan.plotting.grid import fitted
from facegan.plotting.palette import BACKGROUND, BLUE, FOREGROUND, LINES, MUTED, ORANGE, font

COLOURS = (BLUE, ORANGE)  # of the first run and the second, told apart by the colour-blind
PANEL, GAP, MARGIN, ACROSS = (300, 150), (70, 56), 24, 3
LEFT = 44  # room for the numbers of an axis
MOST_POINTS = 600  # of a line: more than there are pixels


def courses(
    panels: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], axis: str, marks: Sequence[tuple[float, str]] = ()
) -> Image.Image:
    """{figure: (course [points, 2] of each run, perhaps empty; a row of NaN breaks the line)} -> the picture.

    Args:
        names: of the runs, at most two.
        axis: what the first column counts.
        marks: where stages of the first run begin, and what they are called.
    """
    down, across = max(1, math.ceil(len(panels) / ACROSS)), min(ACROSS, max(1, len(panels)))
    cell = (PANEL[0] + GAP[0], PANEL[1] + GAP[1])
    sheet = Image.new("RGB", (2 * MARGIN + LEFT + across * cell[0] - GAP[0] + 20, 2 * MARGIN + 34 + down * cell[1]), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    x = MARGIN
    for name, colour in zip(names, COLOURS, strict=False):
        draw.rectangle((x, MARGIN, x + 13, MARGIN + 13), fill=colour)
        words = fitted(draw, name, font(14), sheet.width // 2 - 50)
        draw.text((x + 20, MARGIN + 7), words, fill=FOREGROUND, font=font(14), anchor="lm")
        x += 40 + int(draw.textlength(words, font=font(14)))
    most = max((float(np.nanmax(course[:, 0])) for each in panels.values() for course in each if len(course)), default=1.0)
    for i, (figure, each) in enumerate(panels.items()):
        corner = (MARGIN + LEFT + i % across * cell[0], MARGIN + 52 + i // across * cell[1])
        _panel(draw, corner, figure, each, most, axis, marks)
    if not panels:
        draw.text((MARGIN, MARGIN + 60), "nothing was measured yet", fill=MUTED, font=font(15))
    return sheet


def _panel(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], figure: str, each: Sequence[np.ndarray], most: float, axis: str,
    marks: Sequence[tuple[float, str]],
) -> None:  # fmt: skip
    left, top = corner
    width, height = PANEL
    values = np.concatenate([course[:, 1] for course in each if len(course)] or [np.zeros(1)])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5

    def at(x: float, y: float) -> tuple[int, int]:
        return left + round(width * x / max(most, 1e-9)), top + round(height * (high - y) / (high - low))

    draw.text((left, top - 20), fitted(draw, figure, font(14), width), fill=FOREGROUND, font=font(14))
    for y in (low, (low + high) / 2, high):
        draw.line((*at(0, y), *at(most, y)), fill=LINES)
        draw.text((left - 6, at(0, y)[1]), f"{y:.3g}", fill=MUTED, font=font(12), anchor="rm")
    for begun, _ in marks:
        if begun:
            draw.line((*at(begun, low), *at(begun, high)), fill=LINES)
    for course, colour in zip(each, COLOURS, strict=False):
        for part in whole_parts(course):
            points = [at(float(x), float(y)) for x, y in thinned(part)]
            if len(points) > 1:
                draw.line(points, fill=colour, width=2)
            else:
                (x, y) = points[0]
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
    draw.text((left + width, top + height + 4), f"{most:,.0f} {axis}", fill=MUTED, font=font(12), anchor="ra")


def whole_parts(course: np.ndarray) -> list[np.ndarray]:
    """The parts between rows of NaN."""
    gaps = np.isnan(course).any(1)
    edges = np.flatnonzero(gaps[1:] != gaps[:-1]) + 1
    return [part for part in np.split(course, edges) if len(part) and not np.isnan(part).any()]


def thinned(course: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS points, each the mean of its neighbours; a course that has no more is as it is."""
    if len(course) <= MOST_POINTS:
        return course
    return np.stack([part.mean(0) for part in np.array_split(course, MOST_POINTS)])
