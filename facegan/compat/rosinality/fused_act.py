"""`op.fused_act`, `basicsr.ops.fused_act.fused_act`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from facegan import ops
from facegan.errors import FaceganError


def fused_leaky_relu(
    input: Tensor, bias: Tensor | None = None, negative_slope: float = 0.2, scale: float = math.sqrt(2), device: Any = None
) -> Tensor:
    """Return `scale * leaky_relu(input + bias, negative_slope)`, the bias [C] along dimension 1; `device` is of no account."""
    return ops.bias_act(input, bias, 1, "lrelu", negative_slope, float(scale))


class FusedLeakyReLU(nn.Module):
    """The same with a bias of its own, which starts at zero: `FusedLeakyReLU(channel, [bias=True,] negative_slope, scale, device)`.

    The second argument is `bias` where it is a bool (rosinality), else the slope (BasicSR, pixel2style2pixel, GPEN).
    """

    def __init__(self, channel: int, *args: Any, **kwargs: Any) -> None:
        """Make the bias [channel]."""
        super().__init__()
        names = ["negative_slope", "scale", "device"]
        if args and isinstance(args[0], bool):
            names.insert(0, "bias")
        given = dict(zip(names, args, strict=False)) | kwargs
        unknown = sorted(set(given) - {"bias", "negative_slope", "scale", "device"})
        if unknown or len(args) > len(names):
            raise FaceganError(f"FusedLeakyReLU: got {', '.join(unknown) or f'{len(args)} arguments'}; expected bias, {', '.join(names)}.")
        self.bias = nn.Parameter(torch.zeros(channel)) if given.get("bias", True) else None
        self.negative_slope: float = given.get("negative_slope", 0.2)
        self.scale: float = given.get("scale", math.sqrt(2))
        self.device = given.get("device")

    def forward(self, input: Tensor) -> Tensor:
        """Apply it to [N, C, ...]."""
        return fused_leaky_relu(input, self.bias, self.negative_slope, self.scale)
