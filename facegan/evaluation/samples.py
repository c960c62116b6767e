"""What is kept of many faces: the judge's word, sharpness, features, and a small copy; the faces themselves are made again.

50,000 faces of 256 px are 39 GB, what is measured on them less than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from facegan.evaluation.joint_rate import laplacian_sharpness
from facegan.evaluation.judge.data import shrink
from facegan.evaluation.judge.judge import Judge, decided
from facegan.evaluation.processes import distributed_map

if TYPE_CHECKING:
    from facegan.evaluation.features import Extractor

PIXELS = 32  # width of the copies, at which images are compared
FIRST = 64  # faces that a picture shows
SampleFn = Callable[[Tensor], Tensor]  # places int64 [n] -> the faces there, float [n, 3, R, R] in [-1, 1], each time the same


@dataclass(frozen=True)
class JudgedSamples:
    judge: Judge
    draw: SampleFn
    logits: Tensor  # [N, 2, K + C], the judge's
    sharpness: Tensor  # [N]
    small: Tensor  # [N, 3, S, S] in [-1, 1], no larger than PIXELS
    features: dict[str, Tensor]  # {an extractor's suffix: [N, D]}
    scores: Tensor | None  # [N], of `critic`

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def verdicts(self) -> np.ndarray:
        """float64 [N, K + 1], as `Judge.verdicts`."""
        return verdicts_of(self.judge, self.logits).mean(0)

    def first(self, number: int) -> Tensor:
        return self.draw(torch.arange(min(number, len(self))))


def verdicts_of(judge: Judge, logits: Tensor) -> np.ndarray:
    """bool [2, N, K + 1] of logits [N, 2, K + C], as `Judge.pair_verdicts` of the faces."""
    return decided(judge.calibrated(logits))


@torch.no_grad()
def score_samples(
    draw: SampleFn, number: int, judge: Judge, extractors: Sequence[Extractor] = (), critic: SampleFn | None = None, what: str = "faces"
) -> JudgedSamples:
    """Look at `number` faces, a batch at a time; `critic`: scores [n] of faces. With several processes all call, and all get the whole."""
    widths: list[int] = []

    def measured(places: Tensor) -> Tensor:
        faces = draw(places).to(judge.device)
        columns = [judge.logits(faces), laplacian_sharpness(faces), shrink(faces.float().clamp(-1, 1), PIXELS)]
        columns += [extractor(faces) for extractor in extractors]
        columns += [critic(faces)] if critic else []
        flat = [column.reshape(len(faces), -1).float().cpu() for column in columns]
        widths[:] = [column.shape[1] for column in flat]
        return torch.cat(flat, 1)

    table = distributed_map(measured, torch.arange(number), what)
    logits, sharpness, small, *rest = table.split(widths, 1)
    side = round((small.shape[1] // 3) ** 0.5)
    features = {extractor.suffix: part for extractor, part in zip(extractors, rest, strict=False)}
    scores = rest[-1][:, 0] if critic else None
    return JudgedSamples(
        judge, draw, logits.reshape(number, 2, -1), sharpness[:, 0], small.reshape(number, 3, side, side), features, scores
    )


def logits_of(judge: Judge, draw: SampleFn, number: int, what: str) -> Tensor:
    """The judge's logits [N, 2, K + C] alone."""
    return distributed_map(lambda places: judge.logits(draw(places)), torch.arange(number), what)
