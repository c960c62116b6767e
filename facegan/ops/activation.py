"""An activation with its slope, gain and clamp as one value, and its formulas: `y = clamp(gain * act(x))`.

The `FUSED` ones have a derivative that is a function of the output, so that a backward pass needs y alone: with `a = y / gain`, act' is
1 or alpha by the sign of a (linear, relu, lrelu), `1 - a^2` (tanh), `a (1 - a)` (sigmoid). The others run by PyTorch's own operators.

At a limit: the derivative is 0 where |y| reaches the clamp, also where it does so exactly, as y alone cannot tell a value that met the
limit from one that was cut off there. What is not a number is not clamped, forward or backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.errors import FaceganError

# He initialisation's gain of each activation; StyleGAN2 multiplies by it at run time.
DEFAULT_GAINS = {"linear": 1.0, "relu": math.sqrt(2), "lrelu": math.sqrt(2), "tanh": 1.0, "sigmoid": 1.0}
FUSED = tuple(DEFAULT_GAINS)  # those that kernels know
DEFAULT_GAINS |= {"elu": 1.0, "selu": 1.0, "softplus": 1.0, "swish": math.sqrt(2)}
HOMOGENEOUS = ("linear", "relu", "lrelu")  # act(g x) = g act(x) for g > 0
ACTIVATION_SCHEMA = "str act, float alpha, float gain, float? clamp"  # the last arguments of a registered operator


class Activation(NamedTuple):
    """The function `clamp(gain * act(x))`; `bias_act` says what the fields may be."""

    act: str = "linear"
    alpha: float = 0.2  # slope of lrelu below zero, of no account for the others
    gain: float = 1.0
    clamp: float | None = None


LINEAR = Activation()  # the identity
# (class, fields): a NamedTuple without its own constructor, which takes three times as long, a twentieth of a small op's call
as_named: Callable[..., Any] = tuple.__new__


def filled_activation(act: str, alpha: float, gain: float | None, clamp: float | None) -> Activation:
    """Return the arguments as one value, with the default gain in place of None."""
    return Activation(act, alpha, DEFAULT_GAINS[act] if gain is None else gain, clamp)


def check_activation(op: str, act: str, alpha: float, gain: float | None, clamp: float | None) -> Activation:
    """Return the arguments as one value, after the checks that all ops with an activation share."""
    if act not in DEFAULT_GAINS:
        raise FaceganError(f"{op}: act is {act!r}; expected one of {', '.join(DEFAULT_GAINS)}.")
    if not math.isfinite(alpha):
        raise FaceganError(f"{op}: alpha is {alpha}; expected a finite slope.")
    if clamp is not None and not clamp >= 0:
        raise FaceganError(f"{op}: clamp is {clamp}; expected a limit that is not negative, or None for no limit.")
    if gain is None:
        gain = DEFAULT_GAINS[act]
    elif not math.isfinite(gain):
        raise FaceganError(f"{op}: gain is {gain}; expected a finite number, or None for the default.")
    activation: Activation = as_named(Activation, (act, alpha, gain, clamp))
    return activation


def fused(activation: Activation) -> bool:
    """Whether kernels know the activation: they take its derivative from the output, which for these would not tell it."""
    act, alpha, gain, clamp = activation
    return act in FUSED and gain != 0 and clamp != 0 and (alpha >= 0 or act != "lrelu")


def keeps_nothing(activation: Activation) -> bool:
    """Whether the slope is one number, for which a backward pass needs no output: linear without a limit."""
    return activation.act == "linear" and activation.clamp is None


def activate(x: Tensor, act: str, alpha: float, inplace: bool) -> Tensor:
    """Apply the bare activation; `inplace` only on a tensor that nobody else holds."""
    if act == "lrelu":
        return F.leaky_relu(x, alpha, inplace=inplace and alpha >= 0)  # below zero the output does not tell the input's sign
    if act == "relu":
        return F.relu(x, inplace=inplace)
    if act == "tanh":
        return torch.tanh(x)
    if act == "sigmoid":
        return torch.sigmoid(x)
    if act == "elu":
        return F.elu(x)
    if act == "selu":
        return F.selu(x)
    if act == "softplus":
        return F.softplus(x, threshold=40.0)  # from where log(1 + e^x) is x in float64 too
    return F.silu(x) if act == "swish" else x


def activation_slope(y: Tensor, activation: Activation) -> Tensor:
    """Return d y / d x as a function of y, differentiable in y."""
    act, alpha, gain, clamp = activation
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
    return unclamped(slope, y, clamp)


def slope_derivative(y: Tensor, activation: Activation) -> Tensor:
    """Return d slope / d y of tanh and sigmoid; the other slopes are constant but for their steps."""
    derivative = -2 * y / activation.gain if activation.act == "tanh" else 1 - 2 * y / activation.gain
    return unclamped(derivative, y, activation.clamp)


def limit_in(dtype: torch.dtype, clamp: float) -> float:
    """Return the clamp as a number of the dtype, which an element at the limit equals: the nearest one, and never infinite.

    Plain arithmetic, so that a compiler that computes half types in float32 compares with the same number.
    """
    info = torch.finfo(dtype)
    if clamp >= info.max:
        return info.max
    step = math.ldexp(info.eps, math.frexp(max(clamp, info.tiny))[1] - 1)  # between neighbours of the clamp
    return min(round(clamp / step) * step, info.max)


def limited(x: Tensor, clamp: float | None) -> Tensor:
    """Return x within [-clamp, clamp], with a gradient of 0 at the limit, where that of torch.clamp is 1.

    hardtanh's is 0 there, but what it is for NaN depends on where in memory that lies (PyTorch 2.13 on a CPU).
    """
    if clamp is None:
        return x
    limit = limit_in(x.dtype, clamp)
    y = x.detach().clamp(-limit, limit)
    return torch.where(y.abs() >= limit, y, x)


def unclamped(x: Tensor, y: Tensor, clamp: float | None) -> Tensor:
    """Return x, zero where the output y is at the limit."""
    return x if clamp is None else torch.where(y.abs() >= limit_in(y.dtype, clamp), 0.0, x)
