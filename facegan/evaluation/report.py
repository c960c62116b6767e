"""The report on a generator: what the judge finds, between floor and ceiling, as numbers and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from facegan.checkpoints.run import write_json
from facegan.errors import FaceganError
from facegan.evaluation import restoration_rates
from facegan.evaluation.joint_rate import Interval, normalised_joint_rate, wilson
from facegan.evaluation.judge.judge import Judge
from facegan.evaluation.summary import summary
from facegan.plotting.palette import BACKGROUND, BLUE, FOREGROUND, GREEN, GREY, LINES, MUTED, ORANGE, PURPLE, RED, font
from facegan.plotting.sheets import save_png
from facegan.schema import checked


class Rate(NamedTuple):
    """A share with its 95 % interval; a limit that does not exist, and a rate that is not defined, are None."""

    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """How many of a generator's faces carry all attributes, by an independent judge, and how they look.

    Attributes:
        joint: share of faces that carry all attributes.
        floor: what a generator of attribute 1 alone reaches, or blurred real faces, whichever is more.
        ceiling: what real joint faces reach.
        normalised: (joint - floor) / (ceiling - floor).
        marginals: share of faces with each attribute.
        samples: number of faces rated.
        details: everything, as report.json has it.
        pictures: "report" (samples and rates), "nearest" (the samples that come closest to a training image, beside it), and with
            `restore` also "restored"; none after `from_json`.
    """

    joint: Rate
    floor: float
    ceiling: float
    normalised: Rate
    marginals: dict[str, Rate]
    samples: int
    details: dict[str, Any] = field(repr=False)
    pictures: dict[str, Image.Image] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, details: dict[str, Any], pictures: dict[str, Image.Image] | None = None) -> EvaluationReport:
        """Build the report from what `to_json` gave or report.json holds.

        Raises:
            FaceganError: it is no report.
        """
        known = checked(details, _Details, "the report")
        marginals = {name: Rate(**values) for name, values in known["marginal_intervals"].items()}
        rates = Rate(**known["joint"]), known["floor"], known["ceiling"], Rate(**known["normalised"])
        return cls(*rates, marginals, known["samples"], details, pictures or {})

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured, in the types of JSON."""
        return dict(self.details)

    def plot(self) -> Image.Image:
        """Return the picture of samples and rates."""
        if "report" not in self.pictures:
            raise FaceganError("this report was read from a file, which holds no faces: see report.png beside it")
        return self.pictures["report"]

    def describe(self) -> str:
        """Every figure in words, beside its reference."""
        restored = self.details.get("restored")
        return "\n\n".join([summary(self.details), *([restoration_rates.summary(restored)] if restored else [])])

    def save(self, folder: str | Path) -> Path:
        """Write the pictures and, last, report.json, whose path is returned: where it is, everything is."""
        out = Path(folder)
        for name, picture in self.pictures.items():
            save_png(picture, out / f"{name}.png")
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "report.json", self.details)
        return out / "report.json"


class _Interval(TypedDict):
    rate: float | None
    low: float | None
    high: float | None


class _Details(TypedDict):
    joint: _Interval
    floor: float
    ceiling: float
    normalised: _Interval
    marginal_intervals: dict[str, _Interval]
    samples: int


def measure(
    judge: Judge,
    verdicts: np.ndarray,
    sharpness: float,
    *,
    floors: Mapping[str, np.ndarray],
    ceiling: np.ndarray,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Rate samples by their ``verdicts`` [N, K + 1] and those on what they must be compared with.

    ``sharpness``: the samples' median. ``floors``: joint verdicts [n] each, on faces that should carry attribute 1 alone: of the
    Phase-1 generator, of real ones blurred like the samples. ``ceiling``: joint verdicts [n] on real joint images, each by the
    classifier that learnt from the half (`Split.joint_halves`) where it is *not*.
    Returns a dict for JSON: ``attributes``, ``samples`` (their number), ``joint`` {rate, low, high}, ``floor``,
    ``floors`` {name: rate}, ``ceiling``, ``normalised`` {rate, low, high}, ``marginals`` {name: rate},
    ``marginal_intervals`` {name: {rate, low, high}}, ``sharpness``, ``judge`` (its card). A limit that does not exist, as
    where the ceiling does not exceed the floor, is None.
    """
    normalised = normalised_joint_rate(
        verdicts[:, -1], list(floors.values()), ceiling, resamples=resamples, seed=seed, confidence=confidence
    )
    *marginals, joint = (_json(wilson(float(column.sum()), len(column), confidence)) for column in verdicts.T)
    intervals = dict(zip(judge.attributes, marginals, strict=True))
    return {
        "attributes": list(judge.attributes),
        "samples": len(verdicts),
        "joint": joint,
        "floor": max(float(part.mean()) for part in floors.values()),
        "floors": {name: float(part.mean()) for name, part in floors.items()},
        "ceiling": float(ceiling.mean()),
        "normalised": _json(normalised),
        "marginals": {name: interval["rate"] for name, interval in intervals.items()},
        "marginal_intervals": intervals,
        "sharpness": sharpness,
        "judge": judge.card,
    }


def _json(interval: Interval) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in interval._asdict().items()}


# --- the picture ---

_JOINT, _NONE = GREEN, GREY
_SINGLE = (ORANGE, BLUE, PURPLE, RED)  # per attribute, told apart by the colour-blind
_FACE, _BORDER, _GAP, _MARGIN = 72, 4, 6, 24
_COLUMNS = 16
_BAR = 30  # height of one line of the chart


def picture(judge: Judge, samples: Tensor, report: Mapping[str, Any], *, title: str = "", number: int = 64) -> Image.Image:
    """A sheet for people: the first ``number`` samples, unsorted, framed by the judge's verdict; below, the rates.

    A frame shows the colour of all attributes, of a single one, or grey for none; a verdict on which the two
    classifiers disagree counts as no. ``report`` is what :func:`measure` returned for the same samples.
    """
    samples = samples[:number]
    rows = math.ceil(len(samples) / _COLUMNS)
    cell = _FACE + 2 * _BORDER + _GAP
    width = 2 * _MARGIN + _COLUMNS * cell - _GAP
    top = _MARGIN + 62
    chart = top + rows * cell + 40
    lines = _lines(report)
    notes = _notes(report)
    sheet = Image.new("RGB", (width, chart + len(lines) * _BAR + 44 + 20 * len(notes)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title or " + ".join(judge.attributes), fill=FOREGROUND, font=font(22))
    _legend(draw, judge.attributes, _MARGIN, _MARGIN + 28)
    pixels = (samples.detach().float().cpu().clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for i, (face, verdict) in enumerate(zip(pixels, judge.verdicts(samples), strict=True)):
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
