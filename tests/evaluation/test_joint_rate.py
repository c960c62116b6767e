from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan.errors import FaceganError
from facegan.evaluation.joint_rate import blur_for, blurred, laplacian_sharpness, normalised_joint_rate, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3 (score without continuity correction)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_matches_published_intervals(successes, n, low, high):
    interval = wilson(successes, n)
    assert interval.rate == successes / n
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 2 * n))))
@settings(max_examples=60, deadline=None)
def test_wilson_limits_are_the_roots_of_the_score_test(case):
    n, twice = case
    rate, low, high = wilson(twice / 2, n)
    assert 0 <= low <= rate <= high <= 1
    for limit in (low, high):  # |rate - limit| = z sqrt(limit (1 - limit) / n)
        assert abs(rate - limit) == pytest.approx(1.959964 * math.sqrt(limit * (1 - limit) / n), abs=1e-6)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(FaceganError, match="wilson"):
        wilson(successes, n)


def test_normalised_rate_is_the_ratio_and_takes_the_larger_floor():
    samples, ceiling = np.repeat([0.0, 0.5, 1.0], [40, 20, 40]), np.repeat([0.0, 1.0], [10, 90])
    low, high = np.repeat([0.0, 1.0], [99, 1]), np.repeat([0.0, 1.0], [80, 20])
    result = normalised_joint_rate(samples, [low, high], ceiling)
    assert result.rate == pytest.approx((0.5 - 0.2) / (0.9 - 0.2))
    assert result.low < result.rate < result.high
    assert result == normalised_joint_rate(samples, [low, high], ceiling)
    assert result != normalised_joint_rate(samples, [low, high], ceiling, seed=1)


def test_normalised_rate_without_a_span_is_not_a_number():
    result = normalised_joint_rate(np.ones(9), np.ones(9), np.zeros(9))
    assert all(math.isnan(value) for value in result)


def test_unbounded_where_floor_and_ceiling_can_coincide():
    result = normalised_joint_rate(np.array([1.0, 0, 1, 0, 1, 1]), np.array([0.0, 1, 0]), np.array([0.0, 1, 1]))
    assert result.high == math.inf


def test_bootstrap_interval_covers_the_truth():
    """Simulated experiments with known rates: 0.3 between a floor of 0.1 and a ceiling of 0.8, so 2/7."""
    draw = np.random.Generator(np.random.Philox(7))
    hits, trials = 0, 300
    for trial in range(trials):
        samples, floor, ceiling = ((draw.random(n) < p).astype(float) for n, p in ((300, 0.3), (200, 0.1), (110, 0.8)))
        _, low, high = normalised_joint_rate(samples, floor, ceiling, resamples=400, seed=trial)
        hits += low <= (0.3 - 0.1) / (0.8 - 0.1) <= high
    assert 0.91 <= hits / trials <= 0.985  # 95 % +- three standard errors of 300 trials


@pytest.mark.parametrize(("yes", "limits"), [(0, (0.0, 0.0369)), (1, (0.9631, 1.0))])
def test_where_all_say_the_same_the_next_set_may_not(yes, limits):
    """Jeffreys' 95 % interval of 0 and of 67 out of 67 ends at 2.5 and 97.5 % points of Beta(k + 1/2, n - k + 1/2) (integrated here)."""
    share = np.linspace(0, 1, 2_000_001)[1:-1]
    density = share ** (67 * yes - 0.5) * (1 - share) ** (67 * (1 - yes) - 0.5)
    below = np.cumsum(density) / density.sum()
    expected = [share[np.searchsorted(below, tail)] for tail in (0.025, 0.975)]
    assert expected == pytest.approx(limits, abs=1e-3)
    result = normalised_joint_rate(np.full(67, float(yes)), np.tile([0.0, 1.0], 500_000), np.ones(10**6), resamples=20_000)
    # floor 1/2 and ceiling 1, both known well: the rate stretches to twice its distance from 1/2
    assert (result.low, result.high) == pytest.approx([2 * limit - 1 for limit in expected], abs=0.02)


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.5]), np.ones((2, 2)), np.array([math.nan])])
def test_normalised_rate_names_the_bad_argument(bad):
    good = np.array([0.0, 1.0])
    with pytest.raises(FaceganError, match="sample_verdicts"):
        normalised_joint_rate(bad, good, good)
    with pytest.raises(FaceganError, match="ceiling_verdicts"):
        normalised_joint_rate(good, good, bad)
    with pytest.raises(FaceganError, match="floor_verdicts"):
        normalised_joint_rate(good, [good, bad], good)


def test_sharpness_closed_forms():
    row, column = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    plane = (0.03 * row - 0.05 * column).expand(1, 3, 9, 7)  # harmonic: the Laplacian is 0
    assert laplacian_sharpness(plane).item() == pytest.approx(0, abs=1e-12)
    board = ((row + column) % 2 * 2 - 1).expand(1, 3, 9, 7)  # +-1: the Laplacian is -8 times the board
    inside = board[0, 0, 1:-1, 1:-1].numpy() * -8
    assert laplacian_sharpness(board).item() == pytest.approx(inside.var(), rel=1e-5)
    spike = torch.zeros(1, 3, 9, 9)
    spike[0, 1, 4, 4] = 1.0  # green alone: luma 0.587; entries -4, 1, 1, 1, 1 among 49
    assert laplacian_sharpness(spike).item() == pytest.approx(0.587**2 * 20 / 49, rel=1e-5)


def test_sharpness_equals_a_loop():
    images = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(3)).double()
    luma = (0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]).numpy()
    for i, face in enumerate(luma):
        values = [
            face[y - 1, x] + face[y + 1, x] + face[y, x - 1] + face[y, x + 1] - 4 * face[y, x] for y in range(1, 5) for x in range(1, 4)
        ]
        assert laplacian_sharpness(images)[i].item() == pytest.approx(np.var(values), rel=1e-9)


def test_blur_reaches_the_target_and_never_sharpens():
    images = torch.rand(5, 3, 24, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before = laplacian_sharpness(images).median().item()
    for share in (0.5, 0.1, 0.01):
        after = laplacian_sharpness(blurred(images, blur_for(images, before * share))).median().item()
        assert after == pytest.approx(before * share, rel=1e-2)
    assert blur_for(images, before * 2) == 0 and blurred(images, 0.0) is images
    with pytest.raises(FaceganError, match="target"):
        blur_for(images, math.nan)
    with pytest.raises(FaceganError, match="images"):
        laplacian_sharpness(torch.zeros(3, 8, 8))
