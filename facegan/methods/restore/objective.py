"""The restorer's objective on one page (Yang et al. 2021, section 3.3, eq. 2-4; there with weights 1, 1 and 0.02).

y     = the face x, degraded                                        facegan.methods.restore.degradation
L(D)  = E softplus(D(G(y))) + E softplus(-D(x)) + R1 on x          as StyleGAN2's
L(G)  = adversarial  E softplus(-D(G(y)))
      + l1           E |G(y) - x|                                  mean over pixels of [-1, 1]
      + features     E sum_i |D_i(G(y)) - D_i(x)|                  D_i: what D's block i makes of a face; mean over its values
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, softplus


class Losses(NamedTuple):
    """The three terms of L(G), without their weights."""

    adversarial: Tensor
    l1: Tensor
    features: Tensor


def losses(restored: Tensor, faces: Tensor, scores: Tensor, features: Sequence[Tensor], target_features: Sequence[Tensor]) -> Losses:
    """`scores` and `features` are D's of the restored faces, `target_features` of the faces themselves; both may be empty."""
    distances = [l1_loss(a.float(), b.float()) for a, b in zip(features, target_features, strict=True)]
    distance = torch.stack(distances).sum() if distances else scores.new_zeros(())
    return Losses(softplus(-scores).mean(), l1_loss(restored, faces), distance)
