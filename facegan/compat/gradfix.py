"""Convolutions whose weight gradients can be left out, as both `conv2d_gradfix` have them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from facegan import ops
from facegan.compat.arguments import Pair, numbers


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1
) -> Tensor:
    """Compute `F.conv2d` by `facegan.ops.conv2d`, which differentiates twice at speed; PyTorch's own where an argument is beyond it."""
    steps, pads = _one(stride), _one(padding)
    if input.ndim != 4 or steps is None or pads is None or _one(dilation) != 1:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return ops.conv2d(input, weight, bias, stride=steps, padding=pads, groups=groups)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Tensor:
    """Compute `F.conv_transpose2d` likewise."""
    steps, pads = _one(stride), _one(padding)
    if input.ndim != 4 or steps is None or pads is None or _one(dilation) != 1 or _one(output_padding) != 0:
        return F.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
    return ops.conv2d(input, weight, bias, stride=steps, padding=pads, groups=groups, transposed=True)


def _one(value: Pair) -> int | None:
    """The number that holds for both axes, or None."""
    if isinstance(value, str):  # padding="same"
        return None
    values = {*numbers("an argument of a convolution", value, 1, 2)}
    return values.pop() if len(values) == 1 else None
