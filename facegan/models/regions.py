"""Styles that hold in a part of the image: in every layer the maps are those of one style here and of another there.

After Collins et al. 2020, "Editing in Style", and Suzuki et al. 2018, "Spatially Controllable Image Synthesis with Internal
Representation Collaging".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from facegan.errors import FaceganError

SHARED_FROM = 16  # px: from this size on one convolution serves all styles of a layer; smaller masks are too coarse for that


class Part(NamedTuple):
    """What a layer needs to know of the regions."""

    w: Tensor  # [N, K, w_dim], the style of each region
    masks: Tensor  # [1 or N, K, H', W'], at the size that the layer writes


@dataclass(frozen=True, eq=False)
class Regions:
    """K styles beside the face's own, each where its mask is."""

    ws: Tensor  # [N, K, num_ws, w_dim]
    masks: Tensor  # [1 or N, K, R, R] from 0, the face's own style, to 1, that of the region; their sum at a pixel is 1 at most

    def checked(self, batch: int, num_ws: int, w_dim: int, resolution: int) -> Regions:
        """Self, where it fits a batch of styles.

        Raises:
            FaceganError: shapes do not fit together.
        """
        count = self.ws.shape[1] if self.ws.ndim == 4 else 0
        if self.ws.shape != (batch, count, num_ws, w_dim) or not count:
            raise FaceganError(f"styles of regions have shape {list(self.ws.shape)}; expected [{batch}, K, {num_ws}, {w_dim}].")
        if self.masks.shape not in ((1, count, resolution, resolution), (batch, count, resolution, resolution)):
            raise FaceganError(
                f"masks have shape {list(self.masks.shape)}; expected [1 or {batch}, {count}, {resolution}, {resolution}], one per region."
            )
        return self

    def pyramid(self, sizes: Sequence[int]) -> dict[int, Tensor]:
        """The masks at each size: the mean over the pixels that one of that size covers."""
        masks = self.masks.to(self.ws.device)
        return {size: masks if size == masks.shape[2] else adaptive_avg_pool2d(masks, size) for size in sizes}


def blended(own: Tensor, others: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Maps [N, C, H, W] of the face's own style and of K regions, and masks [1 or N, K, H, W] -> own + sum_k mask_k (others_k - own)."""
    y = own
    for other, mask in zip(others, masks.to(own.dtype).unbind(1), strict=True):
        y = torch.addcmul(y, other - own, mask[:, None])
    return y
