"""Method B's objective on one page: StyleGAN2-ADA (Karras et al. 2020a, section 3.2 and appendix B; 2020b).

    L(D)  = E softplus(D(G(z))) + E softplus(-D(x))                    non-saturating logistic loss (Goodfellow et al. 2014)
    L(G)  = E softplus(-D(G(z)))
    R1    = gamma / 2  E |grad_x D(x)|^2                               every 16 steps (Mescheder et al. 2018, eq. 9)
    PL    = weight  E (|J_w^T y| - a)^2,  y ~ N(0, I) / sqrt(H W)      every 4 steps; a follows the mean length

x and G(z) are seen through the same augmentation, whose strength p is steered so that E sign D(x) stays at 0.6. A penalty taken
every k steps is a step of its own, weighted by k; Adam's rate and betas are set to the power k / (k + 1) in return, so that
k + 1 steps move as far and remember as long as k did (lazy regularisation, 2020a, appendix B).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """L(D) of scores [N]."""
    return softplus(fake).mean() + softplus(-real).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """L(G) of scores [N]."""
    return softplus(-fake).mean()


def path_length_loss(lengths: Tensor, mean: Tensor) -> Tensor:
    """PL without its weight; `mean` is a, held fixed."""
    return (lengths - mean).square().mean()


def lazy(lr: float, betas: tuple[float, float], every: int) -> tuple[float, tuple[float, float]]:
    """Adam's rate and betas where one step in `every` brings another one for the penalty; `every` 0: there is no penalty."""
    ratio = every / (every + 1) if every else 1.0
    return lr * ratio, (betas[0] ** ratio, betas[1] ** ratio)
