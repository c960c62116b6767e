"""A whole synthesis layer of stride 1 as one kernel: an implicit GEMM with the styles folded in and the epilogue on its accumulator.

Rows are output pixels of one sample, columns output channels, and the inner dimension runs over the taps of the kernel and, for
each, the input channels: `acc[p, o] = sum_{tap, i} (x[p + tap, i] s[i]) w[o, tap, i]`, then
`y = clamp(gain * act(acc * d + noise + b))`. For few channels at a high resolution this reads x and writes y once, where the
library's convolution leaves two more passes over each. Everything is channels_last.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import conv2d

from ..activation import activate, activation_of, scalars
from ..layout import on_its_device, operand
from .epilogue import modulate, modulated_epilogue


def configuration(c_out: int) -> dict[str, int]:
    """Of the tiles [PIXELS, OUT] and of a step's BYTES of each pixel's channels: one that suits every GPU from sm_80 on."""
    if c_out > 32:
        return dict(PIXELS=128, OUT=64, BYTES=64, num_warps=8, num_stages=4)
    return dict(PIXELS=128, OUT=32, BYTES=64, num_warps=4, num_stages=4)


@triton.jit(do_not_specialize=["H", "W", "H_OUT", "W_OUT", "padding", "noise_stride"])
def _layer(
    x, w, s, d, noise, b, y, C, C_OUT, H, W, H_OUT, W_OUT, padding, noise_stride,
    slope: tl.float64, gain: tl.float64, clamp: tl.float64, SIZE: tl.constexpr, ACT: tl.constexpr,
    PRECISION: tl.constexpr, DTYPE: tl.constexpr, PIXELS: tl.constexpr, OUT: tl.constexpr, BYTES: tl.constexpr
):  # fmt: skip
    """x [N, H, W, C], w [C_OUT, SIZE, SIZE, C], y [N, H_OUT, W_OUT, C_OUT]; DTYPE is the type that tl.dot should see.

    A step of the loop takes one tap and BYTES of each pixel's channels.
    """
    IN: tl.constexpr = BYTES * 8 // x.dtype.element_ty.primitive_bitwidth
    slope, gain, clamp = scalars(slope, gain, clamp, tl.float32)
    pid, P = tl.program_id(0), H_OUT * W_OUT
    across, along = tl.cdiv(C_OUT, OUT), tl.cdiv(P, PIXELS)
    block_o, pid = pid % across, pid // across  # neighbours read the same pixels
    block_p, n = pid % along, (pid // along).to(tl.int64)
    p, o = block_p * PIXELS + tl.arange(0, PIXELS), block_o * OUT + tl.arange(0, OUT)
    top, left = p // W_OUT - padding, p % W_OUT - padding
    x += n * H * W * C
    channels = tl.cdiv(C, IN)
    acc = tl.zeros((PIXELS, OUT), tl.float32)
    for step in range(SIZE * SIZE * channels):
        tap, i = step // channels, step % channels * IN + tl.arange(0, IN)
        row, column = top + tap // SIZE, left + tap % SIZE
        there = (p < P) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
        at = (row.to(tl.int64) * W + column) * C
        pixel = tl.load(x + at[:, None] + i[None, :], there[:, None] & (i < C)[None, :], 0.0)
        style = tl.load(s + n * C + i, i < C, 0.0)
        pixel = (pixel.to(tl.float32) * style.to(tl.float32)[None, :]).to(pixel.dtype)  # rounded as `modulate` does
        at_w = (o.to(tl.int64) * SIZE * SIZE + tap) * C
        weight = tl.load(w + at_w[:, None] + i[None, :], (o < C_OUT)[:, None] & (i < C)[None, :], 0.0)
        acc = tl.dot(pixel.to(DTYPE), tl.trans(weight).to(DTYPE), acc, input_precision=PRECISION)
    if d is not None:
        acc = acc * tl.load(d + n * C_OUT + o, o < C_OUT, 0.0).to(tl.float32)[None, :]
    if noise is not None:
        acc = acc + tl.load(noise + n * noise_stride + p, p < P, 0.0).to(tl.float32)[:, None]
    if b is not None:
        acc = acc + tl.load(b + o, o < C_OUT, 0.0).to(tl.float32)[None, :]
    at_y = (n * P + p)[:, None] * C_OUT + o[None, :]
    tl.store(y + at_y, activate(acc, ACT, slope, gain, clamp), (p < P)[:, None] & (o < C_OUT)[None, :])


@on_its_device
def modulated_conv2d_fused(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    padding: int,
    flip_weight: bool,
    *activation: Any,
) -> Tensor:
    weight = weight if flip_weight else weight.flip(2, 3)
    memory_format = torch._prims_common.suggest_memory_format(x)
    (n, c, height, width), (c_out, _, size, _) = x.shape, weight.shape
    h_out, w_out = height + 2 * padding - size + 1, width + 2 * padding - size + 1
    if n * c_out * h_out * w_out == 0:
        return torch.empty((n, c_out, h_out, w_out), dtype=x.dtype, device=x.device).contiguous(memory_format=memory_format)
    if x.dtype == torch.float64:
        z = conv2d(modulate(x, s), weight, padding=padding) if c else x.new_zeros((n, c_out, h_out, w_out))
        y = modulated_epilogue(z, d, noise, b, None, [0] * 4, *activation)
        return y.contiguous(memory_format=memory_format)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    y = torch.empty((n, c_out, h_out, w_out), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    d, noise, b = (None if t is None else t.contiguous() for t in (d, noise, b))
    noise_stride = 0 if noise is None or noise.shape[0] == 1 else h_out * w_out
    tiles, pixels = configuration(c_out), h_out * w_out
    _layer[(n * triton.cdiv(pixels, tiles["PIXELS"]) * triton.cdiv(c_out, tiles["OUT"]),)](
        x, weight, s.contiguous(), d, noise, b, y, c, c_out, height, width, h_out, w_out, padding, noise_stride,
        SIZE=size, **activation_of(activation, x.dtype)._asdict(), PRECISION=_precision(), DTYPE=operand(x.dtype), **tiles,
    )  # fmt: skip
    return y.contiguous(memory_format=memory_format)


def _precision() -> str:
    """Of float32 products: what the user allows the library's convolutions, or that of float32 in three products."""
    return "tf32" if torch.backends.cudnn.conv.fp32_precision == "tf32" else "tf32x3"  # type: ignore[attr-defined]
