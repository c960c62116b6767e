"""Means and differences over seeds, with intervals that say how little few seeds tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, mean, stdev

from facegan.metrics.joint_rate import Interval, wilson

# 97.5 % points of Student's t for 1 to 10 degrees of freedom.
T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def t975(freedom: int) -> float:
    """97.5 % point of Student's t; beyond the table by the first terms of its expansion about the normal's."""
    if freedom <= len(T975):
        return T975[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum(term / freedom**power for power, term in enumerate(terms))


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean and its 95 % t-interval; with one seed there is none: NaN limits."""
    if len(values) < 2:
        return Interval(mean(values), math.nan, math.nan)
    half = t975(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(mean(values), mean(values) - half, mean(values) + half)


def pooled(rates: Sequence[float], samples: Sequence[int]) -> Interval:
    """All samples of all seeds as one: Wilson's interval, of these networks only; another seed may differ by more."""
    return wilson(sum(rate * n for rate, n in zip(rates, samples, strict=True)), sum(samples))


def difference(ours: dict[int, tuple[float, int]], theirs: dict[int, tuple[float, int]]) -> Interval | None:
    """Rate of one row minus that of another, both {seed: (rate, samples)}, over the seeds that both have.

    Two and more seeds are paired: a t-interval of the differences. One seed: Newcombe's (1998, method 10), of the samples only.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    if len(seeds) > 1:
        return over_seeds([ours[seed][0] - theirs[seed][0] for seed in seeds])
    (rate, n), (other, m) = ours[seeds[0]], theirs[seeds[0]]
    a, b = wilson(rate * n, n), wilson(other * m, m)
    low = rate - other - math.hypot(rate - a.low, b.high - other)
    high = rate - other + math.hypot(a.high - rate, other - b.low)
    return Interval(rate - other, low, high)


def verdict(interval: Interval | None) -> str:
    """What a difference says, in a word or two."""
    if interval is None:
        return "not compared"
    if interval.low > 0:
        return "helps"
    if interval.high < 0:
        return "hurts"
    return "no clear difference"
