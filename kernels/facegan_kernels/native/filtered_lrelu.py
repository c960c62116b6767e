"""`filtered_lrelu` by the compiled `upfirdn2d`, a few planes at a time, so that their upsampled map never leaves a CPU's cache.

The map between the filters is up * up times as large as x: to write and read it in memory takes longer than to filter it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from facegan_kernels.native import as_format, channels_last, require

require()
_upfirdn2d = torch.ops.facegan.upfirdn2d.default
_BYTES = 1 << 20  # of the upsampled planes of one piece: half of a core's second cache, for the pass that reads one and writes one


def filtered_lrelu(
    x: Tensor,
    fu: Tensor,
    fd: Tensor,
    b: Tensor | None,
    up: int,
    down: int,
    padding: Sequence[int],
    gain: float,
    slope: float,
    clamp: float | None,
    flip_filter: bool,
) -> Tensor:
    """As `facegan.ops.filtered_lrelu`: y [N, C, H', W'] of the dtype and memory format of x [N, C, H, W]; b [C] of x's dtype."""

    def piece(x: Tensor) -> Tensor:
        v = _upfirdn2d(x, fu, (up, up), (1, 1), padding, flip_filter, up * up * (gain if gain > 0 else 1.0))
        return _upfirdn2d(_activated(v, gain, slope, clamp), fd, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1.0)

    return _by_pieces(piece, x, b, up)


def filtered_lrelu_slope(
    a: Tensor,
    x: Tensor,
    fu: Tensor,
    fd: Tensor,
    b: Tensor | None,
    up: int,
    down: int,
    padding: Sequence[int],
    gain: float,
    slope: float,
    clamp: float | None,
    flip_filter: bool,
    adjoint: bool,
) -> Tensor:
    """As `facegan.ops.filtered_lrelu.filtered_lrelu_slope_ref`, in a's dtype and memory format."""
    if adjoint and x.numel() == 0:
        return a.new_zeros(x.shape)
    to_v, to_x, one = (down, down), (up, up), (1, 1)

    def piece(x: Tensor, a: Tensor) -> Tensor:
        v = _upfirdn2d(x, fu, to_x, one, padding, flip_filter, up * up * (gain if gain > 0 else 1.0))
        if adjoint:
            before = _adjoint_padding(v, a, fd, 1, down, (0, 0, 0, 0))
            w = _upfirdn2d(a, fd, to_v, one, before, not flip_filter, gain)
        else:
            w = _upfirdn2d(a, fu, to_x, one, padding, flip_filter, up * up * gain)
        torch.ops.aten.leaky_relu_backward.grad_input(w, v, slope, False, grad_input=w)
        if clamp is not None:
            torch.ops.aten.hardtanh_backward.grad_input(w, _activated(v, gain, slope, None), -clamp, clamp, grad_input=w)
        if not adjoint:
            return _upfirdn2d(w, fd, one, to_v, (0, 0, 0, 0), flip_filter, 1.0)
        return _upfirdn2d(w, fu, one, to_x, _adjoint_padding(x, v, fu, up, 1, padding), not flip_filter, up * up)

    return _by_pieces(piece, x, b, up, a)


def _activated(v: Tensor, gain: float, slope: float, clamp: float | None) -> Tensor:
    """clamp(gain * lrelu(v)) in v's memory, where the gain is in v already if it is positive: lrelu(g v) = g lrelu(v)."""
    torch.ops.aten.leaky_relu_(v, slope)
    if gain <= 0:
        v *= gain
    return v if clamp is None else v.clamp_(-clamp, clamp)


def _adjoint_padding(x: Tensor, y: Tensor, f: Tensor, up: int, down: int, padding: Sequence[int]) -> list[int]:
    """With which y is mapped back to x's size (`facegan.ops.upfirdn2d.adjoint_padding`)."""
    pads = []
    for axis, taps in enumerate((f.shape[0], f.shape[-1])):
        before = padding[2 * axis]
        pads += [taps - 1 - before, x.shape[2 + axis] * up - y.shape[2 + axis] * down + before - up + 1]
    return pads


def _by_pieces(piece: Callable[..., Tensor], x: Tensor, b: Tensor | None, up: int, *others: Tensor) -> Tensor:
    """The pieces' results, in the memory format of the last argument; x + b and the others are cut into the same planes."""
    last = channels_last(others[-1] if others else x)
    if b is not None:
        x = x + b[:, None, None]
    if x.device.type != "cpu" or x.numel() == 0:
        return as_format(piece(x, *others), last)
    maps = [as_format(t, False).view(1, -1, *t.shape[2:]) for t in (x, *others)]
    planes = max(_BYTES // (up * up * x.shape[2] * x.shape[3] * x.element_size()), 1)
    results = [piece(*cut) for cut in zip(*(m.split(planes, 1) for m in maps), strict=True)]
    y = results[0] if len(results) == 1 else torch.cat(results, 1)
    return as_format(y.view(*x.shape[:2], *y.shape[2:]), last)
