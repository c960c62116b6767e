"""Method A's objective against restatements of the source's equations in numpy float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan.methods.a.losses import discriminator_loss, f, generator_loss
from facegan.methods.common.regularizers import r1_penalty

RANDOM = np.random.default_rng(11)
REAL, FAKE, CRITIC = (2 * RANDOM.standard_normal(37) for _ in range(3))


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(ours: torch.Tensor, expected: float) -> None:
    np.testing.assert_allclose(float(ours.detach()), expected, rtol=1e-12)


def test_phase_1() -> None:
    """L(D1) = mean[(D1(x) - 1)^2] + mean[D1(G1(z))^2], here halved; L(G1) = mean[(D1(G1(z)) - 1)^2]."""
    close(2 * discriminator_loss(tensor(REAL), tensor(FAKE)), np.mean((REAL - 1) ** 2) + np.mean(FAKE**2))
    close(generator_loss(tensor(FAKE)), np.mean((FAKE - 1) ** 2))


@pytest.mark.parametrize("a", [(1.0, 1.0, 0.1), (0.5, 2.0, 3.0), (1.0, 0.0, 0.2)])
def test_discriminator_of_phase_3(a: tuple[float, float, float]) -> None:
    terms = np.mean((REAL - 1) ** 2), np.mean(FAKE**2), np.mean((FAKE - CRITIC) ** 2)
    expected = sum(weight * term for weight, term in zip(a, terms, strict=True)) / sum(a)
    close(discriminator_loss(tensor(REAL), tensor(FAKE), tensor(CRITIC), a), expected)
    without = sum(weight * term for weight, term in zip(a[:2], terms[:2], strict=True)) / sum(a[:2])
    close(discriminator_loss(tensor(REAL), tensor(FAKE), None, a), without)


F = {
    "min": lambda d: np.minimum(d, 1.0),
    "identity": lambda d: d,
    "clamp": lambda d: np.maximum(0.0, np.minimum(d, 1.0)),
    "sigmoid": lambda d: 1.0 / (1.0 + np.exp(-d)),
}


@pytest.mark.parametrize("kind", F)
@pytest.mark.parametrize("b", [(2.0, 30.0), (0.0, 1.0), (1.0, 0.0)])
def test_generator_of_phase_3(kind: str, b: tuple[float, float]) -> None:
    expected = (b[0] * np.mean((FAKE - 1) ** 2) + b[1] * np.mean((F[kind](CRITIC) - 1) ** 2)) / sum(b)
    close(generator_loss(tensor(FAKE), f(tensor(CRITIC), kind), b), expected)


def test_a_satisfied_sample_drops_out_of_the_hinge() -> None:
    scores = torch.tensor([-3.0, 0.5, 1.5, 7.0], requires_grad=True)
    (f(scores, "min") - 1).square().sum().backward()
    assert scores.grad.tolist() == [-8.0, -1.0, 0.0, 0.0]


def test_an_unknown_f_is_refused() -> None:
    with pytest.raises(ValueError, match="expected min, identity, clamp or sigmoid"):
        f(torch.zeros(1), "tanh")


def test_r1_of_a_linear_discriminator_and_of_a_square_one() -> None:
    """D = w.x: |grad|^2 = |w|^2, and the penalty's gradient is gamma w. D = (w.x)^2: |grad|^2 = 4 (w.x)^2 |w|^2."""
    w, x = (torch.tensor(RANDOM.standard_normal(shape)) for shape in ((12,), (5, 3, 2, 2)))
    w.requires_grad_(True)
    x.requires_grad_(True)
    gamma, flat = 0.7, x.flatten(1)
    penalty = r1_penalty(flat @ w, x, gamma)
    close(penalty, gamma / 2 * float(w.detach().square().sum()))
    torch.testing.assert_close(torch.autograd.grad(penalty, w)[0], gamma * w.detach())
    inner = (flat @ w).detach().numpy()
    expected = gamma / 2 * np.mean(4 * inner**2) * float(w.detach().square().sum())
    close(r1_penalty((flat @ w).square(), x, gamma), expected)


def test_r1_reaches_every_weight_of_a_discriminator_as_plain_autograd_does() -> None:
    """Against the penalty of the same convolutions written with torch.nn.functional, differentiated by autograd alone."""
    from facegan.nn import Conv2d

    torch.manual_seed(0)
    first, second = Conv2d(3, 4, 3, act="lrelu").double(), Conv2d(4, 1, 3).double()
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    weights = [first.weight, first.bias, second.weight]
    r1_penalty(second(first(x)).sum((1, 2, 3)), x, 2.0).backward()
    ours = [weight.grad.clone() for weight in weights[:1] + weights[2:]]

    hidden = torch.nn.functional.conv2d(x, first.weight / 27**0.5, first.bias, padding=1)
    hidden = torch.nn.functional.leaky_relu(hidden, 0.2) * 2**0.5
    score = torch.nn.functional.conv2d(hidden, second.weight / 36**0.5, padding=1).sum()
    (gradient,) = torch.autograd.grad(score, x, create_graph=True)
    expected = torch.autograd.grad(gradient.square().sum() / 2, [first.weight, second.weight])
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
