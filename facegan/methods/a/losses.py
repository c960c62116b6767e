"""Method A's objective, equation by equation (docs/method.md; LSGAN: Mao et al. 2017, coding 0/1).

All means are over the batch, where the source has sums, so that no weight depends on the batch size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def discriminator_loss(real: Tensor, fake: Tensor, target: Tensor | None = None, alphas: Sequence[float] = (1.0, 1.0, 0.0)) -> Tensor:
    """L(D) = [a1 mean (D(x) - 1)^2 + a2 mean D(G(z))^2 + a3 mean (D(G(z)) - D2(G(z)))^2] / (a1 + a2 + a3).

    `real`, `fake`, `target`: scores [N]; `target` is the frozen critics' score of the same fakes. With a = (1, 1, 0) this is
    half of phase 1's plain LSGAN loss, which Adam does not notice.
    """
    a1, a2, a3 = alphas
    loss = a1 * (real - 1).square().mean() + a2 * fake.square().mean()
    if target is not None and a3:
        loss = loss + a3 * (fake - target).square().mean()
    else:
        a3 = 0.0
    return loss / (a1 + a2 + a3)


def generator_loss(fake: Tensor, satisfied: Tensor | None = None, betas: Sequence[float] = (1.0, 0.0)) -> Tensor:
    """L(G) = [b1 mean (D(G(z)) - 1)^2 + b2 mean (f(D2(G(z))) - 1)^2] / (b1 + b2); `satisfied` is f(D2(G(z)))."""
    b1, b2 = betas
    if satisfied is None or not b2:
        return (fake - 1).square().mean()
    return (b1 * (fake - 1).square().mean() + b2 * (satisfied - 1).square().mean()) / (b1 + b2)


def f(score: Tensor, kind: str) -> Tensor:
    """The source's omitted f. `min`, the default, is a one-sided hinge: a satisfied sample drops out of the loss."""
    if kind == "min":
        return score.clamp(max=1)
    if kind == "clamp":
        return score.clamp(0, 1)
    if kind == "sigmoid":
        return score.sigmoid()
    if kind == "identity":
        return score
    raise ValueError(f"f is {kind!r}: expected min, identity, clamp or sigmoid")
