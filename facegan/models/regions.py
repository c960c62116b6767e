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


class Areas(NamedTuple):
    """Where the styles [N, 1 + K, C] of a size's layers hold: the first where no mask is."""

    masks: Tensor  # [1 or N, K, H', W'], at the size that the layer writes
    blend: bool  # a layer for each style, blended, instead of one convolution for all of them


@dataclass(frozen=True, eq=False)
class Regions:
    """K styles beside the face's own, each where its mask is."""

    ws: Tensor  # [N, K, num_ws, w_dim], or points of style space [N, K, num_style_channels]
    masks: Tensor  # [1 or N, K, R, R] from 0, the face's own style, to 1, that of the region; their sum at a pixel is 1 at most
    shared_from: int = SHARED_FROM  # px; below, a layer is computed for each style, which follows the mask and costs as often

    def checked(self, own: Sequence[int], resolution: int) -> Regions:
        """Self, where it fits faces whose own styles have the shape `own`, [N, num_ws, w_dim] or [N, num_style_channels].

        Raises:
            FaceganError: shapes do not fit together.
        """
        batch, *point = own
        count = self.ws.shape[1] if self.ws.ndim == 1 + len(own) else 0
        if self.ws.shape != (batch, count, *point) or not count:
            expected = ", ".join(map(str, (batch, "K", *point)))
            raise FaceganError(f"styles of regions have shape {list(self.ws.shape)}; expected [{expected}].")
        if self.masks.shape not in ((1, count, resolution, resolution), (batch, count, resolution, resolution)):
            raise FaceganError(
                f"masks have shape {list(self.masks.shape)}; expected [1 or {batch}, {count}, {resolution}, {resolution}], one per region."
            )
        return self

    def joined(self, ws: Tensor) -> Tensor:
        """The face's own styles [N, ...] and those of the regions: [N, 1 + K, ...]."""
        return torch.cat([ws[:, None], self.ws.to(ws)], dim=1)

    def areas(self, sizes: Sequence[int]) -> dict[int, Areas]:
        """The masks at each size: the mean over the pixels that one of that size covers."""
        masks = self.masks.to(self.ws.device)
        return {size: Areas(self._resized(masks, size), size < self.shared_from) for size in sizes}

    @staticmethod
    def _resized(masks: Tensor, size: int) -> Tensor:
        return masks if size == masks.shape[2] else adaptive_avg_pool2d(masks, size)
