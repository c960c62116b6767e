"""Bias, activation, gain and clamp in one pass: `y = clamp(gain * act(x + b))`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.activation import (
    ACTIVATION_SCHEMA,
    HOMOGENEOUS,
    LINEAR,
    Activation,
    activate,
    activation_slope,
    check_activation,
    filled_activation,
    fused,
    keeps_nothing,
    limited,
    slope_derivative,
)
from facegan.ops.formats import empty_like_format
from facegan.ops.registration import Operators, by_pytorch, operators, register


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Add a bias, then apply an activation, its gain and a limit: `clamp(gain * act(x + b))`, elementwise.

    The default gain is that of He initialisation (He et al. 2015), applied at run time as in Karras et al. 2018, section 4.1.
    "elu", "selu", "softplus", "swish", lrelu with a negative alpha, and a gain or clamp of zero (zeros, and so are the gradients) are
    served by PyTorch's own operators on every backend, and keep what those keep for a backward pass. The rest are fused, and keep the
    result alone; "linear" without a clamp keeps nothing, so that its result may be written to.

    Args:
        x: floating point tensor of any shape and memory format.
        b: bias [x.shape[dim]], cast to x's dtype; None for none.
        dim: dimension of x that the bias runs along.
        act: "linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus" or "swish".
        alpha: slope of lrelu below zero; elu's factor is 1.
        gain: factor after the activation; None for sqrt 2 (relu, lrelu, swish) or 1.
        clamp: the result is limited to [-clamp, clamp], and has a gradient of 0 where it reaches a limit, also exactly; None for no limit.

    Returns:
        A tensor of x's shape, dtype and memory format.

    Raises:
        FaceganError: x is not floating point, b does not fit, or an option is out of range.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    activation = check_activation("bias_act", act, alpha, gain, clamp)
    if not x.is_floating_point():
        raise FaceganError(f"bias_act: x has dtype {x.dtype}; expected a floating point tensor.")
    if b is not None:
        if not -x.ndim <= dim < x.ndim:
            raise FaceganError(f"bias_act: dim is {dim}; expected a dimension of x, whose shape is {list(x.shape)}.")
        if b.ndim != 1 or b.shape[0] != x.shape[dim]:
            raise FaceganError(f"bias_act: b has shape {list(b.shape)}; expected [{x.shape[dim]}], x's size along dim {dim}.")
        if b.dtype != x.dtype:
            b = b.to(x.dtype)
    chosen = backend.select("bias_act", x)
    dim = dim if dim >= 0 else dim % max(x.ndim, 1)
    if chosen != "reference" and fused(activation):
        y: Tensor = operators(chosen).bias_act(x, b, dim, *activation)
        return y
    if chosen == "reference" or activation.gain == 0 or clamp == 0:
        y = biased_activation(x, b, dim, activation)
        return y.clone() if y is x else y
    y = biased_activation(x, b, dim, Activation(act, alpha))
    rest = LINEAR._replace(gain=activation.gain, clamp=clamp)
    return y if rest == LINEAR else operators(chosen).bias_act(y, None, dim, *rest)


def bias_act_ref(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Compute `bias_act` in PyTorch; arguments as there, unchecked."""
    return biased_activation(x, b, dim, filled_activation(act, alpha, gain, clamp))


def biased_activation(x: Tensor, b: Tensor | None, dim: int, activation: Activation) -> Tensor:
    """Return `clamp(gain * act(x + b))` in as few passes over x as eager mode allows."""
    act, alpha, gain, clamp = activation
    fresh = b is not None
    if b is not None:
        trailing = x.ndim - 1 - dim if dim >= 0 else -1 - dim
        b = b.to(x.dtype).view(-1, *(1,) * trailing)  # broadcasts from the right
    if gain == 0 or clamp == 0:  # zeros even of what is not finite, and gradients of zeros
        x = x if b is None else x + b
        return torch.where(torch.zeros((), dtype=torch.bool, device=x.device), x, 0.0)  # in x's format
    if gain != 1 and gain > 0 and act in HOMOGENEOUS:
        # the gain moves inside, where one pass does bias and gain together
        x = x * gain if b is None else torch.add(b * gain, x, alpha=gain)
        gain, fresh = 1.0, True
    elif b is not None:
        x = x + b
    x = activate(x, act, alpha, inplace=fresh)
    if gain != 1:
        x = x * gain
    return limited(x, clamp)


def bias_act_backward_ref(dy: Tensor, y: Tensor, dim: int, bias: bool, activation: Activation) -> tuple[Tensor, Tensor]:
    """Return the gradients (dx, db) from the output y; db is empty when `bias` is false. Sums are in float32 or wider."""
    dx = dy * activation_slope(y, activation)
    others = [i for i in range(y.ndim) if i != dim]
    if not bias:
        return dx, dx.new_empty(0)
    return dx, dx.sum(others) if others else dx.clone()


def bias_act_double_backward_ref(
    ddx: Tensor, ddb: Tensor | None, dy: Tensor, y: Tensor, dim: int, activation: Activation
) -> tuple[Tensor, Tensor]:
    """Return the gradients (dy, y) of `bias_act_backward` from those of its outputs; that of y is empty where it is zero."""
    t = ddx if ddb is None else ddx + ddb.view(-1, *(1,) * (y.ndim - 1 - dim))
    d_dy = t * activation_slope(y, activation)
    return d_dy, d_dy.new_empty(0) if activation.act in HOMOGENEOUS else t * dy * slope_derivative(y, activation)


class _BiasAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor | None, dim: int, activation: Activation, ops: Operators) -> Tensor:
        y: Tensor = ops.bias_act.kernel(x, b, dim, *activation)
        ctx.save_for_backward(None if keeps_nothing(activation) else y)
        ctx.set_materialize_grads(False)  # a second-order graph meets y without a gradient of its own
        ctx.bias = b is not None and ctx.needs_input_grad[1]
        ctx.options, ctx.ops = (dim, ctx.bias, *activation), ops
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 5
        (y,) = ctx.saved_tensors
        dx, db = ctx.ops.bias_act_backward(dy, dy if y is None else y, *ctx.options)
        return dx, db if ctx.bias else None, None, None, None


class _BiasActBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, y: Tensor, dim: int, bias: bool, activation: Activation, ops: Operators) -> tuple[Tensor, Tensor]:
        # a slope that is constant but for its step needs no dy, which is a whole map to keep, and one that is constant no y
        kept = None if keeps_nothing(activation) else y
        ctx.save_for_backward(kept if activation.act in HOMOGENEOUS else dy, kept)
        ctx.options, ctx.bias, ctx.ops = (dim, *activation), bias, ops
        dx, db = ops.bias_act_backward.kernel(dy, y, dim, bias, *activation)
        return dx, db

    @staticmethod
    def backward(ctx: Any, ddx: Tensor, ddb: Tensor) -> tuple[Any, ...]:
        dy, y = (ddx if t is None else t for t in ctx.saved_tensors)
        d_dy, d_y = ctx.ops.bias_act_double_backward(ddx, ddb if ctx.bias else None, dy, y, *ctx.options)
        return d_dy, d_y if ctx.options[1] not in HOMOGENEOUS else None, None, None, None, None


register(
    "bias_act",
    f"bias_act(Tensor x, Tensor? b, int dim, {ACTIVATION_SCHEMA}) -> Tensor",
    fake=lambda x, *_: empty_like_format(x),
    autograd=_BiasAct,
    reference=biased_activation,
)
register(
    "bias_act",
    f"bias_act_backward(Tensor dy, Tensor y, int dim, bool bias, {ACTIVATION_SCHEMA}) -> (Tensor, Tensor)",
    fake=lambda dy, y, dim, bias, _: (empty_like_format(dy), dy.new_empty(y.shape[dim] if bias else 0)),
    autograd=_BiasActBackward,
    reference=bias_act_backward_ref,
)
register(
    "bias_act",
    f"bias_act_double_backward(Tensor ddx, Tensor? ddb, Tensor dy, Tensor y, int dim, {ACTIVATION_SCHEMA}) -> (Tensor, Tensor)",
    fake=lambda ddx, ddb, dy, y, dim, activation: (
        empty_like_format(y),
        y.new_empty(0) if activation.act in HOMOGENEOUS else empty_like_format(y),
    ),
    autograd=by_pytorch(bias_act_double_backward_ref),
    reference=bias_act_double_backward_ref,
)
