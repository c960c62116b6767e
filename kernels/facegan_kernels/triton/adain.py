"""AdaIN and its affine form, forward and backward; `facegan/ops/adain.py` states the formulas.

A plane that fits into one tile is read once: its statistics and what is made of it come from the same registers. Larger planes
take two passes: partial moments over stretches of each plane (so that a GPU is filled however few planes there are), which one
small kernel combines in a fixed order, then the map. Moments follow Welford (1962) lane by lane and Chan et al. (1983) across
lanes and stretches, in float32 or wider: never a difference of large sums.

The affine form is AdaIN with sigma(s), mu(s) given as scale and shift, alpha 1 and no mask.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from facegan_kernels.dtypes import acc_dtype

from .layout import Tiles, acc_type, is_channels_last, match_layout, offsets, on_its_device, place, tiles, to_dense
from .tuning import tile

MULTIPROCESSORS = 128  # about as many as a large GPU has: fewer programs than that leave some idle


@triton.jit
def _read(x, n, p, c, C, P, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr):
    """A tile [pixels, channels], zero outside."""
    return tl.load(x + offsets(n, p, c, C, P, CHANNELS_LAST), (p < P)[:, None] & (c < C)[None, :], 0.0).to(ACC)


@triton.jit
def _write(y, value, n, p, c, C, P, CHANNELS_LAST: tl.constexpr):
    tl.store(y + offsets(n, p, c, C, P, CHANNELS_LAST), value, (p < P)[:, None] & (c < C)[None, :])


@triton.jit
def _mask(mask, n, p, P, ACC: tl.constexpr):
    """[pixels, 1]; without a mask 1 inside of the plane."""
    if mask is None:
        return (p < P).to(ACC)[:, None]
    else:
        return tl.load(mask + n * P + p, p < P, 0.0).to(ACC)[:, None]


@triton.jit
def _positive(weight):
    """The least that a sum of weights counts as: of none it divides zeros."""
    return tl.maximum(weight, tl.full([], 1e-37, weight.dtype))


@triton.jit
def _total(m):
    """The sum of the mask, positive: an empty mask selects nothing, and any finite statistics do."""
    return _positive(tl.sum(m, 0))[None, :]


@triton.jit
def _statistics(x, weight, eps):
    """Mean and sigma [1, channels] of a tile, with pixel weights [pixels, 1] of sum 1."""
    mean = tl.sum(x * weight, 0)[None, :]
    d = x - mean
    return mean, tl.sqrt(tl.sum(d * d * weight, 0)[None, :] + eps)


@triton.jit
def _row(values, n, c, C, ACC: tl.constexpr):
    """[1, channels] out of [N, C]."""
    return tl.load(values + n * C + c, c < C, 0.0).to(ACC)[None, :]


@triton.jit
def _content_gradient(dy, dt, x_hat, ratio, sum_dt, sum_dt_x, weight):
    """The normalisation's gradient (`_normalise_backward` of the reference) times sigma(s), beside the part that passes by."""
    return dy - dt + ratio * (dt - (sum_dt + x_hat * sum_dt_x) * weight)


@triton.jit
def _whole_forward(
    content, style, scale, shift, mask, y, alpha: tl.float64, eps: tl.float64, C, P, S,
    PIXELS: tl.constexpr, STYLE_PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """y where whole planes are tiles; `scale` and `shift` take the place of the style where there is none."""
    n, _, c = place(C, P, 1, PIXELS, CHANNELS, CHANNELS_LAST)
    alpha, eps = tl.full([], alpha, ACC), tl.full([], eps, ACC)
    p = tl.arange(0, PIXELS)
    x, m = _read(content, n, p, c, C, P, CHANNELS_LAST, ACC), _mask(mask, n, p, P, ACC)
    if style is not None:
        q = tl.arange(0, STYLE_PIXELS)
        s, m_s = _read(style, n, q, c, C, S, CHANNELS_LAST, ACC), m
        if mask is None:
            m_s = _mask(None, n, q, S, ACC)
        b, a = _statistics(s, m_s / _total(m_s), eps)
    else:
        a, b = _row(scale, n, c, C, ACC), _row(shift, n, c, C, ACC)
    mean, sigma = _statistics(x, m / _total(m), eps)
    blend = alpha * m
    _write(y, (1 - blend) * x + blend * ((a / sigma) * (x - mean) + b), n, p, c, C, P, CHANNELS_LAST)


@triton.jit
def _whole_backward(
    dy, content, style, scale, mask, d_content, d_style, d_scale, d_shift, alpha: tl.float64, eps: tl.float64, C, P, S,
    PIXELS: tl.constexpr, STYLE_PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """All gradients where whole planes are tiles."""
    n, _, c = place(C, P, 1, PIXELS, CHANNELS, CHANNELS_LAST)
    alpha, eps = tl.full([], alpha, ACC), tl.full([], eps, ACC)
    p = tl.arange(0, PIXELS)
    x, m = _read(content, n, p, c, C, P, CHANNELS_LAST, ACC), _mask(mask, n, p, P, ACC)
    g = _read(dy, n, p, c, C, P, CHANNELS_LAST, ACC)
    if style is not None:
        q = tl.arange(0, STYLE_PIXELS)
        s, m_s = _read(style, n, q, c, C, S, CHANNELS_LAST, ACC), m
        if mask is None:
            m_s = _mask(None, n, q, S, ACC)
        weight_s = m_s / _total(m_s)
        b, a = _statistics(s, weight_s, eps)
    else:
        a = _row(scale, n, c, C, ACC)
    weight = m / _total(m)
    mean, sigma = _statistics(x, weight, eps)
    x_hat, dt = (x - mean) / sigma, g * (alpha * m)
    sum_dt, sum_dt_x = tl.sum(dt, 0)[None, :], tl.sum(dt * x_hat, 0)[None, :]
    _write(d_content, _content_gradient(g, dt, x_hat, a / sigma, sum_dt, sum_dt_x, weight), n, p, c, C, P, CHANNELS_LAST)
    if style is not None:
        _write(d_style, (sum_dt + (s - b) / a * sum_dt_x) * weight_s, n, q, c, C, S, CHANNELS_LAST)
    else:
        at = (n * C + c)[None, :]
        tl.store(d_scale + at, sum_dt_x, (c < C)[None, :])
        tl.store(d_shift + at, sum_dt, (c < C)[None, :])


@triton.jit(do_not_specialize=["N", "steps", "blocks"])
def _partial_moments(
    x, dy, mask, parts, alpha: tl.float64, N, C, P, steps, blocks,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """Of this program's pixels: weight, mean and sum of squares about it; given dy also the sums of dt and of dt (x - mean).

    parts: [3 or 5, blocks, N, C]
    """
    n, block_p, c = place(C, P, steps, PIXELS, CHANNELS, CHANNELS_LAST)
    weight = tl.zeros((PIXELS, 1), ACC)
    mean, squares = tl.zeros((PIXELS, CHANNELS), ACC), tl.zeros((PIXELS, CHANNELS), ACC)
    sum_dt, sum_dt_x = tl.zeros((PIXELS, CHANNELS), ACC), tl.zeros((PIXELS, CHANNELS), ACC)
    for step in range(steps):
        p = (block_p * steps + step) * PIXELS + tl.arange(0, PIXELS)
        value, m = _read(x, n, p, c, C, P, CHANNELS_LAST, ACC), _mask(mask, n, p, P, ACC)
        weight += m
        d = value - mean
        moved = d * (m / _positive(weight))
        mean += moved
        squares += d * (value - mean) * m
        if dy is not None:
            dt = _read(dy, n, p, c, C, P, CHANNELS_LAST, ACC) * (tl.full([], alpha, ACC) * m)
            sum_dt_x += dt * (value - mean) - moved * sum_dt
            sum_dt += dt
    total = tl.sum(weight, 0)[None, :]
    centre = tl.sum(mean * weight, 0)[None, :] / _positive(total)
    d = mean - centre
    at, inside, plane = ((block_p * N + n) * C + c)[None, :], (c < C)[None, :], N * C * blocks
    tl.store(parts + at, total + tl.zeros_like(centre), inside)
    tl.store(parts + plane + at, centre, inside)
    tl.store(parts + 2 * plane + at, tl.sum(squares + d * d * weight, 0)[None, :], inside)
    if dy is not None:
        tl.store(parts + 3 * plane + at, tl.sum(sum_dt, 0)[None, :], inside)
        tl.store(parts + 4 * plane + at, tl.sum(sum_dt_x + d * sum_dt, 0)[None, :], inside)


@triton.jit(do_not_specialize=["blocks"])
def _combine(parts, out, NC, blocks, eps: tl.float64, SUMS: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr):
    """Mean, sigma and weight of whole planes, and the sums of dt and of dt x_hat: [3 or 5, N C]."""
    i = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    inside, plane = i < NC, NC * blocks
    total, mean, squares = tl.zeros((CHANNELS,), ACC), tl.zeros((CHANNELS,), ACC), tl.zeros((CHANNELS,), ACC)
    sum_dt, sum_dt_x = tl.zeros((CHANNELS,), ACC), tl.zeros((CHANNELS,), ACC)
    for block in range(blocks):
        at = parts + block * NC + i
        weight = tl.load(at, inside, 0.0)
        d = tl.load(at + plane, inside, 0.0) - mean
        moved = d * (weight / _positive(total + weight))
        squares += tl.load(at + 2 * plane, inside, 0.0) + d * moved * total
        if SUMS == 5:
            dt = tl.load(at + 3 * plane, inside, 0.0)
            sum_dt_x += tl.load(at + 4 * plane, inside, 0.0) + (d - moved) * dt - moved * sum_dt
            sum_dt += dt
        mean += moved
        total += weight
    total = _positive(total)
    sigma = tl.sqrt(squares / total + tl.full([], eps, ACC))
    tl.store(out + i, mean, inside)
    tl.store(out + NC + i, sigma, inside)
    tl.store(out + 2 * NC + i, total, inside)
    if SUMS == 5:
        tl.store(out + 3 * NC + i, sum_dt, inside)
        tl.store(out + 4 * NC + i, sum_dt_x / sigma, inside)


@triton.jit(do_not_specialize=["N", "steps"])
def _forward(
    content, moments, scale, shift, mask, y, alpha: tl.float64, N, C, P, steps,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """y from the content's moments; the last samples, still in the L2 cache, come first."""
    n, block_p, c = place(C, P, steps, PIXELS, CHANNELS, CHANNELS_LAST)
    n = N - 1 - n
    mean, sigma = _row(moments, n, c, C, ACC), _row(moments + N * C, n, c, C, ACC)
    ratio, b = _row(scale, n, c, C, ACC) / tl.where((c < C)[None, :], sigma, 1.0), _row(shift, n, c, C, ACC)
    for step in range(steps):
        p = (block_p * steps + step) * PIXELS + tl.arange(0, PIXELS)
        x, blend = _read(content, n, p, c, C, P, CHANNELS_LAST, ACC), tl.full([], alpha, ACC) * _mask(mask, n, p, P, ACC)
        _write(y, (1 - blend) * x + blend * (ratio * (x - mean) + b), n, p, c, C, P, CHANNELS_LAST)


@triton.jit(do_not_specialize=["N", "steps"])
def _backward_content(
    dy, content, moments, scale, mask, d_content, alpha: tl.float64, N, C, P, steps,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    n, block_p, c = place(C, P, steps, PIXELS, CHANNELS, CHANNELS_LAST)
    n = N - 1 - n
    NC = N * C
    mean, sigma, total = _row(moments, n, c, C, ACC), _row(moments + NC, n, c, C, ACC), _row(moments + 2 * NC, n, c, C, ACC)
    sum_dt, sum_dt_x = _row(moments + 3 * NC, n, c, C, ACC), _row(moments + 4 * NC, n, c, C, ACC)
    per_sigma, per_total = 1 / tl.where((c < C)[None, :], sigma, 1.0), 1 / tl.where((c < C)[None, :], total, 1.0)
    ratio = _row(scale, n, c, C, ACC) * per_sigma
    for step in range(steps):
        p = (block_p * steps + step) * PIXELS + tl.arange(0, PIXELS)
        x, m = _read(content, n, p, c, C, P, CHANNELS_LAST, ACC), _mask(mask, n, p, P, ACC)
        g = _read(dy, n, p, c, C, P, CHANNELS_LAST, ACC)
        dt = g * (tl.full([], alpha, ACC) * m)
        gradient = _content_gradient(g, dt, (x - mean) * per_sigma, ratio, sum_dt, sum_dt_x, m * per_total)
        _write(d_content, gradient, n, p, c, C, P, CHANNELS_LAST)


@triton.jit(do_not_specialize=["N", "steps"])
def _backward_style(
    style, moments, sums, mask, d_style, N, C, P, steps,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    n, block_p, c = place(C, P, steps, PIXELS, CHANNELS, CHANNELS_LAST)
    n = N - 1 - n
    NC = N * C
    mean, sigma, total = _row(moments, n, c, C, ACC), _row(moments + NC, n, c, C, ACC), _row(moments + 2 * NC, n, c, C, ACC)
    per_total = 1 / tl.where((c < C)[None, :], total, 1.0)
    constant = _row(sums, n, c, C, ACC) * per_total
    linear = _row(sums + NC, n, c, C, ACC) * per_total / tl.where((c < C)[None, :], sigma, 1.0)
    for step in range(steps):
        p = (block_p * steps + step) * PIXELS + tl.arange(0, PIXELS)
        s, m = _read(style, n, p, c, C, P, CHANNELS_LAST, ACC), _mask(mask, n, p, P, ACC)
        _write(d_style, (constant + (s - mean) * linear) * m, n, p, c, C, P, CHANNELS_LAST)


@on_its_device
def adain(content: Tensor, style: Tensor, alpha: float, mask: Tensor | None, eps: float) -> Tensor:
    content = to_dense(content)
    return _map(content, match_layout(style, content), None, None, alpha, _dense_mask(mask, content), eps)


@on_its_device
def adain_affine(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return _map(to_dense(x), None, scale.contiguous(), shift.contiguous(), 1.0, None, eps)


@on_its_device
def adain_backward(dy: Tensor, content: Tensor, style: Tensor, alpha: float, mask: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    given, content = style, to_dense(content)
    style, dy, mask = match_layout(style, content), match_layout(dy, content), _dense_mask(mask, content)
    d_content, d_style = torch.empty_like(content), torch.empty_like(style)
    if not content.numel():
        return d_content, match_layout(d_style.zero_(), given)
    whole = _whole(content, style)
    if whole is not None:
        whole.launch(_whole_backward, dy, content, style, None, mask, d_content, d_style, None, None, alpha, eps)
        return d_content, match_layout(d_style, given)
    of_style, of_content = _moments(style, None, mask, alpha, eps), _moments(content, dy, mask, alpha, eps)
    _launch(_backward_content, content, dy, content, of_content, of_style[1], mask, d_content, alpha)
    _launch(_backward_style, style, style, of_style, of_content[3:], mask, d_style)
    return d_content, match_layout(d_style, given)


@on_its_device
def adain_affine_backward(dy: Tensor, x: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    x = to_dense(x)
    dy, scale, dx = match_layout(dy, x), scale.contiguous(), torch.empty_like(x)
    if not x.numel():
        d_scale, d_shift = x.new_zeros((2, *x.shape[:2]), dtype=acc_dtype(x.dtype))
        return dx, d_scale, d_shift
    whole = _whole(x, None)
    if whole is not None:
        d_scale, d_shift = (x.new_empty(x.shape[:2], dtype=acc_dtype(x.dtype)) for _ in range(2))
        whole.launch(_whole_backward, dy, x, None, scale, None, dx, None, d_scale, d_shift, 1.0, eps)
        return dx, d_scale, d_shift
    moments = _moments(x, dy, None, 1.0, eps)
    _launch(_backward_content, x, dy, x, moments, scale, None, dx, 1.0)
    return dx, moments[4].clone(), moments[3].clone()


def _map(
    x: Tensor, style: Tensor | None, scale: Tensor | None, shift: Tensor | None, alpha: float, mask: Tensor | None, eps: float
) -> Tensor:
    """The forward pass of both: towards a style's statistics or a given scale and shift."""
    y = torch.empty_like(x)
    if not x.numel():
        return y
    whole = _whole(x, style)
    if whole is not None:
        whole.launch(_whole_forward, x, style, scale, shift, mask, y, alpha, eps)
        return y
    if style is not None:
        shift, scale = _moments(style, None, mask, alpha, eps)[:2]
    moments = _moments(x, None, mask, alpha, eps)
    _launch(_forward, x, x, moments, scale, shift, mask, y, alpha)
    return y


def _moments(x: Tensor, dy: Tensor | None, mask: Tensor | None, alpha: float, eps: float) -> Tensor:
    """Mean, sigma and weight of each plane; given dy also the sums of dt and of dt x_hat: [3 or 5, N, C]."""
    (n, c), t, sums = x.shape[:2], _tiles(x), 3 if dy is None else 5
    parts = x.new_empty((sums, t.blocks_p, n, c), dtype=acc_dtype(x.dtype))
    _launch(_partial_moments, x, x, dy, mask, parts, alpha, blocks=t.blocks_p)
    moments = parts.new_empty((sums, n, c))
    _combine[(triton.cdiv(n * c, 128),)](parts, moments, n * c, t.blocks_p, eps, sums, 128, acc_type(x))
    return moments


def _tiles(x: Tensor) -> Tiles:
    return tiles(x, tile(x.element_size()), 16)


def _launch(kernel: Any, x: Tensor, *args: Any, **options: Any) -> None:
    """Runs a kernel over the tiles of x."""
    t, (n, c) = _tiles(x), x.shape[:2]
    kernel[(t.programs,)](
        *args, N=n, C=c, P=x.shape[2] * x.shape[3], steps=t.steps, **options,
        PIXELS=t.pixels, CHANNELS=t.channels, CHANNELS_LAST=is_channels_last(x), ACC=acc_type(x),
        num_warps=_warps(t.pixels * t.channels),
    )  # fmt: skip


def _warps(elements: int) -> int:
    """16 elements of each tensor in a thread's registers."""
    return min(max(elements // 512, 4), 32)


_MOST = 8192  # elements of a tile that holds whole planes; the registers of twice as many spill


class _Whole(NamedTuple):
    """Tiles that hold whole planes."""

    x: Tensor
    style_plane: int
    channels: int
    elements: int

    def launch(self, kernel: Any, *args: Any) -> None:
        n, c, *plane = self.x.shape
        pixels = plane[0] * plane[1]
        kernel[(n * triton.cdiv(c, self.channels),)](
            *args, c, pixels, self.style_plane, triton.next_power_of_2(pixels), triton.next_power_of_2(self.style_plane),
            self.channels, is_channels_last(self.x), acc_type(self.x), num_warps=_warps(self.elements),
        )  # fmt: skip


def _whole(x: Tensor, style: Tensor | None) -> _Whole | None:
    """None where a tile of whole planes would be too large or too few of them would leave a GPU idle."""
    n, c, plane = *x.shape[:2], x.shape[2] * x.shape[3]
    style_plane = 1 if style is None else style.shape[2] * style.shape[3]
    larger, all_channels = triton.next_power_of_2(max(plane, style_plane)), triton.next_power_of_2(c)
    narrowest = 32 // x.element_size() if is_channels_last(x) else 1  # 32 bytes, the least that memory moves
    channels = min(max(tile(x.element_size()) // larger, narrowest), all_channels)
    elements = larger * channels
    idle = elements > tile(x.element_size()) and n * triton.cdiv(c, channels) < MULTIPROCESSORS
    return None if idle or elements * acc_dtype(x.dtype).itemsize > 4 * _MOST else _Whole(x, style_plane, channels, elements)


def _dense_mask(mask: Tensor | None, x: Tensor) -> Tensor | None:
    return None if mask is None else mask.to(acc_dtype(x.dtype)).contiguous()
