"""`filtered_lrelu` in one pass: a tile of the upsampled map is made, activated and filtered in registers, and never written.

Along an axis each filter is a banded matrix. With the up filter's C_u [M, L] and R_u, and the down filter's C_d [T, M] and R_d, for
columns and rows, a tile of M x M pixels of the upsampled map is V = R_u X C_u^T, and its part of the result
Y = R_d act(V) C_d^T, four products by `tl.dot`. A filter that is not separable is the sum of its rows, each of which is such a
product whose row matrix is a shift; so the same code takes StyleGAN3-R's radial filter. The derivatives (`slope` below) have the
same form, with a second map upsampled to the same tile: V and W = R_2 A C_2^T, then Y = R_d (act'(V) W) C_d^T. In the transpose the
down filter upsamples and the up filter decimates. Beyond the upsampled map's edges its W is zero by itself: no product reaches there.

Products are of float32: as three of TF32 where x is float32, which keeps float32's accuracy, and as one for half types, whose mantissas
TF32 holds. What lies outside of x is zero. A pixel that is not finite makes NaN of the tiles that it is in (0 * inf).

Cost, up = down = 2 and 12 taps: a tile gives 11 x 11 pixels for 32 x 32 of the upsampled map, about 750 multiplications per
pixel on tensor cores, where the filters themselves are 72: 4 ps per pixel in TF32 at an H100's 200 T/s, 11 in float32, and about
as much again to make the matrices. They are made for each tile: kept for several planes they cost more registers than there are.
The 22 x 22 pixels of x that reach a tile come from caches but for a quarter; x and y are 4 or 8 bytes of memory per pixel. A composed
form moves 18 pixels of memory per pixel of the result: 72 bytes or 22 ps in float32 at 3.3 TB/s. A 2-D filter of 12 rows takes 12
times the products of its side. These are estimates: no GPU has measured them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from facegan_kernels import composed
from facegan_kernels.dtypes import limit_in

from .activation import activate, scalars, unclamped
from .layout import on_its_device, to_dense
from .upfirdn2d import FACTORS, TYPES, upfirdn2d

MOST_TAPS = 16  # that a tile of 32 pixels of the upsampled map is for


@triton.jit
def _weights(f, t, K: tl.constexpr, flip):
    """The filter's taps at the places t of its reach, 0 outside."""
    return tl.load(f + tl.where(flip > 0, t, K - 1 - t), (t >= 0) & (t < K), other=0.0).to(tl.float32)


@triton.jit
def _bands(f, rows, columns, r, KH: tl.constexpr, KW: tl.constexpr, SEPARABLE: tl.constexpr, flip):
    """The matrices along rows and columns, from the places of the reach that their entries hold; of the filter's row r if it is 2-D."""
    if SEPARABLE:
        return _weights(f, rows, KH, flip), _weights(f, columns, KW, flip)
    else:
        row = f + tl.where(flip > 0, r, KH - 1 - r) * KW
        return tl.where(rows == r, 1.0, 0.0), _weights(row, columns, KW, flip)


@triton.jit
def _upsampled(
    x, b, f, H, W, top, left, row, column, flip, UP: tl.constexpr, FILTER: tl.constexpr, L: tl.constexpr, M: tl.constexpr,
    PRECISION: tl.constexpr
):  # fmt: skip
    """M x M pixels, from (row, column) on, of the plane at x plus the number b, zero-inserted and filtered."""
    KH: tl.constexpr = FILTER[0]
    KW: tl.constexpr = FILTER[1]
    SEPARABLE: tl.constexpr = FILTER[2]
    # the first pixel that reaches: the quotient rounded up, of numbers that may be negative
    first_row, first_column = _ceil_div(row - top, UP), _ceil_div(column - left, UP)
    i, m = tl.arange(0, L), tl.arange(0, M)
    iy, ix = first_row + i, first_column + i
    inside = ((iy >= 0) & (iy < H))[:, None] & ((ix >= 0) & (ix < W))[None, :]
    tile = tl.load(x + iy.to(tl.int64)[:, None] * W + ix[None, :], inside, other=0.0).to(tl.float32)
    tile = tl.where(inside, tile + b, 0.0)
    rows = i[None, :] * UP - m[:, None] + (first_row * UP - row + top)
    columns = i[:, None] * UP - m[None, :] + (first_column * UP - column + left)
    v = tl.zeros((M, M), tl.float32)
    for r in range(1 if SEPARABLE else KH):
        down, across = _bands(f, rows, columns, r, KH, KW, SEPARABLE, flip)
        v = tl.dot(down, tl.dot(tile, across, input_precision=PRECISION), v, input_precision=PRECISION)
    return v


@triton.jit
def _ceil_div(a, B: tl.constexpr):
    """a / b rounded up; by a shift, as a division of a negative number rounds towards zero."""
    if B == 1:
        return a
    elif B == 2:
        return (a + 1) >> 1
    else:
        return (a + 3) >> 2


@triton.jit
def _decimated(v, f, flip, DOWN: tl.constexpr, FILTER: tl.constexpr, M: tl.constexpr, T: tl.constexpr, PRECISION: tl.constexpr):
    """T x T pixels of the M x M upsampled ones v, filtered."""
    KH: tl.constexpr = FILTER[0]
    KW: tl.constexpr = FILTER[1]
    SEPARABLE: tl.constexpr = FILTER[2]
    m, o = tl.arange(0, M), tl.arange(0, T)
    rows, columns = m[None, :] - o[:, None] * DOWN, m[:, None] - o[None, :] * DOWN
    y = tl.zeros((T, T), tl.float32)
    for r in range(1 if SEPARABLE else KH):
        down, across = _bands(f, rows, columns, r, KH, KW, SEPARABLE, flip)
        y = tl.dot(down, tl.dot(v, across, input_precision=PRECISION), y, input_precision=PRECISION)
    return y


@triton.jit(
    do_not_specialize=[
        "C", "H", "W", "AH", "AW", "OH", "OW", "top", "left", "a_top", "a_left", "first_row", "first_column", "flip", "flip_a", "flip_down"
    ]
)  # fmt: skip
def fused(
    x, a, b, fx, fa, fd, y, C, H, W, AH, AW, OH, OW, top, left, a_top, a_left, first_row, first_column, flip, flip_a, flip_down,
    slope: tl.float64, gain: tl.float64, clamp: tl.float64,
    UP: tl.constexpr, UP_A: tl.constexpr, DOWN: tl.constexpr, OUT_GAIN: tl.constexpr, FX: tl.constexpr, FA: tl.constexpr,
    FD: tl.constexpr, SIDES: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """One tile of a plane of y [planes, OH, OW]; a is None for the forward pass.

    y[o] is made of pixels first + o * DOWN + t of the upsampled map, t < K. Filters are (KH, KW, separable); SIDES is those
    of the tiles: (M, LX, LA, T, valid), the last that of the part of T that M's pixels are enough for.
    """
    M: tl.constexpr = SIDES[0]
    T: tl.constexpr = SIDES[3]
    VALID: tl.constexpr = SIDES[4]
    slope, gain, clamp = scalars(slope, gain, clamp, tl.float32)
    pid = tl.program_id(0)
    tiles_x, tiles_y = tl.cdiv(OW, VALID), tl.cdiv(OH, VALID)
    tile_x, pid = pid % tiles_x, pid // tiles_x
    tile_y, plane = pid % tiles_y, pid // tiles_y
    row, column = tile_y * VALID * DOWN + first_row, tile_x * VALID * DOWN + first_column
    o = tl.arange(0, T)
    oy, ox = tile_y * VALID + o, tile_x * VALID + o
    live = ((o < VALID) & (oy < OH))[:, None] & ((o < VALID) & (ox < OW))[None, :]
    at = oy.to(tl.int64)[:, None] * OW + ox[None, :]
    base = plane.to(tl.int64)
    bias = 0.0 if b is None else tl.load(b + plane % C).to(tl.float32)
    v = _upsampled(x + base * H * W, bias, fx, H, W, top, left, row, column, flip, UP, FX, SIDES[1], M, PRECISION) * (UP * UP)
    if a is None:
        v = activate(v, "piecewise", slope, gain, clamp)
    else:
        w = _upsampled(a + base * AH * AW, 0.0, fa, AH, AW, a_top, a_left, row, column, flip_a, UP_A, FA, SIDES[2], M, PRECISION)
        factor = tl.where(v > 0, gain, gain * slope)
        v = unclamped(w * factor, v * factor, clamp)
    result = _decimated(v, fd, flip_down, DOWN, FD, M, T, PRECISION) * OUT_GAIN
    tl.store(y + base * OH * OW + at, result, live)


class Up(NamedTuple):
    """A map that is upsampled: the filter, its factor, the padding before, whether it correlates."""

    x: Tensor
    f: Tensor
    factor: int
    top: int
    left: int
    flip: bool


@on_its_device
def filtered_lrelu(x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
    """As `facegan.ops.filtered_lrelu`: y [N, C, H', W'] of the dtype and memory format of x [N, C, H, W]; b [C]."""
    given = composed.Options(*options)
    if not _takes(x, fu, fd, given):
        return composed.filtered_lrelu(upfirdn2d, _biased(x, b), fu, fd, given)
    size = (_size(x, fu, fd, given, axis) for axis in range(2))
    y = _like(x, (*x.shape[:2], *size))
    return _launch(y, _up_path(x, fu, given), None, b, fd, given.down, (0, 0), given.flip_filter, False, given)


@on_its_device
def filtered_lrelu_slope(a: Tensor, x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
    """As `facegan.ops.filtered_lrelu.filtered_lrelu_slope_ref`, in a's dtype and memory format."""
    *rest, adjoint = options
    given = composed.Options(*rest)
    if not _takes(x, fu, fd, given) or a.dtype != x.dtype:
        return composed.filtered_lrelu_slope(upfirdn2d, a, _biased(x, b), fu, fd, given, adjoint)
    up, down, (top, _, left, _), flip = given.up, given.down, given.padding, given.flip_filter
    if not adjoint:
        y = _like(a, (*x.shape[:2], *(_size(x, fu, fd, given, axis) for axis in range(2))))
        return _launch(y, _up_path(x, fu, given), _up_path(a, fu, given), b, fd, down, (0, 0), flip, True, given)
    back = Up(a, fd, down, fd.shape[0] - 1, fd.shape[-1] - 1, not flip)
    first = (top - fu.shape[0] + 1, left - fu.shape[-1] + 1)
    return _launch(_like(a, x.shape), _up_path(x, fu, given), back, b, fu, up, first, not flip, True, given)


def _takes(x: Tensor, fu: Tensor, fd: Tensor, given: composed.Options) -> bool:
    """Whether the kernel does: a dtype, and taps and factors of which a tile of the upsampled map holds some."""
    few = all(max(f.shape) <= max(8 * factor, 16) for f, factor in ((fu, given.up), (fd, given.down)))
    return x.dtype in TYPES and {given.up, given.down} <= FACTORS and few


def _biased(x: Tensor, b: Tensor | None) -> Tensor:
    return x if b is None else x + b[:, None, None]


def _size(x: Tensor, fu: Tensor, fd: Tensor, given: composed.Options, axis: int) -> int:
    padded = x.shape[2 + axis] * given.up + sum(given.padding[2 * axis : 2 * axis + 2])
    return (padded - fu.shape[-1 if axis else 0] + 1 - fd.shape[-1 if axis else 0]) // given.down + 1


def _up_path(x: Tensor, fu: Tensor, given: composed.Options) -> Up:
    return Up(x, fu, given.up, given.padding[0], given.padding[2], given.flip_filter)


def _like(x: Tensor, shape: Any) -> Tensor:
    x = to_dense(x)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch._prims_common.suggest_memory_format(x))


def _launch(
    y: Tensor, of_x: Up, of_a: Up | None, b: Tensor | None, fd: Tensor, down: int, first: tuple[int, int], flip: bool, scaled: bool,
    given: composed.Options
) -> Tensor:  # fmt: skip
    """Fills and returns y; where `scaled`, times the brightness that zero-insertion takes from the second map on its way or back.

    The kernel reads and writes rows, to which channels_last is converted.
    """
    if y.numel() == 0:
        return y
    device, a = y.device, of_x if of_a is None else of_a
    x, fx, fa, fd = of_x.x.contiguous(), *(f.to(device).contiguous() for f in (of_x.f, a.f, fd))
    rows = y if y.is_contiguous() else torch.empty(y.shape, dtype=y.dtype, device=device)
    sides = _sides(of_x, of_a, fd, down)
    programs = y.shape[0] * y.shape[1] * math.prod(triton.cdiv(side, sides[4]) for side in y.shape[2:])
    fused[(programs,)](
        x, None if of_a is None else a.x.contiguous(), b if b is None else b.contiguous(), fx, fa, fd, rows,
        y.shape[1], *x.shape[2:], *a.x.shape[2:], *y.shape[2:],
        of_x.top, of_x.left, a.top, a.left, *first, int(of_x.flip), int(a.flip), int(flip),
        float(given.slope), float(given.gain), limit_in(y.dtype, given.clamp),
        UP=of_x.factor, UP_A=a.factor, DOWN=down, OUT_GAIN=of_x.factor**2 if scaled else 1,
        FX=_taps(fx), FA=_taps(fa), FD=_taps(fd), SIDES=sides,
        PRECISION="tf32x3" if x.dtype == torch.float32 else "tf32", num_warps=sides[0] // 8, num_stages=1,
    )  # fmt: skip
    return rows if rows is y else y.copy_(rows)


def _taps(f: Tensor) -> tuple[int, int, bool]:
    return f.shape[0], f.shape[-1], f.ndim == 1


def _sides(of_x: Up, of_a: Up | None, fd: Tensor, down: int) -> tuple[int, int, int, int, int]:
    """As `fused` takes them: of the upsampled map 32, or 64 where of 32 the down filter would leave next to nothing.

    Float32's three products leave no registers for the larger.
    """
    ups = [of_x] if of_a is None else [of_x, of_a]
    for m in (32,) if max(fd.shape) <= MOST_TAPS or of_x.x.dtype == torch.float32 else (64, 32):
        reach = [max((m + max(u.f.shape) - 2) // u.factor + 1, 16) for u in ups]
        if max(reach) <= 64:
            break
    valid = (m - max(fd.shape)) // down + 1
    sides = [triton.next_power_of_2(side) for side in (*reach, max(valid, 16))]
    return m, sides[0], sides[-2], sides[-1], valid
