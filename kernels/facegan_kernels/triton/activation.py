"""The activations, their slopes as functions of the output and the slopes' derivatives, in float32 or wider.

`facegan.ops.bias_act` states the formulas. A kernel knows three of them: "piecewise" (linear, relu and lrelu differ in the slope
below zero alone), "tanh" and "sigmoid". Slope, gain and clamp are arguments of a kernel and not constants of it, so that one
compiled kernel serves every layer. They are float64, as a Python float that meets a compiled kernel is float32 unless it is
annotated, and so is a literal in `tl.where`, `tl.maximum` or a comparison (up to Triton 3.7): what float32 cannot hold is
written `tl.full([], value, dtype)`. The interpreter shows none of this; `make kernel-check` does.

No clamp is an infinite one. A clamp is the limit as the output's dtype holds it (`limit_in`), since
what the forward pass cut off is known by |y| = clamp. NaN stays NaN everywhere.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from facegan_kernels.dtypes import limit_in

_SLOPES = {"linear": 1.0, "relu": 0.0}


class Activation(NamedTuple):
    """What a kernel is given: constexpr ACT, then three float64 scalars."""

    ACT: str
    slope: float
    gain: float
    clamp: float


def activation_of(given: tuple[Any, ...], dtype: torch.dtype) -> Activation:
    """`given`: act, alpha, gain and clamp, with which an operator's schema ends; `dtype`: of the output."""
    act, alpha, gain, clamp = given
    kind = act if act in ("tanh", "sigmoid") else "piecewise"
    return Activation(kind, float(_SLOPES.get(act, alpha)), float(gain), limit_in(dtype, clamp))


NONE = Activation("piecewise", 1.0, 1.0, math.inf)


@triton.jit
def scalars(slope, gain, clamp, ACC: tl.constexpr):
    """The three arguments in the type that a kernel computes in."""
    return tl.full([], slope, ACC), tl.full([], gain, ACC), tl.full([], clamp, ACC)


@triton.jit
def activate(v, ACT: tl.constexpr, slope, gain, clamp):
    """clamp(gain * act(v))"""
    if ACT == "piecewise":
        v = tl.where(v < 0, tl.where(slope == 0, 0.0, v * slope), v)  # of -inf too, relu is 0
    elif ACT == "tanh":
        decay = tl.exp(-2 * tl.abs(v))  # at most 1: no overflow on either side
        square = v * v
        near_zero = v * (1 - square * (1 / 3 - square * (2 / 15 - square * (17 / 315))))  # where 1 - decay would cancel
        small = square < tl.full([], 1e-3, v.dtype)
        v = tl.where(small, near_zero, tl.where(v < 0, decay - 1, 1 - decay) / (1 + decay))
    elif ACT == "sigmoid":
        decay = tl.exp(-tl.abs(v))
        v = tl.where(v < 0, decay, 1.0) / (1 + decay)
    v = v * gain
    return tl.where(v > clamp, clamp, tl.where(v < -clamp, -clamp, v))


@triton.jit
def times_slope(g, y, ACT: tl.constexpr, slope, gain, clamp):
    """g * d y / d (pre-activation)"""
    if ACT == "tanh":
        g = g * (gain - y * y / gain)
    elif ACT == "sigmoid":
        g = g * (y - y * y / gain)
    else:
        g = g * gain
        g = tl.where(tl.where(gain > 0, y, -y) > 0, g, g * slope)
    return unclamped(g, y, clamp)


@triton.jit
def times_slope_derivative(g, y, ACT: tl.constexpr, gain, clamp):
    """g * d slope / d y of tanh and sigmoid; the other slopes are constant but for their steps."""
    if ACT == "tanh":
        g = g * (-2 / gain) * y
    else:
        g = g * (1 - (2 / gain) * y)
    return unclamped(g, y, clamp)


@triton.jit
def unclamped(g, y, clamp):
    """g, zero where the output y is at the limit; what is not a number is not."""
    return tl.where(clamp == float("inf"), g, tl.where(tl.abs(y) >= clamp, 0.0, g))
