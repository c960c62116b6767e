"""`filtered_lrelu` composed of a backend's own `upfirdn2d`: for a CPU, and for what the fused kernel of Triton does not take.

Nothing here is recorded for a gradient, so that the map between the filters is changed where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from facegan_kernels.dtypes import limit_in

Upfirdn2d = Callable[[Tensor, Tensor, tuple[int, int], tuple[int, int], Sequence[int], bool, float], Tensor]
ONE, NO_PADDING = (1, 1), (0, 0, 0, 0)


class Options(NamedTuple):
    """What both operators take after the tensors; `facegan.ops.filtered_lrelu` says what it means."""

    up: int
    down: int
    padding: Sequence[int]
    gain: float
    slope: float
    clamp: float | None
    flip_filter: bool


def filtered_lrelu(upfirdn2d: Upfirdn2d, x: Tensor, fu: Tensor, fd: Tensor, options: Options) -> Tensor:
    """y [N, C, H', W'] of x [N, C, H, W], to which the bias has been added."""
    v = _activated(_upsampled(upfirdn2d, x, fu, options, _inside(options)), options, options.clamp)
    return upfirdn2d(v, fd, ONE, (options.down, options.down), NO_PADDING, options.flip_filter, 1.0)


def filtered_lrelu_slope(upfirdn2d: Upfirdn2d, a: Tensor, x: Tensor, fu: Tensor, fd: Tensor, options: Options, adjoint: bool) -> Tensor:
    """Its derivative at x applied to a of x's shape or, where `adjoint`, the derivative's transpose applied to a of the result's."""
    if adjoint and x.numel() == 0:
        return a.new_zeros(x.shape)
    to_x, to_v, flip = (options.up, options.up), (options.down, options.down), options.flip_filter
    v = _upsampled(upfirdn2d, x, fu, options, _inside(options))
    if adjoint:
        before = adjoint_padding(v.shape[2:], a.shape[2:], fd, 1, options.down, NO_PADDING)
        w = upfirdn2d(a, fd, to_v, ONE, before, not flip, options.gain)
    else:
        w = _upsampled(upfirdn2d, a, fu, options, options.gain)
    torch.ops.aten.leaky_relu_backward.grad_input(w, v, options.slope, False, grad_input=w)
    if options.clamp is not None:
        y = _activated(v, options, None)
        w.masked_fill_(y.abs_() >= limit_in(y.dtype, options.clamp), 0.0)
    if not adjoint:
        return upfirdn2d(w, fd, ONE, to_v, NO_PADDING, flip, 1.0)
    after = adjoint_padding(x.shape[2:], v.shape[2:], fu, options.up, 1, options.padding)
    return upfirdn2d(w, fu, ONE, to_x, after, not flip, float(options.up**2))


def _inside(options: Options) -> float:
    """The part of the gain that the filter's pass can multiply by: lrelu(g v) = g lrelu(v) for g > 0."""
    return options.gain if options.gain > 0 else 1.0


def _upsampled(upfirdn2d: Upfirdn2d, x: Tensor, fu: Tensor, options: Options, gain: float) -> Tensor:
    up = options.up
    return upfirdn2d(x, fu, (up, up), ONE, options.padding, options.flip_filter, up * up * gain)


def _activated(v: Tensor, options: Options, clamp: float | None) -> Tensor:
    """clamp(gain * lrelu(v)) in v's memory, where `_inside` is in v already."""
    torch.ops.aten.leaky_relu_(v, options.slope)
    if options.gain <= 0:
        v *= options.gain
    if clamp is None:
        return v
    limit = limit_in(v.dtype, clamp)
    return v.clamp_(-limit, limit)


def adjoint_padding(sizes: Sequence[int], out: Sequence[int], f: Tensor, up: int, down: int, padding: Sequence[int]) -> list[int]:
    """With which `out` pixels are mapped back to `sizes` (`facegan.ops.upfirdn2d.adjoint_padding`)."""
    pads = []
    for axis, taps in enumerate((f.shape[0], f.shape[-1])):
        before = padding[2 * axis]
        pads += [taps - 1 - before, sizes[axis] * up - out[axis] * down + before - up + 1]
    return pads
