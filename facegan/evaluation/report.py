"""The report on a generator: what the judge finds, between floor and ceiling, as numbers and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from PIL import Image
from torch import Tensor

from facegan.checkpoints.run import write_json
from facegan.errors import FaceganError
from facegan.evaluation import restoration_rates
from facegan.evaluation.joint_rate import Interval, normalised_joint_rate, wilson
from facegan.evaluation.judge.judge import Judge
from facegan.evaluation.summary import summary
from facegan.plotting.rates import rates_sheet
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
    classifier that learned from the half (`Split.joint_halves`) where it is *not*.
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


def picture(judge: Judge, samples: Tensor, report: Mapping[str, Any], *, title: str = "", number: int = 64) -> Image.Image:
    """The first ``number`` samples, unsorted, and what :func:`measure` returned for all of them."""
    samples = samples[:number]
    return rates_sheet(samples, judge.verdicts(samples), report, title or " + ".join(judge.attributes))
