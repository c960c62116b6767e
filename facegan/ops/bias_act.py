"""Bias, activation, gain and clamp in one pass: `y = clamp(gain * act(x + b))`.

Every activation offered has a derivative that is a function of its output, so the backward pass needs y alone:
with `a = y / gain`, act' is 1 or alpha by the sign of a (linear, relu, lrelu), `1 - a^2` (tanh), `a (1 - a)` (sigmoid).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.formats import empty
from facegan.ops.registration import by_pytorch, operators, register

# He initialisation's gain of each activation; StyleGAN2 multiplies by it at run time.
DEFAULT_GAINS = {"linear": 1.0, "relu": math.sqrt(2), "lrelu": math.sqrt(2), "tanh": 1.0, "sigmoid": 1.0}
HOMOGENEOUS = ("linear", "relu", "lrelu")  # act(g x) = g act(x) for g > 0


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`clamp(gain * act(x + b))`, elementwise.

    Args:
        x: floating point tensor of any shape and memory format; the result has its shape, dtype and format.
        b: bias [x.shape[dim]], cast to x's dtype; None for none.
        dim: dimension of x that the bias runs along.
        act: "linear", "relu", "lrelu", "tanh" or "sigmoid".
        alpha: slope of lrelu below zero, not negative.
        gain: factor after the activation, not zero; None for sqrt 2 (relu, lrelu) or 1.
        clamp: the result is limited to [-clamp, clamp]; None for no limit.
    """
    gain = check_activation("bias_act", act, alpha, gain, clamp)
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
    if chosen == "reference":
        return bias_act_ref(x, b, dim, act, alpha, gain, clamp)
    y: Tensor = operators(chosen).bias_act(x, b, dim % max(x.ndim, 1), act, alpha, gain, clamp)
    return y


def check_activation(op: str, act: str, alpha: float, gain: float | None, clamp: float | None) -> float:
    """Checks what all ops with an activation share; returns the gain, filled in when None."""
    if act not in DEFAULT_GAINS:
        raise FaceganError(f"{op}: act is {act!r}; expected one of {', '.join(DEFAULT_GAINS)}.")
    if alpha < 0:
        raise FaceganError(f"{op}: alpha is {alpha}; expected a slope that is not negative.")
    if clamp is not None and not clamp > 0:
        raise FaceganError(f"{op}: clamp is {clamp}; expected a positive limit, or None for no limit.")
    if gain is None:
        return DEFAULT_GAINS[act]
    if gain == 0 or not math.isfinite(gain):
        raise FaceganError(f"{op}: gain is {gain}; expected a finite number other than zero, or None for the default.")
    return gain


def bias_act_ref(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`bias_act` in PyTorch, in as few passes over x as eager mode allows; arguments as there, unchecked."""
    gain = DEFAULT_GAINS[act] if gain is None else gain
    fresh = b is not None
    if b is not None:
        trailing = x.ndim - 1 - dim if dim >= 0 else -1 - dim
        b = b.to(x.dtype).view(-1, *(1,) * trailing)  # broadcasts from the right
    if gain != 1 and gain > 0 and act in HOMOGENEOUS:
        # the gain moves inside, where one pass does bias and gain together
        x = x * gain if b is None else torch.add(b * gain, x, alpha=gain)
        gain, fresh = 1.0, True
    elif b is not None:
        x = x + b
    x = activate(x, act, alpha, inplace=fresh)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def activate(x: Tensor, act: str, alpha: float, inplace: bool) -> Tensor:
    """The bare activation; `inplace` only on a tensor that nobody else holds."""
    if act == "lrelu":
        return F.leaky_relu(x, alpha, inplace=inplace)
    if act == "relu":
        return F.relu(x, inplace=inplace)
    if act == "tanh":
        return torch.tanh(x)
    if act == "sigmoid":
        return torch.sigmoid(x)
    return x


def activation_slope(y: Tensor, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """D y / d (x + b) as a function of y, differentiable in y."""
    if act == "linear":
        slope = torch.full_like(y, gain)
    elif act == "tanh":
        slope = gain - y * y / gain  # gain (1 - a^2)
    elif act == "sigmoid":
        slope = y - y * y / gain  # gain a (1 - a)
    else:
        below = gain * alpha if act == "lrelu" else 0.0
        above = y.new_full((), gain)  # of y's dtype; two plain numbers would meet in float32
        slope = torch.where(y > 0 if gain > 0 else y < 0, above, below)
    return slope if clamp is None else torch.where(y.abs() < clamp, slope, 0.0)


def slope_derivative(y: Tensor, act: str, gain: float, clamp: float | None) -> Tensor:
    """D slope / d y of tanh and sigmoid; the other slopes are constant but for their steps."""
    derivative = -2 * y / gain if act == "tanh" else 1 - 2 * y / gain
    return derivative if clamp is None else torch.where(y.abs() < clamp, derivative, 0.0)


def bias_act_backward_ref(
    dy: Tensor, y: Tensor, dim: int, act: str, alpha: float, gain: float, clamp: float | None, bias: bool
) -> tuple[Tensor, Tensor]:
    """Gradients (dx, db) from the output y; db is empty when `bias` is false. Sums are in float32 or wider."""
    dx = dy * activation_slope(y, act, alpha, gain, clamp)
    others = [i for i in range(y.ndim) if i != dim]
    if not bias:
        return dx, dx.new_empty(0)
    return dx, dx.sum(others) if others else dx.clone()


def bias_act_double_backward_ref(
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
    """Gradients (dy, y) of `bias_act_backward`, whose outputs' gradients are ddx, ddb; that of y is empty where it is zero."""
    t = ddx if ddb is None else ddx + ddb.view(-1, *(1,) * (y.ndim - 1 - dim))
    d_dy = t * activation_slope(y, act, alpha, gain, clamp)
    return d_dy, d_dy.new_empty(0) if act in HOMOGENEOUS else t * dy * slope_derivative(y, act, gain, clamp)


class _BiasAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor | None, *options: Any) -> Tensor:
        *activation, ops = options
        y: Tensor = ops.bias_act.kernel(x, b, *activation)
        ctx.save_for_backward(y)
        ctx.set_materialize_grads(False)  # a second-order graph meets y without a gradient of its own
        ctx.activation, ctx.ops = activation, ops
        ctx.bias = b is not None and ctx.needs_input_grad[1]
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 8
        dx, db = ctx.ops.bias_act_backward(dy, *ctx.saved_tensors, *ctx.activation, ctx.bias)
        return dx, db if ctx.bias else None, *(None,) * 6


class _BiasActBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, y: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
        dim, act, alpha, gain, clamp, bias, ops = options
        # a slope that is constant but for its step needs no dy, which is a whole map to keep: y stands in for it
        ctx.save_for_backward(y if act in HOMOGENEOUS else dy, y)
        ctx.activation, ctx.bias, ctx.ops = (dim, act, alpha, gain, clamp), bias, ops
        dx, db = ops.bias_act_backward.kernel(dy, y, *ctx.activation, bias)
        return dx, db

    @staticmethod
    def backward(ctx: Any, ddx: Tensor, ddb: Tensor) -> tuple[Any, ...]:
        dy, y = ctx.saved_tensors
        d_dy, d_y = ctx.ops.bias_act_double_backward(ddx, ddb if ctx.bias else None, dy, y, *ctx.activation)
        return d_dy, d_y if ctx.activation[1] not in HOMOGENEOUS else None, *(None,) * 7


_ACTIVATION = "str act, float alpha, float gain, float? clamp"

register(
    "bias_act",
    f"bias_act(Tensor x, Tensor? b, int dim, {_ACTIVATION}) -> Tensor",
    fake=lambda x, *_: empty(x),
    autograd=_BiasAct,
    reference=bias_act_ref,
)
register(
    "bias_act",
    f"bias_act_backward(Tensor dy, Tensor y, int dim, {_ACTIVATION}, bool bias) -> (Tensor, Tensor)",
    fake=lambda dy, y, dim, act, alpha, gain, clamp, bias: (empty(dy), dy.new_empty(y.shape[dim] if bias else 0)),
    autograd=_BiasActBackward,
    reference=bias_act_backward_ref,
)
register(
    "bias_act",
    f"bias_act_double_backward(Tensor ddx, Tensor? ddb, Tensor dy, Tensor y, int dim, {_ACTIVATION}) -> (Tensor, Tensor)",
    fake=lambda ddx, ddb, dy, y, dim, act, *_: (empty(y), y.new_empty(0) if act in HOMOGENEOUS else empty(y)),
    autograd=by_pytorch(bias_act_double_backward_ref),
    reference=bias_act_double_backward_ref,
)
