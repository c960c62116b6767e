"""The joint rate, its references and their intervals, and the sharpness that makes the references comparable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.errors import FaceganError
from facegan.evaluation.judge.degradation import gaussian_blur

SHARPNESS_MOST = 256  # faces on which a blur is fitted


class Interval(NamedTuple):
    """A rate with its confidence limits."""

    rate: float
    low: float
    high: float


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (Wilson 1927) of a share; ``successes`` may be fractional (the mean of two verdicts)."""
    if n < 1 or not 0 <= successes <= n or not 0 < confidence < 1:
        raise FaceganError(
            f"wilson needs n >= 1, 0 <= successes <= n and 0 < confidence < 1, got successes={successes}, n={n}, "
            f"confidence={confidence}; pass at least one sample."
        )
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(rate, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def _bootstrap_means(verdicts: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """[resamples] means of resamples with replacement; verdicts take few values, so counting them is enough.

    Where all say no, or all yes, resamples say the same and know nothing of the rate that another set would have: there the
    means are draws of Beta(k + 1/2, n - k + 1/2), the posterior of a share under Jeffreys' prior (Brown, Cai & DasGupta 2001).
    """
    values, counts = np.unique(verdicts, return_counts=True)
    if len(values) == 1 and values[0] in (0, 1):
        successes = len(verdicts) * values[0]
        return generator.beta(successes + 0.5, len(verdicts) - successes + 0.5, size=resamples)
    return generator.multinomial(len(verdicts), counts / counts.sum(), size=resamples) @ values / len(verdicts)


def normalised_joint_rate(
    sample_verdicts: np.ndarray,
    floor_verdicts: np.ndarray | Sequence[np.ndarray],
    ceiling_verdicts: np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """``(rate - floor) / (ceiling - floor)`` with a percentile bootstrap over all of them together.

    Verdicts are 1-D arrays in [0, 1], one per image. Several floors may be given: the larger one counts, chosen again
    inside each resample, so that the choice is part of the uncertainty. Where the ceiling is not above the floor the
    measure says nothing: the result is NaN (or, in single resamples, an infinite limit), never a number.
    """
    floors = [floor_verdicts] if isinstance(floor_verdicts, np.ndarray) else list(floor_verdicts)
    parts = [np.asarray(v, dtype=np.float64) for v in (sample_verdicts, ceiling_verdicts, *floors)]
    names = ("sample_verdicts", "ceiling_verdicts", *["floor_verdicts"] * len(floors))
    for name, part in zip(names, parts, strict=True):
        if part.ndim != 1 or not len(part) or not ((part >= 0) & (part <= 1)).all():
            raise FaceganError(
                f"{name} must be a 1-D array of values in [0, 1] with at least one entry, got shape {part.shape}; "
                "pass one joint verdict per image."
            )
    if not floors:
        raise FaceganError("floor_verdicts is empty, expected at least one array; pass the verdicts on G1's samples.")
    floor = max(float(part.mean()) for part in parts[2:])
    span = float(parts[1].mean()) - floor
    if span <= 0:
        return Interval(math.nan, math.nan, math.nan)
    generator = np.random.Generator(np.random.Philox(seed))
    rates, ceilings, *lows = (_bootstrap_means(part, resamples, generator) for part in parts)
    lowest = np.max(lows, axis=0)
    above, spans = rates - lowest, ceilings - lowest
    ratios = np.where(spans > 0, above / np.where(spans > 0, spans, 1), np.where(above > 0, np.inf, -np.inf))
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail], method="nearest")
    return Interval((float(parts[0].mean()) - floor) / span, float(low), float(high))


def laplacian_sharpness(images: Tensor) -> Tensor:
    """[N]: variance of the 4-neighbour Laplacian of the BT.601 luma, inside the border; images [N, 3, H, W]."""
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < 3:
        raise FaceganError(f"images must be [N, 3, H, W] with H, W >= 3, got {tuple(images.shape)}; pass a batch of RGB faces.")
    weight = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device).reshape(1, 3, 1, 1)
    kernel = images.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).reshape(1, 1, 3, 3)
    return F.conv2d((images * weight).sum(1, keepdim=True), kernel).flatten(1).var(1, unbiased=False)


def blur_for(images: Tensor, target: float) -> float:
    """The sigma of the one Gaussian that brings the images' median :func:`laplacian_sharpness` down to ``target``.

    0 for images already that soft: nothing is ever sharpened. The sigma is found by bisection; it ends at a quarter of the
    width, beyond which a face is a flat patch.
    """
    if not target >= 0:
        raise FaceganError(f"target must be a sharpness >= 0, got {target}; pass the samples' median sharpness.")
    if not len(images) or float(laplacian_sharpness(images).median()) <= target:
        return 0.0
    low, high = 0.0, images.shape[-1] / 4
    for _ in range(20):
        middle = (low + high) / 2
        if float(laplacian_sharpness(blurred(images, middle)).median()) > target:
            low = middle
        else:
            high = middle
    return high


def blurred(images: Tensor, sigma: float) -> Tensor:
    return gaussian_blur(images, torch.tensor([sigma])) if sigma else images
