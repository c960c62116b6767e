"""The toRGB layer's 1 x 1 convolution: few output channels and weights of its own for every sample.

Its styles multiply the weight, [N, O, I] and tiny, so that the one large tensor, x, is read once and never scaled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan.ops.modulation import OP, wide
from facegan.ops.registration import like, register, uncast


def pointwise_ref(x: Tensor, w: Tensor) -> Tensor:
    """x [N, I, H, W], w [N, O, I] -> [N, O, H, W] in x's dtype and format: a 1 x 1 convolution of its own for every sample."""
    (n, _, height, width), outputs = x.shape, w.shape[1]
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        with uncast(x):
            y = x.permute(0, 2, 3, 1).flatten(1, 2) @ w.to(x.dtype).mT
        return y.view(n, height, width, outputs).permute(0, 3, 1, 2)
    with uncast(x):
        return (w.to(x.dtype) @ x.flatten(2)).view(n, outputs, height, width)


def pointwise_backward_ref(dy: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `pointwise`: x's in its dtype, w's [N, O, I] in float32 or wider."""
    with uncast(x):
        dw = wide(dy).flatten(2) @ wide(x).flatten(2).mT
    dx = pointwise_ref(dy, w.mT)
    return dx.contiguous(memory_format=torch._prims_common.suggest_memory_format(x)), dw


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, chosen: str) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.chosen = chosen
        y: Tensor = pointwise(x, w, chosen)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, w = ctx.saved_tensors
        dx, dw = torch.ops.facegan.pointwise_backward(dy, x, w, ctx.chosen)
        return dx, dw.to(w.dtype), None


class _PointwiseBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, w: Tensor, chosen: str) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(dy, x, w)
        ctx.chosen = chosen
        dx, dw = pointwise_backward(dy, x, w, chosen)
        return dx, dw

    @staticmethod
    def backward(ctx: Any, gdx: Tensor, gdw: Tensor) -> tuple[Any, ...]:
        dy, x, w = ctx.saved_tensors
        d_dy = torch.ops.facegan.pointwise(gdx, w, ctx.chosen) + torch.ops.facegan.pointwise(x, gdw, ctx.chosen)
        d_x, d_w = torch.ops.facegan.pointwise_backward(dy, gdx, gdw, ctx.chosen)
        return d_dy, d_x, d_w.to(w.dtype), None


pointwise = register(
    OP,
    "pointwise(Tensor x, Tensor w, str backend) -> Tensor",
    fake=lambda x, w, _: like(x, (x.shape[0], w.shape[1], *x.shape[2:])),
    autograd=_Pointwise.apply,
    reference=pointwise_ref,
    optional=True,
)
pointwise_backward = register(
    OP,
    "pointwise_backward(Tensor dy, Tensor x, Tensor w, str backend) -> (Tensor, Tensor)",
    fake=lambda dy, x, w, _: (like(x), wide(x).new_empty(w.shape)),
    autograd=_PointwiseBackward.apply,
    reference=pointwise_backward_ref,
    optional=True,
)
