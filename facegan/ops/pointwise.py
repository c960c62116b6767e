"""The toRGB layer's 1 x 1 convolution: few output channels and weights of its own for every sample.

Its styles multiply the weight, [N, O, I] and tiny, so that the one large tensor, x, is read once and never scaled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan.ops.formats import empty, like, suggests_channels_last
from facegan.ops.modulation import OP, wide
from facegan.ops.registration import Operators, register, uncast


def pointwise_ref(x: Tensor, w: Tensor) -> Tensor:
    """X [N, I, H, W], w [N, O, I] -> [N, O, H, W] in x's dtype and format: a 1 x 1 convolution of its own for every sample."""
    (n, _, height, width), outputs = x.shape, w.shape[1]
    if suggests_channels_last(x):
        with uncast(x):
            y = torch.bmm(x.permute(0, 2, 3, 1).flatten(1, 2), w.to(x.dtype).mT)
        return y.view(n, height, width, outputs).permute(0, 3, 1, 2)
    with uncast(x):
        return torch.bmm(w.to(x.dtype), x.flatten(2)).view(n, outputs, height, width)


def pointwise_backward_ref(dy: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `pointwise`: x's in its dtype, w's [N, O, I] in float32 or wider."""
    with uncast(x):
        dw = wide(dy).flatten(2) @ wide(x).flatten(2).mT
    dx = pointwise_ref(dy, w.mT)
    return like(dx, x), dw


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, ops: Operators) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.ops = ops
        y: Tensor = ops.pointwise.kernel(x, w)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, w = ctx.saved_tensors
        dx, dw = ctx.ops.pointwise_backward(dy, x, w)
        return dx, dw.to(w.dtype), None


class _PointwiseBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, w: Tensor, ops: Operators) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(dy, x, w)
        ctx.ops = ops
        dx, dw = ops.pointwise_backward.kernel(dy, x, w)
        return dx, dw

    @staticmethod
    def backward(ctx: Any, gdx: Tensor, gdw: Tensor) -> tuple[Any, ...]:
        (dy, x, w), ops = ctx.saved_tensors, ctx.ops
        d_dy = ops.pointwise(gdx, w) + ops.pointwise(x, gdw)
        d_x, d_w = ops.pointwise_backward(dy, gdx, gdw)
        return d_dy, d_x, d_w.to(w.dtype), None


register(
    OP,
    "pointwise(Tensor x, Tensor w) -> Tensor",
    fake=lambda x, w: empty(x, (x.shape[0], w.shape[1], *x.shape[2:])),
    autograd=_Pointwise,
    reference=pointwise_ref,
    optional=True,
)
register(
    OP,
    "pointwise_backward(Tensor dy, Tensor x, Tensor w) -> (Tensor, Tensor)",
    fake=lambda dy, x, w: (empty(x), wide(x).new_empty(w.shape)),
    autograd=_PointwiseBackward,
    reference=pointwise_backward_ref,
    optional=True,
)
