"""Probabilities: by an independent optimiser, by Bayes' rule on drawn scores, and figures of a case counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facegan.labelling.calibration import figures, moved, platt, share_among, verdicts


def likelihood(scores: np.ndarray, y: np.ndarray, a: float, b: float) -> float:
    """Platt's regularised log-likelihood, term by term."""
    yes, no = sum(y == 1), sum(y == 0)
    total = 0.0
    for s, label in zip(scores, y, strict=True):
        t = (yes + 1) / (yes + 2) if label == 1 else 1 / (no + 2)
        p = 1 / (1 + math.exp(-(a * s + b)))
        total += t * math.log(p) + (1 - t) * math.log(1 - p)
    return total


@pytest.mark.parametrize(("yes", "no", "apart"), [(40, 60, 1.0), (8, 300, 2.0), (9, 8, 0.3)])
def test_platt_is_the_most_likely_sigmoid(yes: int, no: int, apart: float) -> None:
    random = np.random.default_rng(yes)
    y = np.repeat([1.0, 0.0], [yes, no])
    scores = random.normal(apart * y, 0.7)
    a, b = platt(scores, y)
    x, target = torch.from_numpy(scores), torch.from_numpy(np.where(y == 1, (yes + 1) / (yes + 2), 1 / (no + 2)))
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([w], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(w[0] * x + w[1], target, reduction="sum")
        loss.backward()
        return loss

    optimiser.step(closure)
    np.testing.assert_allclose([a, b], w.detach().numpy(), rtol=1e-5, atol=1e-6)
    for da, db in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert likelihood(scores, y, a, b) > likelihood(scores, y, a + da, b + db)


def test_parted_scores_of_few_faces_are_no_certainties() -> None:
    y = np.repeat([1.0, 0.0], [8, 8])
    a, b = platt(y.copy(), y)
    assert 1 / (1 + math.exp(-(a + b))) == pytest.approx(9 / 10, abs=1e-6)
    assert 1 / (1 + math.exp(-b)) == pytest.approx(1 / 10, abs=1e-6)


@pytest.mark.parametrize("scores", [np.repeat([0.0, 1.0], 10), np.full(20, 0.4)])
def test_scores_that_say_nothing_become_the_share(scores: np.ndarray) -> None:
    a, b = platt(scores, np.repeat([1.0, 0.0], 10))
    assert a == pytest.approx(0, abs=1e-9) and b == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("true", [0.02, 0.1, 0.5, 0.9])
def test_the_share_among_others_is_found_and_probabilities_hold_there(true: float) -> None:
    """Scores N(+-1, 1): the probability at a share q is known, sigmoid(2 s + logit q)."""
    random = np.random.default_rng(3)
    y = random.random(40_000) < true
    s = random.normal(np.where(y, 1.0, -1.0), 1.0)
    where_half = 1 / (1 + np.exp(-2 * s))
    found = share_among(where_half, 0.5)
    # The most likely share, by trying all, where two faces of a hundred are added of whom half have it.
    tried = np.linspace(0.001, 0.999, 999)
    odds = np.exp(2 * s)
    likely = [np.log(q * odds + 1 - q).sum() + 0.02 * len(s) * 0.5 * (math.log(q) + math.log(1 - q)) for q in tried]
    assert found == pytest.approx(tried[np.argmax(likely)], abs=0.001)
    assert found == pytest.approx(y.mean(), abs=0.03)
    np.testing.assert_allclose(moved(where_half, 0.5, true), 1 / (1 + np.exp(-(2 * s + math.log(true / (1 - true))))), rtol=1e-9)


def test_few_faces_do_not_move_the_share_far() -> None:
    assert share_among(np.array([]), 0.3) == pytest.approx(0.3)
    assert 0.3 * 10 / 12 <= share_among(np.array([0.01, 0.01]), 0.3) < 0.3


def test_verdicts_take_the_thresholds_themselves() -> None:
    np.testing.assert_array_equal(verdicts(np.array([0.1, 0.11, 0.5, 0.89, 0.9, 1.0]), 0.9, 0.1), [0, np.nan, np.nan, np.nan, 1, 1])


def test_figures_counted_by_hand() -> None:
    p = np.array([0.95, 0.92, 0.6, 0.4, 0.05, 0.95, 0.55, 0.2, 0.08, 0.02])
    y = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    f = figures(p, y, 0.9, 0.1, 0.25)
    assert (f.positives, f.negatives, f.labelled_share, f.share) == (5, 5, 0.5, 0.25)
    assert f.accuracy == pytest.approx(0.6) and f.balanced_accuracy == pytest.approx((3 / 5 + 3 / 5) / 2)
    assert f.unknown == pytest.approx(4 / 10) and f.sure_error == pytest.approx(2 / 6)
    wins = sum((a > b) + (a == b) / 2 for a in p[:5] for b in p[5:])
    assert f.auc == pytest.approx(wins / 25)
    bins = [((0.02, 0), (0.05, 1)), ((0.08, 0), (0.2, 0)), ((0.4, 1), (0.55, 0)), ((0.6, 1), (0.92, 1)), ((0.95, 1), (0.95, 0))]
    expected = sum(2 * abs((a + c) / 2 - (b + d) / 2) for (a, b), (c, d) in bins) / 10
    assert f.calibration_error == pytest.approx(expected)


def test_balanced_accuracy_is_that_of_sides_as_common_as_each_other() -> None:
    """Two of ten have it: 0.3 stands for more than even odds where half have it, by Bayes' rule 0.3 * 4 / (0.3 * 4 + 0.7) = 0.63."""
    f = figures(np.array([0.3, 0.15, *[0.05] * 7, 0.25]), np.array([1, 1, *[0] * 8]), 0.9, 0.1, 0.2)
    assert f.balanced_accuracy == pytest.approx((1 / 2 + 7 / 8) / 2) and f.accuracy == pytest.approx(0.8)


def test_none_is_sure() -> None:
    f = figures(np.full(4, 0.5), np.array([1, 1, 0, 0]), 0.9, 0.1, 0.5)
    assert f.unknown == 1 and math.isnan(f.sure_error) and f.auc == 0.5
