"""The memory-bound passes around the convolution of a synthesis layer: `facegan/ops/modulated_conv2d/reference.py` states their formulas.

Everything is one of three kernels over tiles [pixels, channels] (see `layout`): scale and activate (`modulate`,
`modulated_epilogue`), the gradient with all sums that go with it (`modulate_backward`, `modulated_epilogue_backward`) and the
gradient of that. Sums are partial per program, finished by a torch.sum over a small buffer: no atomics, so a run repeats bit by
bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from facegan_kernels.dtypes import acc_dtype

from ..activation import NONE, Activation, activate, activation_of, scalars, times_slope, unclamped
from ..layout import Tiles, acc_type, factors, is_channels_last, match_layout, offsets, on_its_device, place, tiles, to_dense
from ..tuning import tile


@triton.jit
def _forward(
    x, d, masks, noise, b, onto, weight, y, C, P, mask_stride, noise_stride, weight_stride,
    slope: tl.float64, gain: tl.float64, clamp: tl.float64, ACT: tl.constexpr,
    REGIONS: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """y = onto + weight * clamp(gain * act(x * d + noise + b)), one tile; d [N, 1 + REGIONS, C] varies by pixel, as the masks say."""
    slope, gain, clamp = scalars(slope, gain, clamp, ACC)
    n, block_p, c = place(C, P, 1, PIXELS, CHANNELS, CHANNELS_LAST)
    p = block_p * PIXELS + tl.arange(0, PIXELS)
    inside, at = (p < P)[:, None] & (c < C)[None, :], offsets(n, p, c, C, P, CHANNELS_LAST)
    v = tl.load(x + at, inside).to(ACC)
    if d is not None:
        v = v * factors(d, masks, n, p, c, p < P, c < C, C, P, mask_stride, REGIONS, ACC)
    if noise is not None:
        v = v + tl.load(noise + n * noise_stride + p, p < P).to(ACC)[:, None]
    if b is not None:
        v = v + tl.load(b + c, c < C).to(ACC)[None, :]
    v = activate(v, ACT, slope, gain, clamp)
    if weight is not None:
        v = v * tl.load(weight + n * weight_stride + p, p < P).to(ACC)[:, None]
    if onto is not None:
        v = v + tl.load(onto + at, inside).to(ACC)
    tl.store(y + at, v, inside)


@triton.jit(do_not_specialize=["N", "steps"])
def _backward(
    dy, y, d, noise, dz, sums, dn, N, C, P, noise_stride, steps, slope: tl.float64, gain: tl.float64, clamp: tl.float64,
    ACT: tl.constexpr, SUMS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """dz = g d with g = dy slope(y); the sums over this program's pixels into sums [blocks, SUMS, N, C], those of g over its
    channels into dn [blocks, N, P]."""
    slope, gain, clamp = scalars(slope, gain, clamp, ACC)
    n, block_p, c = place(C, P, steps, PIXELS, CHANNELS, CHANNELS_LAST)
    block_c = tl.min(c) // CHANNELS
    with_y = tl.zeros((PIXELS, CHANNELS), ACC)
    with_noise = tl.zeros((PIXELS, CHANNELS), ACC)
    alone = tl.zeros((PIXELS, CHANNELS), ACC)
    factor = None
    if d is not None:
        factor = tl.load(d + n * C + c, c < C).to(ACC)[None, :]
    for step in range(steps):
        p = (block_p * steps + step) * PIXELS + tl.arange(0, PIXELS)
        inside, at = (p < P)[:, None] & (c < C)[None, :], offsets(n, p, c, C, P, CHANNELS_LAST)
        output = tl.load(y + at, inside, 0.0).to(ACC)
        g = tl.load(dy + at, inside, 0.0).to(ACC)
        with_y += unclamped(g * output, output, clamp)
        g = times_slope(g, output, ACT, slope, gain, clamp)
        if dn is not None:
            tl.store(dn + (block_c.to(tl.int64) * N + n) * P + p, tl.sum(g, 1), p < P)
        if SUMS == 3:
            alone += g
            if noise is not None:
                with_noise += g * tl.load(noise + n * noise_stride + p, p < P, 0.0).to(ACC)[:, None]
        if d is not None:
            g = g * factor
        tl.store(dz + at, g, inside)
    sums += (block_p.to(tl.int64) * SUMS * N + n) * C + c
    tl.store(sums, tl.sum(with_y, 0), c < C)
    if SUMS == 3:
        tl.store(sums + N * C, tl.sum(with_noise, 0), c < C)
        tl.store(sums + 2 * N * C, tl.sum(alone, 0), c < C)


@triton.jit(do_not_specialize=["N", "steps"])
def _double_backward(
    gdz, gsums, gdn, dy, y, d, noise, d_dy, d_y, d_d, d_noise, N, C, P, noise_stride, gdn_stride, steps,
    slope: tl.float64, gain: tl.float64, clamp: tl.float64, ACT: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """Gradients of dy, y, d (partial: [blocks, N, C]) and noise (partial: [blocks, N, P]), given those of dz, sums and dn."""
    slope, gain, clamp = scalars(slope, gain, clamp, ACC)
    n, block_p, c = place(C, P, steps, PIXELS, CHANNELS, CHANNELS_LAST)
    block_c = tl.min(c) // CHANNELS
    with_g = tl.zeros((PIXELS, CHANNELS), ACC)
    at_c = n * C + c
    factor, of_y, of_noise, of_sum = None, None, None, None
    if d is not None:
        factor = tl.load(d + at_c, c < C).to(ACC)[None, :]
    if gsums is not None:
        of_y = tl.load(gsums + at_c, c < C).to(ACC)[None, :]
        of_sum = tl.load(gsums + 2 * N * C + at_c, c < C).to(ACC)[None, :]
        if noise is not None:
            of_noise = tl.load(gsums + N * C + at_c, c < C, 0.0).to(ACC)[None, :]
    for step in range(steps):
        p = (block_p * steps + step) * PIXELS + tl.arange(0, PIXELS)
        inside, at = (p < P)[:, None] & (c < C)[None, :], offsets(n, p, c, C, P, CHANNELS_LAST)
        output = tl.load(y + at, inside, 0.0).to(ACC)
        given = tl.load(dy + at, inside, 0.0).to(ACC)
        of_g = tl.load(gdz + at, inside, 0.0).to(ACC)
        g = times_slope(given, output, ACT, slope, gain, clamp)
        if d is not None:
            with_g += of_g * g
            of_g = of_g * factor
        if gdn is not None:
            of_g = of_g + tl.load(gdn + n * gdn_stride + p, p < P).to(ACC)[:, None]
        if gsums is not None:
            of_g = of_g + of_sum
            if noise is not None:
                of_g = of_g + of_noise * tl.load(noise + n * noise_stride + p, p < P).to(ACC)[:, None]
                tl.store(d_noise + (block_c.to(tl.int64) * N + n) * P + p, tl.sum(g * of_noise, 1), p < P)
        of_dy = times_slope(of_g, output, ACT, slope, gain, clamp)
        if gsums is not None:
            of_dy = of_dy + unclamped(of_y * output, output, clamp)
            tl.store(d_y + at, unclamped(of_y * given, output, clamp), inside)
        tl.store(d_dy + at, of_dy, inside)
    if d is not None:
        tl.store(d_d + (block_p.to(tl.int64) * N + n) * C + c, tl.sum(with_g, 0), c < C)


def _options(x: Tensor, activation: Activation) -> dict[str, object]:
    return activation._asdict() | dict(CHANNELS_LAST=is_channels_last(x), ACC=acc_type(x))


def _contiguous(v: Tensor | None) -> Tensor | None:
    return None if v is None else v.contiguous()


def _stride(v: Tensor | None) -> int:
    """From one sample to the next of [1 or N, K, H, W]."""
    return 0 if v is None or v.shape[0] == 1 else v.shape[1] * v.shape[2] * v.shape[3]


@on_its_device
def modulate(x: Tensor, s: Tensor) -> Tensor:
    return _mapped(x, s, None, None, NONE)


@on_its_device
def modulated_epilogue(
    x: Tensor, d: Tensor | None, noise: Tensor | None, b: Tensor | None, f: Tensor | None, padding: list[int], *activation: Any
) -> Tensor:
    if f is not None:
        from ..upfirdn2d import fir_epilogue

        return fir_epilogue(x, d, noise, b, f, padding, activation)
    return _mapped(x, d, noise, b, activation_of(activation, x.dtype))


@on_its_device
def regional_epilogue(
    x: Tensor,
    d: Tensor | None,
    masks: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    f: Tensor | None,
    padding: list[int],
    onto: Tensor | None,
    weight: Tensor | None,
    *activation: Any,
) -> Tensor:
    if f is not None:
        from ..upfirdn2d import fir_epilogue

        return fir_epilogue(x, d, noise, b, f, padding, activation, masks, onto, weight)
    return _mapped(x, d, noise, b, activation_of(activation, x.dtype), masks, onto, weight)


def _mapped(
    x: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    act: Activation,
    masks: Tensor | None = None,
    onto: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    x = to_dense(x)
    y, onto = torch.empty_like(x), None if onto is None else match_layout(onto, x)
    if x.numel():
        t = tiles(x, 8192, 1)
        _forward[(t.programs,)](
            x, *(_contiguous(v) for v in (d, masks, noise, b)), onto, _contiguous(weight), y, x.shape[1], x.shape[2] * x.shape[3],
            _stride(masks), _stride(noise), _stride(weight), REGIONS=0 if masks is None else masks.shape[1],
            PIXELS=t.pixels, CHANNELS=t.channels, num_warps=8, **_options(x, act),
        )  # fmt: skip
    return y


@on_its_device
def modulate_backward(g: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    dx, sums, _ = _gradients(g, x, s, None, 0, 1, NONE)
    return dx, sums[0]


@on_its_device
def modulated_epilogue_backward(
    dy: Tensor, y: Tensor, d: Tensor | None, noise: Tensor | None, noise_batch: int, *activation: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(dy, y, d, None if d is None else noise, noise_batch, 3, activation_of(activation, y.dtype))


def _gradients(
    dy: Tensor, y: Tensor, d: Tensor | None, noise: Tensor | None, noise_batch: int, rows: int, act: Activation
) -> tuple[Tensor, Tensor, Tensor]:
    """(dz, the first `rows` of the sums, dn)."""
    dy = to_dense(dy)
    y, (n, c, height, width) = match_layout(y, dy), dy.shape
    dz = torch.empty_like(dy)
    if not dy.numel():
        dn = dy.new_zeros((noise_batch, 1, height, width) if noise_batch else 0)
        return dz, dy.new_zeros((rows, n, c), dtype=acc_dtype(dy.dtype)), dn
    t = tiles(dy, tile(dy.element_size()) // (2 if dy.dtype == torch.float32 else 1), 16)  # float32 would spill at the full tile
    sums = dy.new_empty((t.blocks_p, rows, n, c), dtype=acc_dtype(dy.dtype))
    partial = _noise_sums(dy, noise_batch, t)
    _backward[(t.programs,)](
        dy, y, _contiguous(d), _contiguous(noise), dz, sums, partial, n, c, height * width, _stride(noise), t.steps,
        SUMS=rows, PIXELS=t.pixels, CHANNELS=t.channels, num_warps=8, **_options(dy, act),
    )  # fmt: skip
    return dz, _summed(sums), dy.new_empty(0) if partial is None else _noise_summed(partial, noise_batch, dy)


def _summed(partial: Tensor) -> Tensor:
    return partial[0] if partial.shape[0] == 1 else partial.sum(0)


def _noise_sums(x: Tensor, noise_batch: int, t: Tiles) -> Tensor | None:
    """Where the sums over channels go, [blocks, N, 1, H, W]."""
    n, _, height, width = x.shape
    return x.new_empty((t.blocks_c, n, 1, height, width), dtype=acc_dtype(x.dtype)) if noise_batch else None


def _noise_summed(partial: Tensor, noise_batch: int, x: Tensor) -> Tensor:
    """[blocks, N, 1, H, W] -> [noise_batch, 1, H, W] in x's dtype."""
    if noise_batch == 1 and partial.shape[1] > 1:
        return partial.flatten(0, 1).sum(0, keepdim=True).to(x.dtype)
    return _summed(partial).to(x.dtype)


@on_its_device
def modulated_epilogue_double_backward(
    gdz: Tensor, gsums: Tensor | None, gdn: Tensor | None, dy: Tensor, y: Tensor, d: Tensor | None, noise: Tensor | None, *activation: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    noise = None if d is None or gsums is None else noise
    noise_batch = 0 if noise is None else noise.shape[0]
    shape, (n, c, height, width) = to_dense(y), y.shape
    dy = to_dense(dy)
    gdz, y = match_layout(gdz, dy), match_layout(y, dy)
    d_dy, d_y = torch.empty_like(dy), dy.new_empty(0) if gsums is None else torch.empty_like(dy)
    if not dy.numel():
        d_d = dy.new_zeros(0 if d is None else (n, c), dtype=acc_dtype(dy.dtype))
        return d_dy, d_y, d_d, dy.new_zeros(0 if noise is None else noise.shape)
    t = tiles(dy, 2048, 16)
    of_d = None if d is None else dy.new_empty((t.blocks_p, n, c), dtype=acc_dtype(dy.dtype))
    of_noise = _noise_sums(dy, noise_batch, t)
    _double_backward[(t.programs,)](
        gdz, _contiguous(gsums), _contiguous(gdn), dy, y, _contiguous(d), _contiguous(noise), d_dy, d_y, of_d, of_noise,
        n, c, height * width, _stride(noise), _stride(gdn), t.steps,
        PIXELS=t.pixels, CHANNELS=t.channels, num_warps=4, **_options(dy, activation_of(activation, dy.dtype)),
    )  # fmt: skip
    return (
        d_dy,
        d_y if gsums is None else match_layout(d_y, shape),
        dy.new_empty(0, dtype=acc_dtype(dy.dtype)) if of_d is None else _summed(of_d),
        dy.new_empty(0) if of_noise is None else _noise_summed(of_noise, noise_batch, dy),
    )
