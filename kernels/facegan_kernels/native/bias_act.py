"""`bias_act` and its first two gradients: one pass each, the bias along c of [outer, c, inner]."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facegan_kernels.native import require
from facegan_kernels.native.layout import activation, as_format, dense, like, through_float32

require()
_ops = torch.ops.facegan_native
_bias_act = _ops.bias_act.default
_backward = _ops.bias_act_backward.default
_double_backward = _ops.bias_act_double_backward.default


def _extents(x: Tensor, dim: int, channels_last: bool) -> tuple[int, int, int]:
    """(outer, c, inner): the sizes before, along and after `dim` in the order of memory."""
    shape, at = x.shape, dim
    if channels_last:
        shape, at = torch.Size((shape[0], *shape[2:], shape[1])), (0, x.ndim - 1, *range(1, x.ndim - 1))[dim]
    return math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])


@through_float32(clamp=5)
def bias_act(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """`clamp(gain * act(x + b))`."""
    x, channels_last = dense(x)
    y = torch.empty_like(x)
    extents = (1, 1, x.numel()) if b is None else _extents(x, dim, channels_last)
    _bias_act(x, None if b is None else b.contiguous(), y, *extents, *activation(act, alpha, gain, clamp, x.dtype))
    return y


@through_float32(clamp=5)
def bias_act_backward(
    dy: Tensor, y: Tensor, dim: int, act: str, alpha: float, gain: float, clamp: float | None, bias: bool
) -> tuple[Tensor, Tensor]:
    """(dx, db), db empty when not `bias`."""
    dy, channels_last = dense(dy)
    y = as_format(y, channels_last)
    dx, db = torch.empty_like(dy), y.new_empty(y.shape[dim] if bias else 0)
    extents = _extents(y, dim, channels_last) if bias else (1, 1, y.numel())
    _backward(dy, y, dx, db if bias else None, *extents, *activation(act, alpha, gain, clamp, y.dtype))
    return dx, db


@through_float32(clamp=7)
def bias_act_double_backward(
    ddx: Tensor,
    ddb: Tensor | None,
    dy: Tensor,
    y: Tensor,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> tuple[Tensor, Tensor]:
    """(d_dy, d_y), d_y empty unless the slope varies with y (tanh, sigmoid)."""
    y_given = y
    y, channels_last = dense(y)
    ddx, dy = (as_format(t, channels_last) for t in (ddx, dy))
    varies = act in ("tanh", "sigmoid")
    d_dy = torch.empty_like(y)
    d_y = torch.empty_like(y) if varies else y.new_empty(0)
    extents = (1, 1, y.numel()) if ddb is None else _extents(y, dim, channels_last)
    options = activation(act, alpha, gain, clamp, y.dtype)
    _double_backward(ddx, None if ddb is None else ddb.contiguous(), dy, y, d_dy, d_y if varies else None, *extents, *options)
    return like(d_dy, y_given), d_y
