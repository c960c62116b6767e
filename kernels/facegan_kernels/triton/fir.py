"""FIR kernels: zero-insert, pad, filter, decimate, then an epilogue, in one pass; `upfirdn2d.py` holds the launchers.

Per axis, with t = i * up - o * down + pad, input pixel i has the weight f[K - 1 - t] in output pixel o (f[t] when flipped), for
0 <= t < K: polyphase, so that inserted zeros are never multiplied.

`fir` walks down a strip of the image. Along a row, the filter is a small banded matrix, applied by `tl.dot`, so that a pixel is
loaded once and not once per tap; along the columns, a row of x adds to the sums of all rows of y in reach, which lie in registers.
A pixel that is not finite therefore makes NaN of its tile's part of a row rather than of the filter's reach only (0 * inf).
"""

# Tuples of tiles grow while a kernel is compiled, which Python's types cannot say:
# mypy: disable-error-code="assignment, var-annotated"
from __future__ import annotations

import triton
import triton.language as tl

from .activation import activate, scalars
from .layout import factors


@triton.jit
def _at(column, plane, H, row, C, CHANNELS_LAST: tl.constexpr):
    """Offsets [columns, planes] from the start of a row of a sample; `row` is from one row to the next."""
    if CHANNELS_LAST:
        return (column * C)[:, None] + plane[None, :]
    else:
        return column[:, None] + (plane.to(tl.int64) * H * row)[None, :]


@triton.jit
def _tap(t, K: tl.constexpr, flip):
    """Where the filter holds what pixel t of its reach is multiplied by."""
    return tl.where(flip > 0, t, K - 1 - t)


@triton.jit
def _band(f, out, column, pad, flip, K: tl.constexpr, UP: tl.constexpr, DOWN: tl.constexpr, dtype: tl.constexpr):
    """The filter along a row as a matrix [out, column], in two terms of x's dtype: rounded taps alone would cost a half type's
    result its last bit."""
    t = column[None, :] * UP - out[:, None] * DOWN + pad
    weight = tl.load(f + _tap(t, K, flip), (t >= 0) & (t < K), other=0.0).to(tl.float32)
    high = weight.to(dtype)
    return high, (weight - high.to(tl.float32)).to(dtype)


@triton.jit
def _across(band, main, halo, v, OPERAND: tl.constexpr):
    """v + band @ row, where `band` is (high, low) for `main`, then for `halo`; OPERAND is the type that tl.dot should see."""
    main, halo = main.to(OPERAND), halo.to(OPERAND)
    if main.dtype == tl.float32 and band[0].dtype == tl.float32:
        v = tl.dot(band[2], halo, v, input_precision="tf32x3")
        return tl.dot(band[0], main, v, input_precision="tf32x3")
    else:
        v = tl.dot(band[3].to(OPERAND), halo, v)
        v = tl.dot(band[2].to(OPERAND), halo, v)
        v = tl.dot(band[1].to(OPERAND), main, v)
        return tl.dot(band[0].to(OPERAND), main, v)


@triton.jit
def _scatter(sums, zero, taps, bands, main, halo, j: tl.constexpr, ROWS: tl.constexpr, SEPARABLE: tl.constexpr, OPERAND: tl.constexpr):
    """The sums of the rows of y under way, those of this step first, with what row j of this step's window adds to each."""
    KH: tl.constexpr = ROWS[0]
    UP: tl.constexpr = ROWS[1]
    DOWN: tl.constexpr = ROWS[2]
    OUT: tl.constexpr = ROWS[3]
    IN: tl.constexpr = ROWS[4]
    PHASE: tl.constexpr = ROWS[6]
    new = ()
    if SEPARABLE:
        row = _across(bands, main, halo, zero, OPERAND)
    for u in tl.static_range(len(sums)):
        v = sums[u]
        for t in tl.static_range(KH):  # the tap between row j and the row of this sum, if there is one
            if t == j * UP + PHASE - u // OUT * IN * UP - u % OUT * DOWN:
                if SEPARABLE:
                    v = v + taps[t] * row
                else:
                    v = _across(bands[4 * t : 4 * t + 4], main, halo, v, OPERAND)
        new += (v,)
    return new


@triton.jit(do_not_specialize=["H", "W", "OH", "OW", "flip", "first_row", "first_column", "pad_x", "strips", "steps", "x_row", "y_row"])
def fir(
    x, f, y, d, masks, noise, b, onto, weight, C, H, W, OH, OW, x_row, y_row, mask_stride, noise_stride, weight_stride,
    flip, first_row, first_column, pad_x, strips, steps,
    slope: tl.float64, gain: tl.float64, clamp: tl.float64,
    ROWS: tl.constexpr, ALONG: tl.constexpr, TILE: tl.constexpr, REGIONS: tl.constexpr,
    SEPARABLE: tl.constexpr, ACT: tl.constexpr, CHANNELS_LAST: tl.constexpr, OPERAND: tl.constexpr
):  # fmt: skip
    """y = onto + weight * clamp(gain * act(FIR(x) * d + noise + b)) for one strip: COLUMNS columns of PLANES channels, steps * OUT rows;
    d [N, 1 + REGIONS, C] varies by pixel, as the masks say.

    ROWS is (KH, UP, DOWN, OUT, IN, WINDOW, PHASE): a step finishes OUT rows of y, whose reach is a window of WINDOW rows of x, and
    moves on by IN rows; PHASE is the first window's first tap in the first row. ALONG is (KW, UP, DOWN, BEFORE, AFTER, HALO): the
    columns of x are the main ones, as many as belong to COLUMNS, and BEFORE + AFTER beside them, loaded as HALO. TILE is (COLUMNS,
    PLANES, UNIT). They are tuples of constants, which Triton takes by position; numbers that vary are no tuples, as those of a tuple
    would be specialised.

    Compiled once for all sizes: what addresses need to be known of them is that UNIT divides the distances between rows, `x_row`
    and `y_row`, and in NCHW the first column. They are given in this unit.
    """
    OUT: tl.constexpr = ROWS[3]
    IN: tl.constexpr = ROWS[4]
    WINDOW: tl.constexpr = ROWS[5]
    KH: tl.constexpr = ROWS[0]
    KW: tl.constexpr = ALONG[0]
    UP: tl.constexpr = ALONG[1]
    DOWN: tl.constexpr = ALONG[2]
    BEFORE: tl.constexpr = ALONG[3]
    AFTER: tl.constexpr = ALONG[4]
    COLUMNS: tl.constexpr = TILE[0]
    PLANES: tl.constexpr = TILE[1]
    UNIT: tl.constexpr = TILE[2]
    slope, gain, clamp = scalars(slope, gain, clamp, tl.float32)
    pid = tl.program_id(0)
    blocks, tiles = tl.cdiv(C, PLANES), tl.cdiv(OW, COLUMNS)
    if CHANNELS_LAST:  # neighbours in memory run together
        block, pid = pid % blocks, pid // blocks
        tile, pid = pid % tiles, pid // tiles
        strip, n = pid % strips, pid // strips
    else:
        tile, pid = pid % tiles, pid // tiles
        strip, pid = pid % strips, pid // strips
        block, n = pid % blocks, pid // blocks
    n = n.to(tl.int64)
    INNER: tl.constexpr = COLUMNS * DOWN // UP
    plane, out = block * PLANES + tl.arange(0, PLANES), tile * COLUMNS + tl.arange(0, COLUMNS)
    x_row, y_row = x_row * UNIT, y_row * UNIT
    if not CHANNELS_LAST:
        first_column, W, OW = first_column * UNIT, x_row, y_row  # the same numbers, known to be multiples: bounds must be, too
    column = tile * INNER + first_column + tl.arange(0, INNER)
    beside = tl.arange(0, ALONG[5])
    beside_column = tile * INNER + first_column + tl.where(beside < BEFORE, beside - BEFORE, beside + (INNER - BEFORE))
    in_main = ((column >= 0) & (column < W))[:, None]
    in_halo = ((beside < BEFORE + AFTER) & (beside_column >= 0) & (beside_column < W))[:, None]
    in_out = (out < OW)[:, None]
    at_main, at_halo = _at(column, plane, H, x_row, C, CHANNELS_LAST), _at(beside_column, plane, H, x_row, C, CHANNELS_LAST)
    at_out = _at(out, plane, OH, y_row, C, CHANNELS_LAST)
    planes = 1 if CHANNELS_LAST else C  # of a sample, one after the other
    x += n * planes * H * x_row
    y += n * planes * OH * y_row
    if onto is not None:
        onto += n * planes * OH * y_row

    dtype: tl.constexpr = x.dtype.element_ty
    bands = ()
    for k in tl.static_range(1 if SEPARABLE else KH):
        first_tap = f + (0 if SEPARABLE else _tap(k, KH, flip) * KW)
        bands += _band(first_tap, out, column, pad_x, flip, KW, UP, DOWN, dtype)
        bands += _band(first_tap, out, beside_column, pad_x, flip, KW, UP, DOWN, dtype)
    taps = ()
    if SEPARABLE:
        for k in tl.static_range(KH):
            taps += (tl.load(f + _tap(k, KH, flip)).to(tl.float32),)
    if d is not None and REGIONS == 0:
        factor = tl.load(d + n * C + plane, plane < C, other=0.0).to(tl.float32)[None, :]
    if b is not None:
        bias = tl.load(b + plane, plane < C, other=0.0).to(tl.float32)[None, :]

    first = strip * steps
    KEPT: tl.constexpr = WINDOW - IN if WINDOW > IN else 0
    WARM_UP: tl.constexpr = (KEPT + IN - 1) // IN  # steps that only begin sums
    zero = tl.zeros((COLUMNS, PLANES), tl.float32)
    sums = ()
    for _ in tl.static_range(WARM_UP * OUT):
        sums += (zero,)
    for s in range(steps + WARM_UP):
        step = first - WARM_UP + s
        under_way = sums
        for _ in tl.static_range(OUT):
            under_way += (zero,)
        for j in tl.static_range(KEPT, WINDOW):
            i = step * IN + first_row + j
            present = (i >= 0) & (i < H) & (i >= first * IN + first_row)
            live = (plane < tl.where(present, C, 0))[None, :]
            row = x + i.to(tl.int64) * x_row
            main = tl.load(row + at_main, in_main & live, other=0.0)
            halo = tl.load(row + at_halo, in_halo & live, other=0.0)
            under_way = _scatter(under_way, zero, taps, bands, main, halo, j, ROWS, SEPARABLE, OPERAND)
        for u in tl.static_range(OUT):
            v = under_way[u]
            o = step * OUT + u
            present = (step >= first) & (o < OH)
            live = (plane < tl.where(present, C, 0))[None, :]
            pixel, within = o.to(tl.int64) * OW + out, out < tl.where(present, OW, 0)
            if d is not None:
                if REGIONS > 0:
                    v = v * factors(d, masks, n, pixel, plane, within, plane < C, C, OH * OW, mask_stride, REGIONS, tl.float32)
                else:
                    v = v * factor
            if noise is not None:
                v = v + tl.load(noise + n * noise_stride + pixel, within, other=0.0).to(tl.float32)[:, None]
            if b is not None:
                v = v + bias
            v = activate(v, ACT, slope, gain, clamp)
            if weight is not None:
                v = v * tl.load(weight + n * weight_stride + pixel, within, other=0.0).to(tl.float32)[:, None]
            if onto is not None:
                v = v + tl.load(onto + o.to(tl.int64) * y_row + at_out, in_out & live, other=0.0).to(tl.float32)
            tl.store(y + o.to(tl.int64) * y_row + at_out, v, in_out & live)
        sums = under_way[OUT:]


@triton.jit(
    do_not_specialize=[
        "C", "H", "W", "OH", "OW", "mask_stride", "noise_stride", "weight_stride",
        "up_y", "up_x", "down_y", "down_x", "top", "left", "KH", "KW", "flip",
    ]
)  # fmt: skip
def fir_direct(
    x, f, y, d, masks, noise, b, onto, weight, total, C, H, W, OH, OW, mask_stride, noise_stride, weight_stride,
    up_y, up_x, down_y, down_x, top, left, KH, KW, flip,
    slope: tl.float64, gain: tl.float64, clamp: tl.float64,
    REGIONS: tl.constexpr, SEPARABLE: tl.constexpr, ACT: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The same, one load per tap: for float64, and for factors and filters that `fir` does not take."""
    slope, gain, clamp = scalars(slope, gain, clamp, ACC)
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = e < total
    if CHANNELS_LAST:
        c, pixel = e % C, e // C
        ox, pixel = pixel % OW, pixel // OW
        oy, n = pixel % OH, pixel // OH
    else:
        ox, pixel = e % OW, e // OW
        oy, pixel = pixel % OH, pixel // OH
        c, n = pixel % C, pixel // C
    v = tl.zeros((BLOCK,), ACC)
    for ky in range(KH):
        iy = oy * down_y - top + tl.where(flip > 0, ky, KH - 1 - ky)
        for kx in range(KW):
            ix = ox * down_x - left + tl.where(flip > 0, kx, KW - 1 - kx)
            present = live & (iy >= 0) & (iy < H * up_y) & (iy % up_y == 0) & (ix >= 0) & (ix < W * up_x) & (ix % up_x == 0)
            row, column = iy // up_y, ix // up_x
            at = ((n * H + row) * W + column) * C + c if CHANNELS_LAST else ((n * C + c) * H + row) * W + column
            tap = tl.load(f + ky).to(ACC) * tl.load(f + kx).to(ACC) if SEPARABLE else tl.load(f + ky * KW + kx).to(ACC)
            v += tap * tl.load(x + at, present, other=0.0).to(ACC)
    if d is not None:
        own = tl.load(d + n * (1 + REGIONS) * C + c, live, other=0.0).to(ACC)
        factor = own
        for k in tl.static_range(REGIONS):
            beyond = tl.load(d + (n * (1 + REGIONS) + k + 1) * C + c, live, other=0.0).to(ACC) - own
            factor += tl.load(masks + n * mask_stride + (k * OH + oy) * OW + ox, live, other=0.0).to(ACC) * beyond
        v = v * factor
    if noise is not None:
        v = v + tl.load(noise + n * noise_stride + oy * OW + ox, live, other=0.0).to(ACC)
    if b is not None:
        v = v + tl.load(b + c, live, other=0.0).to(ACC)
    v = activate(v, ACT, slope, gain, clamp)
    if weight is not None:
        v = v * tl.load(weight + n * weight_stride + oy * OW + ox, live, other=0.0).to(ACC)
    if onto is not None:
        v = v + tl.load(onto + e, live, other=0.0).to(ACC)
    tl.store(y + e, v, live)
