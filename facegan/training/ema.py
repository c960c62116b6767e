"""A running average of a network's weights, its time constant counted in images (Karras et al. 2020)."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Average(Generic[M]):
    """Holds `network`, an averaged copy of `source` that is never trained and never prepared by Accelerate."""

    def __init__(self, source: M, half_life_images: float, rampup: float = 0.1) -> None:
        self.half_life, self.rampup = half_life_images, rampup
        self.source = source
        self.network = copy.deepcopy(source).eval().requires_grad_(False)

    def weight(self, batch: int, images_seen: int) -> np.ndarray:
        """1 - beta, of a step of `batch` images, for `update`; early on the half-life is capped at `rampup` of what was seen."""
        half_life = min(self.half_life, self.rampup * images_seen)
        beta = 0.5 ** (batch / half_life) if half_life > 0 else 0.0
        return np.array(1.0 - beta)

    @torch.no_grad()
    def update(self, weight: Tensor) -> None:
        """After a step; `weight` is a tensor of no dimensions on the networks' device, as it differs from step to step."""
        averaged: list[Tensor] = [*self.network.parameters()]
        current: list[Tensor] = [*self.source.parameters()]
        weights = {dtype: weight.to(dtype) for dtype in {p.dtype for p in averaged}}
        if weight.device.type == "cpu":
            torch._foreach_lerp_(averaged, current, [weights[p.dtype] for p in averaged])
        else:  # lerp has no form that is one launch for all of them and takes a weight from the device
            difference = torch._foreach_sub(current, averaged)
            torch._foreach_mul_(difference, weights[averaged[0].dtype])
            torch._foreach_add_(averaged, difference)
        kept: list[Tensor] = [*self.network.buffers()]
        if kept:
            torch._foreach_copy_(kept, [*self.source.buffers()])
