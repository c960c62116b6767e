"""A generator's faces and rates on one sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from facegan.plotting.palette import BACKGROUND, BLUE, FOREGROUND, GREEN, GREY, LINES, MUTED, ORANGE, PURPLE, RED, font

_JOINT, _NONE = GREEN, GREY
_SINGLE = (ORANGE, BLUE, PURPLE, RED)  # per attribute, told apart by the colour-blind
_FACE, _BORDER, _GAP, _MARGIN = 72, 4, 6, 24
_COLUMNS = 16
_BAR = 30  # height of one line of the chart


def rates_sheet(samples: Tensor, verdicts: np.ndarray, report: Mapping[str, Any], title: str) -> Image.Image:
    """A sheet for people: samples [N, 3, H, W], framed by their verdicts [N, K + 1]; below, the rates of `report`.

    A frame shows the colour of all attributes, of a single one, or grey for none; a verdict on which the two classifiers disagree
    counts as no.
    """
    rows = math.ceil(len(samples) / _COLUMNS)
    cell = _FACE + 2 * _BORDER + _GAP
    width = 2 * _MARGIN + _COLUMNS * cell - _GAP
    top = _MARGIN + 62
    chart = top + rows * cell + 40
    lines = _lines(report)
    notes = _notes(report)
    sheet = Image.new("RGB", (width, chart + len(lines) * _BAR + 44 + 20 * len(notes)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, fill=FOREGROUND, font=font(22))
    _legend(draw, list(report["marginal_intervals"]), _MARGIN, _MARGIN + 28)
    pixels = (samples.detach().float().cpu().clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for i, (face, verdict) in enumerate(zip(pixels, verdicts, strict=True)):
        x, y = _MARGIN + i % _COLUMNS * cell, top + i // _COLUMNS * cell
        side = _FACE + 2 * _BORDER
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=_colour(verdict))
        sheet.paste(Image.fromarray(face).resize((_FACE, _FACE), Image.Resampling.BICUBIC), (x + _BORDER, y + _BORDER))
    _chart(draw, lines, report, (_MARGIN, chart), width - 2 * _MARGIN)
    for i, note in enumerate(notes):
        draw.text((_MARGIN, chart + len(lines) * _BAR + 30 + 20 * i), note, fill=MUTED, font=font(13))
    return sheet


def _notes(report: Mapping[str, Any]) -> list[str]:
    """What stands below the bars: how to read them, and how the faces look beside real joint ones where that was measured."""
    notes = [f"{report['samples']} samples; bars with 95 % intervals; normalised = (joint - floor) / (ceiling - floor)"]
    quality = report.get("quality", {})
    for suffix in ("", "_attr"):
        names = [name + suffix for name in ("kid", "fid", "precision", "recall") if quality.get(name + suffix) is not None]
        figures = (f"{name} {quality[name]:.3g}" + _of_reals(quality.get(f"real_{name}")) for name in names)
        notes += [", ".join(figures)] if names else []
    return notes


def _of_reals(value: float | None) -> str:
    return "" if value is None else f" (real halves {value:.3g})"


def _colour(verdict: np.ndarray) -> tuple[int, int, int]:
    if verdict[-1] == 1:
        return _JOINT
    carried = np.flatnonzero(verdict[:-1] == 1)
    return _SINGLE[carried[0] % len(_SINGLE)] if len(carried) else _NONE


def _legend(draw: ImageDraw.ImageDraw, attributes: Sequence[str], x: int, y: int) -> None:
    entries = [("all: " + " + ".join(attributes), _JOINT)]
    entries += [(f"{name} only" if len(attributes) == 2 else f"{name}, not all", _SINGLE[k % len(_SINGLE)])
                for k, name in enumerate(attributes)]  # fmt: skip
    for text, colour in [*entries, ("none", _NONE)]:
        draw.rectangle((x, y + 3, x + 13, y + 16), fill=colour)
        draw.text((x + 19, y), text, fill=FOREGROUND, font=font(15))
        x += 19 + int(draw.textlength(text, font=font(15))) + 24


def _lines(report: Mapping[str, Any]) -> list[tuple[str, dict[str, float | None], tuple[int, int, int]]]:
    """(name, {rate, low, high}, colour) of each bar, top to bottom."""
    lines = [("joint", report["joint"], _JOINT)]
    for k, (name, interval) in enumerate(report["marginal_intervals"].items()):
        lines.append((name, interval, _SINGLE[k % len(_SINGLE)]))
    return [*lines, ("normalised", report["normalised"], MUTED)]


def _chart(
    draw: ImageDraw.ImageDraw, lines: list[tuple[str, dict[str, float | None], tuple[int, int, int]]],
    report: Mapping[str, Any], corner: tuple[int, int], breadth: int,
) -> None:  # fmt: skip
    """Bars with intervals over an axis from 0 to 1, the floor and the ceiling of the joint rate across its bar."""
    left, top = corner
    start, span = left + 130, breadth - 330
    bottom = top + len(lines) * _BAR

    def at(value: float) -> int:
        return start + round(span * min(1.0, max(0.0, value)))

    for tick in range(6):
        x = at(tick / 5)
        draw.line((x, top, x, bottom), fill=LINES)
        draw.text((x, bottom + 4), f"{tick / 5:.1f}", fill=MUTED, font=font(13), anchor="ma")
    for i, (name, interval, colour) in enumerate(lines):
        middle = top + i * _BAR + _BAR // 2
        draw.text((start - 12, middle), name, fill=FOREGROUND, font=font(16), anchor="rm")
        rate, low, high = (interval[key] for key in ("rate", "low", "high"))
        if rate is None:
            reason = "the ceiling does not exceed the floor"
            draw.text((start + 6, middle), reason, fill=MUTED, font=font(14), anchor="lm")
            continue
        draw.rectangle((start, middle - 8, max(start, at(rate)), middle + 8), fill=colour)
        ends = [at(0.0 if low is None else low), at(1.0 if high is None else high)]
        draw.line((ends[0], middle, ends[1], middle), fill=BACKGROUND, width=4)
        draw.line((ends[0], middle, ends[1], middle), fill=FOREGROUND, width=2)
        for x in ends:
            draw.line((x, middle - 5, x, middle + 5), fill=FOREGROUND, width=2)
        limits = " to ".join("?" if value is None else f"{value:.2f}" for value in (low, high))
        draw.text((start + span + 16, middle), f"{rate:.3f}  ({limits})", fill=FOREGROUND, font=font(15), anchor="lm")
    for name, anchor in (("floor", "rs"), ("ceiling", "ls")):
        x = at(report[name])
        draw.line((x, top - 6, x, top + _BAR), fill=FOREGROUND, width=2)
        text = f"{name} {report[name]:.2f}"
        draw.text((x + (4 if anchor == "ls" else -4), top - 6), text, fill=FOREGROUND, font=font(14), anchor=anchor)
