"""Means and differences over seeds, with intervals that say how little few seeds tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, mean, stdev

from facegan.evaluation.joint_rate import Interval, wilson

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
    """Mean and its 95 % t-interval: what another seed may give. With one seed there is none: NaN limits."""
    if len(values) < 2:
        return Interval(mean(values), math.nan, math.nan)
    half = t975(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(mean(values), mean(values) - half, mean(values) + half)


def pooled(rates: Sequence[float], samples: Sequence[int]) -> Interval:
    """All samples of all seeds as one: Wilson's interval, of these networks only; another seed may differ by more."""
    return wilson(sum(rate * n for rate, n in zip(rates, samples, strict=True)), sum(samples))


def rate_over_seeds(rates: Sequence[float], samples: Sequence[int], independent: bool = True) -> Interval:
    """Mean rate with its t-interval over seeds, within [0, 1], but never narrower than the pooled interval of the samples, as few seeds
    may agree by chance. One seed: the interval of its samples. `independent`: whether samples are; else theirs is not known."""
    found = within(over_seeds(rates), 0.0)
    if not independent:
        return found
    own = pooled(rates, samples)
    return own if len(rates) < 2 else Interval(found.rate, min(found.low, own.low), max(found.high, own.high))


def within(interval: Interval, least: float) -> Interval:
    """Limits cut off where no rate (`least` 0) or difference (-1) can be; NaN limits stay."""
    if not math.isfinite(interval.low):
        return interval
    return Interval(interval.rate, max(least, interval.low), min(1.0, interval.high))


def newcombe(rate: float, n: int, other: float, m: int) -> Interval:
    """Difference of two shares (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10)."""
    a, b = wilson(rate * n, n), wilson(other * m, m)
    low = rate - other - math.hypot(rate - a.low, b.high - other)
    high = rate - other + math.hypot(a.high - rate, other - b.low)
    return Interval(rate - other, low, high)


def difference(ours: dict[int, tuple[float, int]], theirs: dict[int, tuple[float, int]], independent: bool = True) -> Interval | None:
    """Rate of one row minus that of another, both {seed: (rate, samples)}, over the seeds that both have; None without any.

    Two and more seeds are paired: a t-interval of the differences, within [-1, 1], never narrower than Newcombe's of the pooled
    samples. One seed: Newcombe's, of the samples only; where samples are not `independent`, NaN limits.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    paired = within(over_seeds([ours[seed][0] - theirs[seed][0] for seed in seeds]), -1.0)
    if not independent:
        return paired
    counts = [sum(row[seed][1] for seed in seeds) for row in (ours, theirs)]
    shares = [sum(rate * n for rate, n in map(row.__getitem__, seeds)) / count for row, count in zip((ours, theirs), counts, strict=True)]
    own = newcombe(shares[0], counts[0], shares[1], counts[1])
    return own if len(seeds) < 2 else Interval(paired.rate, min(paired.low, own.low), max(paired.high, own.high))


def verdict(interval: Interval, seeds: int) -> str:
    """What a difference over so many seeds says, in a word or two."""
    if not math.isfinite(interval.low):
        return "one seed, no verdict"
    known = "" if seeds > 1 else " (this seed)"
    if interval.low > 0:
        return "helps" + known
    if interval.high < 0:
        return "hurts" + known
    return "no clear difference" + known
