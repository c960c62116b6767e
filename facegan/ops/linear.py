"""Fully connected layers with half of the calls in the backward pass: a generator has one for each of its layers, all of them tiny."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from facegan.ops.conv2d import weight_gradients_wanted


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `F.linear` with gradients of every order and half of the calls in its backward pass.

    Inside `no_weight_gradients()` the weight's and the bias's are left out, as those of `conv2d` are.

    Args:
        x: [..., I] floating point.
        weight: [O, I] in x's dtype (autocast casts).
        bias: [O] in x's dtype; None for none.

    Returns:
        [..., O] in x's dtype.
    """
    own_graph = (
        x.ndim == 2
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled(x.device.type)
        and torch._C._any_requires_grad(x, weight, bias)
    )
    return _apply(x, weight, bias) if own_graph else F.linear(x, weight, bias)


class _Linear(torch.autograd.Function):
    """Transposes nothing but the cotangent; PyTorch's own transposes weight, input and the weight's gradient besides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias = bias is not None
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_w, need_b = ctx.needs_input_grad
        wanted = weight_gradients_wanted()
        return (
            dy @ weight if need_x else None,
            dy.t() @ x if need_w and wanted else None,
            dy.sum(0) if ctx.bias and need_b and wanted else None,
        )


_apply = super(torch.autograd.Function, _Linear).apply  # without another look at functorch
