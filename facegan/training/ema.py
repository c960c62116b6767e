"""A running average of a network's weights, its time constant counted in images (Karras et al. 2020)."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Average(Generic[M]):
    """Holds `network`, an averaged copy of `source` that is never trained and never prepared by Accelerate."""

    def __init__(self, source: M, half_life_images: float, rampup: float = 0.1) -> None:
        self.half_life, self.rampup = half_life_images, rampup
        self.source = source
        self.network = copy.deepcopy(source).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, batch: int, images_seen: int) -> None:
        """After a step of `batch` images; early on the half-life is capped at `rampup` of what was seen."""
        half_life = min(self.half_life, self.rampup * images_seen)
        beta = 0.5 ** (batch / half_life) if half_life > 0 else 0.0
        averaged: list[Tensor] = [*self.network.parameters()]
        current = [p.detach() for p in self.source.parameters()]
        torch._foreach_lerp_(averaged, current, 1.0 - beta)
        for kept, new in zip(self.network.buffers(), self.source.buffers(), strict=True):
            kept.copy_(new)
