"""Leaky ReLU between two FIR filters: the nonlinearity of Karras et al. 2021 ("Alias-free generative adversarial networks", StyleGAN3).

A pointwise nonlinearity makes frequencies beyond what its sampling grid holds, which would alias; section 2.2 therefore applies it
to a map of `up` times the rate, whose filter fu has made it smooth, and lets the filter fd take away again what the result cannot hold.

With U = zero-insertion, padding and fu, and D = fd and decimation: `y = D(act(U(x + b)))`. Its derivatives are
`J(x) = D diag(act'(U(x + b))) U` and the transpose; act' is constant but for its steps, so that J(x) and its transpose are linear
maps that are each other's gradient, and one registered operator, `filtered_lrelu_slope`, serves every order. It computes U(x + b)
anew: what is kept for a backward pass is x itself, and none of the upsampled map, which is up * up times as large.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.activation import limited, unclamped
from facegan.ops.formats import empty_like_format
from facegan.ops.registration import operators, register
from facegan.ops.upfirdn2d import Pair, _output_shape, _taps, adjoint_padding, four_sides, upfirdn2d_ref


def filtered_lrelu(
    x: Tensor,
    fu: Tensor | None = None,
    fd: Tensor | None = None,
    b: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Pair = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
) -> Tensor:
    """Add a bias, upsample, apply leaky ReLU with gain and limit, downsample: the nonlinearity of Karras et al. 2021, section 2.2.

    `upfirdn2d(clamp(gain * lrelu(upfirdn2d(x + b, fu, up=up, padding=padding, gain=up * up))), fd, down=down)`. On a GPU one kernel
    that never writes the upsampled map computes it, for float32 and half types, `up` and `down` of 1, 2 or 4 and filters of at most 16
    taps, or 8 times their factor (StyleGAN3 has 6 times); others, and float64, run as the operators that it is composed of.

    Args:
        x: [N, C, H, W] floating point.
        fu: filter of upsampling [KU] (along both axes) or [KU, KU'], a constant without gradient; None for the single tap 1.
        fd: filter of downsampling, likewise.
        b: bias [C], added before zero-insertion so that the padding stays zero, cast to x's dtype; None for none.
        up: factor of zero-insertion along both axes.
        down: factor of decimation along both axes.
        padding: pixels added after zero-insertion: p, (vertical, horizontal) or (top, bottom, left, right); negative crops. What
            fd is applied to is not padded.
        gain: factor after the activation.
        slope: of the activation below zero.
        clamp: the map that fd is applied to is limited to [-clamp, clamp], with a gradient of 0 where it reaches a limit, also exactly;
            None for no limit.
        flip_filter: False convolves with both filters, True correlates.

    Returns:
        [N, C, (H up + p - (KU - 1) - KD) // down + 1, ...] in x's dtype and memory format, p the sum of the padding along the axis.

    Raises:
        FaceganError: x is no floating point map, b or a filter does not fit, a number is out of range, or nothing would be left of
            the map.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    pads = _check(x, fu, fd, b, up, down, padding, gain, slope, clamp)
    chosen = backend.select("filtered_lrelu", x)
    if chosen == "reference":
        return filtered_lrelu_ref(x, fu, fd, b, up, down, pads, gain, slope, clamp, flip_filter)
    fu, fd = (x.new_ones(1) if f is None else f for f in (fu, fd))
    b = None if b is None else b.to(x.dtype)
    y: Tensor = operators(chosen).filtered_lrelu(x, fu, fd, b, up, down, pads, gain, slope, clamp, flip_filter)
    return y


def filtered_lrelu_ref(
    x: Tensor,
    fu: Tensor | None = None,
    fd: Tensor | None = None,
    b: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Pair = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
) -> Tensor:
    """Compute `filtered_lrelu` in PyTorch; arguments as there, unchecked."""
    inside = gain if gain > 0 else 1.0  # lrelu(g v) = g lrelu(v) then, and the filter's pass multiplies
    v = upfirdn2d_ref(_biased(x, b), fu, up, 1, padding, flip_filter, up * up * inside)
    v = F.leaky_relu(v, slope)
    if gain <= 0:
        v = v * gain
    v = limited(v, clamp)
    return upfirdn2d_ref(v, fd, 1, down, 0, flip_filter)


def filtered_lrelu_slope_ref(
    a: Tensor,
    x: Tensor,
    fu: Tensor,
    fd: Tensor,
    b: Tensor | None,
    up: int,
    down: int,
    padding: Pair,
    gain: float,
    slope: float,
    clamp: float | None,
    flip_filter: bool,
    adjoint: bool,
) -> Tensor:
    """Return J(x) a for a of x's shape or, where `adjoint`, J(x)^T a for a of the result's, J the derivative of `filtered_lrelu`."""
    if adjoint and x.numel() == 0:
        return a.new_zeros(x.shape)
    pads = four_sides(padding)
    v = upfirdn2d_ref(_biased(x, b), fu, up, 1, pads, flip_filter, up * up)
    slopes = torch.where(v > 0, v.new_full((), gain), v.new_full((), gain * slope))  # of v's dtype; two plain numbers would meet in float32
    slopes = unclamped(slopes, v * slopes, clamp)
    if not adjoint:
        return upfirdn2d_ref(upfirdn2d_ref(a, fu, up, 1, pads, flip_filter, up * up) * slopes, fd, 1, down, 0, flip_filter)
    to_x, to_v = (up, up), (down, down)
    before = adjoint_padding(v.shape[2:], a.shape[2:], _taps(fd), (1, 1), to_v, (0, 0, 0, 0))
    after = adjoint_padding(x.shape[2:], v.shape[2:], _taps(fu), to_x, (1, 1), pads)
    return upfirdn2d_ref(upfirdn2d_ref(a, fd, to_v, 1, before, not flip_filter) * slopes, fu, 1, to_x, after, not flip_filter, up * up)


def _biased(x: Tensor, b: Tensor | None) -> Tensor:
    return x if b is None else x + b.to(x.dtype)[:, None, None]


def _result_shape(x: Tensor, fu: Tensor | None, fd: Tensor | None, up: int, down: int, pads: Any) -> tuple[int, int, int, int]:
    """Of `filtered_lrelu`; also of what is left of the upsampled map where fd is None and down is 1."""
    taps = [(1, 1) if f is None else _taps(f) for f in (fu, fd)]
    n, c, height, width = _output_shape(x, taps[0], (up, up), (1, 1), pads)
    return n, c, (height - taps[1][0]) // down + 1, (width - taps[1][1]) // down + 1


def _check(
    x: Tensor,
    fu: Tensor | None,
    fd: Tensor | None,
    b: Tensor | None,
    up: int,
    down: int,
    padding: Pair,
    gain: float,
    slope: float,
    clamp: float | None,
) -> tuple[int, int, int, int]:
    """Refuse what is out of range; the padding as (top, bottom, left, right)."""
    if x.ndim != 4 or not x.is_floating_point():
        raise FaceganError(f"filtered_lrelu: x is {x.dtype} {list(x.shape)}; expected a floating point [N, C, H, W].")
    for name, f in (("fu", fu), ("fd", fd)):
        if f is not None and (f.ndim not in (1, 2) or f.numel() == 0):
            raise FaceganError(f"filtered_lrelu: {name} has shape {list(f.shape)}; expected [K] or [KH, KW] with at least one tap.")
        if f is not None and f.requires_grad:
            raise FaceganError(f"filtered_lrelu: {name} requires a gradient, but the filter is a constant; pass {name}.detach().")
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[1]):
        raise FaceganError(f"filtered_lrelu: b has shape {list(b.shape)}; expected [{x.shape[1]}], one number for each channel of x.")
    for name, factor in (("up", up), ("down", down)):
        if not isinstance(factor, int) or factor < 1:
            raise FaceganError(f"filtered_lrelu: {name} is {factor}; expected a positive integer, which holds for both axes.")
    for name, number in (("gain", gain), ("slope", slope)):
        if not math.isfinite(number):
            raise FaceganError(f"filtered_lrelu: {name} is {number}; expected a finite number.")
    if clamp is not None and not clamp >= 0:
        raise FaceganError(f"filtered_lrelu: clamp is {clamp}; expected a limit that is not negative, or None for no limit.")
    if not isinstance(padding, int) and len(padding) not in (2, 4):
        raise FaceganError(f"filtered_lrelu: padding is {padding}; expected p, (vertical, horizontal) or (top, bottom, left, right).")
    pads = four_sides(padding)
    # Python's division rounds down, so that a size below one pixel is never taken for one
    sizes = (*_result_shape(x, fu, None, up, 1, pads)[2:], *_result_shape(x, fu, fd, up, down, pads)[2:])
    if min(sizes) < 1:
        raise FaceganError(
            f"filtered_lrelu: x of {x.shape[2]} x {x.shape[3]} pixels, {up} times as many after padding {pads}, is smaller than the "
            f"filters; expected room for at least one output pixel."
        )
    return pads


class _FilteredLReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
        *options, ops = options  # type: ignore[assignment]
        y: Tensor = ops.filtered_lrelu.kernel(x, fu, fd, b, *options)
        ctx.save_for_backward(x, fu, fd, b)
        ctx.options, ctx.ops = options, ops
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        dx = ctx.ops.filtered_lrelu_slope(dy, *ctx.saved_tensors, *ctx.options, True)
        db = dx.sum((0, 2, 3)) if ctx.needs_input_grad[3] else None
        return dx, None, None, db, *(None,) * 8


class _FilteredLReLUSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
        *options, adjoint, ops = options  # type: ignore[assignment]
        y: Tensor = ops.filtered_lrelu_slope.kernel(a, x, fu, fd, b, *options, adjoint)
        ctx.save_for_backward(x, fu, fd, b)
        ctx.options, ctx.adjoint, ctx.ops = options, adjoint, ops
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        """Of a alone: with respect to x and b the derivative is zero but for act's steps."""
        return ctx.ops.filtered_lrelu_slope(g, *ctx.saved_tensors, *ctx.options, not ctx.adjoint), *(None,) * 13


_FILTERS, _OPTIONS = (
    "Tensor fu, Tensor fd, Tensor? b",
    "int up, int down, SymInt[4] padding, float gain, float slope, float? clamp, bool flip_filter",
)


def _fake(x: Tensor, fu: Tensor, fd: Tensor, b: Any, up: int, down: int, pads: Any, *_: Any) -> Tensor:
    return empty_like_format(x, _result_shape(x, fu, fd, up, down, pads))


def _fake_slope(a: Tensor, x: Tensor, fu: Tensor, fd: Tensor, b: Any, up: int, down: int, pads: Any, *options: Any) -> Tensor:
    return empty_like_format(a, x.shape if options[-1] else _result_shape(x, fu, fd, up, down, pads))


register(
    "filtered_lrelu",
    f"filtered_lrelu(Tensor x, {_FILTERS}, {_OPTIONS}) -> Tensor",
    fake=_fake,
    autograd=_FilteredLReLU,
    reference=filtered_lrelu_ref,
)
register(
    "filtered_lrelu",
    f"filtered_lrelu_slope(Tensor a, Tensor x, {_FILTERS}, {_OPTIONS}, bool adjoint) -> Tensor",
    fake=_fake_slope,
    autograd=_FilteredLReLUSlope,
    reference=filtered_lrelu_slope_ref,
)
