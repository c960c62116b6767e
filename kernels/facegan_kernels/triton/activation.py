"""The activations, their slopes as functions of the output and the slopes' derivatives, in float32 or wider.

`facegan.ops.bias_act` states the formulas. CLAMP is the limit as the output's dtype holds it (`rounded`), since what the forward
pass cut off is known by |y| = CLAMP. NaN stays NaN everywhere.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl


@cache
def rounded(clamp: float | None, dtype: torch.dtype) -> float | None:
    """The limit that a clamped value of this dtype equals."""
    if clamp is None:
        return None
    # on the CPU whatever the default device is: a GPU would be waited for, and cannot be while a graph is captured
    return min(torch.tensor(clamp, dtype=torch.float64, device="cpu").to(dtype).item(), torch.finfo(dtype).max)


@triton.jit
def activate(v, ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr):
    """clamp(gain * act(v))"""
    if ACT == "relu":
        v = tl.where(v < 0, 0.0, v)
    elif ACT == "lrelu":
        v = tl.where(v < 0, v * ALPHA, v)
    elif ACT == "tanh":
        decay = tl.exp(-2 * tl.abs(v))  # at most 1: no overflow on either side
        square = v * v
        near_zero = v * (1 - square * (1 / 3 - square * (2 / 15 - square * (17 / 315))))  # where 1 - decay would cancel
        v = tl.where(square < 1e-3, near_zero, tl.where(v < 0, decay - 1, 1 - decay) / (1 + decay))
    elif ACT == "sigmoid":
        decay = tl.exp(-tl.abs(v))
        v = tl.where(v < 0, decay, 1.0) / (1 + decay)
    if GAIN != 1:
        v = v * GAIN
    if CLAMP is not None:
        v = tl.where(v > CLAMP, CLAMP, tl.where(v < -CLAMP, -CLAMP, v))
    return v


@triton.jit
def times_slope(g, y, ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr):
    """g * d y / d (pre-activation)"""
    if ACT == "tanh":
        g = g * (GAIN - y * y / GAIN)
    elif ACT == "sigmoid":
        g = g * (y - y * y / GAIN)
    else:
        g = g * GAIN
        if ACT == "relu" or ACT == "lrelu":
            below = g * (ALPHA if ACT == "lrelu" else 0.0)
            if GAIN > 0:
                g = tl.where(y > 0, g, below)
            else:
                g = tl.where(y < 0, g, below)
    return _cut(g, y, CLAMP)


@triton.jit
def times_slope_derivative(g, y, ACT: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr):
    """g * d slope / d y of tanh and sigmoid; the other slopes are constant but for their steps."""
    if ACT == "tanh":
        g = g * (-2 / GAIN) * y
    else:
        g = g * (1 - (2 / GAIN) * y)
    return _cut(g, y, CLAMP)


@triton.jit
def _cut(g, y, CLAMP: tl.constexpr):
    """g, zero where the output was clamped."""
    if CLAMP is not None:
        g = tl.where(tl.abs(y) < CLAMP, g, 0.0)
    return g
