"""KID, FID, precision and recall against closed forms and the papers' sums, and what becomes of them without the extra."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch

from facegan.errors import FaceganError
from facegan.evaluation.quality import compare
from facegan.extras import NEEDED, available, library

needs_extra = pytest.mark.skipif(not available(), reason=NEEDED)
NAMES = ["kid_attr", "kid_attr_sd", "fid_attr", "precision_attr", "recall_attr"]


def normal(num, size, seed):
    return torch.randn(num, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(num, mean, covariance, seed):
    """[num, D] whose sample mean and covariance (over num - 1) are exactly these."""
    x = normal(num, len(mean), seed)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean


@needs_extra
def test_fid_is_the_frechet_distance_of_two_gaussians():
    """In one dimension (Frechet 1957): (m1 - m2)^2 + (s1 - s2)^2; in more, for covariances with common eigenvectors, the sum of these."""
    turn = torch.linalg.qr(normal(3, 3, 5))[0]
    first, second = torch.tensor([4.0, 1.0, 0.25]).double(), torch.tensor([1.0, 9.0, 0.25]).double()
    means = torch.tensor([1.0, 0.0, -2.0]).double(), torch.tensor([0.0, 2.0, -2.0]).double()
    a, b = (with_moments(50 + i, m, turn @ torch.diag(v) @ turn.T, i) for i, (m, v) in enumerate(zip(means, (first, second), strict=True)))
    expected = (means[0] - means[1]).square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    assert compare(a, b)["fid_attr"] == pytest.approx(float(expected), rel=1e-6)
    assert compare(a, a)["fid_attr"] == pytest.approx(0, abs=1e-6)


@needs_extra
def test_kid_is_the_unbiased_mmd_of_the_cubic_kernel():
    """Binkowski et al. 2018, eq. 4, written as sums over pairs; of two images each there is only one subset."""
    a, b = normal(2, 5, 1), normal(2, 5, 2) + 1

    def kernel(x, y):
        return float((x @ y / 5 + 1) ** 3)

    within = (2 * kernel(part[0], part[1]) / 2 for part in (a, b))
    across = sum(kernel(x, y) for x, y in itertools.product(a, b)) / 4
    found = compare(a, b)
    assert found["kid_attr"] == pytest.approx(sum(within) - 2 * across, rel=1e-9) and found["kid_attr_sd"] < 1e-9


@needs_extra
def test_kid_of_one_distribution_is_about_zero_and_of_two_is_not():
    a, b = normal(300, 8, 1).float(), normal(200, 8, 2).float()
    same, other = compare(a, b, ""), compare(a + 1, b, "")
    assert list(same) == ["kid", "kid_sd", "fid", "precision", "recall"]
    assert abs(same["kid"]) < same["kid_sd"] and other["kid"] > 5 * other["kid_sd"] > 0


@needs_extra
def test_precision_and_recall_tell_what_is_missing():
    real = torch.cat([normal(60, 4, 1), normal(60, 4, 2) + 50]).float()
    assert compare(real, real) == pytest.approx({**compare(real, real), "precision_attr": 1.0, "recall_attr": 1.0})
    held_out = compare(real + 1000, real)
    assert held_out["precision_attr"] == held_out["recall_attr"] == 0
    dropped = compare(real[:60].repeat_interleave(2, 0) + 1e-3 * normal(120, 4, 3).float(), real)  # one of the two modes
    assert dropped["precision_attr"] == 1 and 0 < dropped["recall_attr"] <= 0.5


@needs_extra
def test_the_larger_set_is_taken_in_pieces_of_the_smaller():
    a, b = normal(100, 4, 1).float(), normal(30, 4, 2).float()
    pieces = [compare(a[start : start + 30], b) for start in (0, 30, 60)]
    for name in ("precision_attr", "recall_attr"):
        assert compare(a, b)[name] == pytest.approx(sum(piece[name] for piece in pieces) / 3)


@needs_extra
def test_the_same_features_give_the_same_figures_and_chance_is_left_alone():
    a, b = normal(50, 4, 1).float(), normal(40, 4, 2).float()
    state = torch.random.get_rng_state()
    assert compare(a, b) == compare(a, b) and list(compare(a, b)) == NAMES
    assert torch.equal(state, torch.random.get_rng_state())


@needs_extra
def test_sets_too_small_to_tell_are_none():
    assert compare(normal(1, 4, 1), normal(9, 4, 2)) == dict.fromkeys(NAMES)
    few = compare(normal(3, 4, 1), normal(9, 4, 2))
    assert few["precision_attr"] is few["recall_attr"] is None and few["kid_attr"] is not None and few["fid_attr"] is not None


def test_features_that_do_not_fit_are_refused():
    good = torch.zeros(5, 4)
    for bad in (torch.zeros(5, 3), torch.zeros(5), torch.zeros(5, 4, dtype=torch.int64)):
        with pytest.raises(FaceganError, match="features_b is"):
            compare(good, bad)
    with pytest.raises(FaceganError, match="not finite"):
        compare(good, torch.full((5, 4), float("nan")))


def test_a_missing_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch_fidelity")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert not available()
    with pytest.raises(FaceganError, match=r"pip install 'facegan\[metrics\]'"):
        library("torch_fidelity")
    with pytest.raises(FaceganError, match="pip install"):
        compare(torch.zeros(5, 4), torch.zeros(5, 4))
