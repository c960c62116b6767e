"""The toRGB layer: a 1 x 1 convolution to a few channels with weights per sample, y[n, o, p] = sum_i w[n, o, i] x[n, i, p].

The large tensor, x, is read once (and its gradient written once, in the same pass that yields the weight's); tensor cores do
the sums, with the few output channels padded to the 16 that they take.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from facegan_kernels.dtypes import acc_dtype

from ..layout import is_channels_last, match_layout, offsets, on_its_device, operand, place, tiles, to_dense

FEW = 16  # output channels, at most, for which this is a matter of bandwidth


@triton.jit
def _forward(
    x, w, y, OUT, C, P,
    FEW: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, OPERAND: tl.constexpr
):  # fmt: skip
    n, block_p, _ = place(1, P, 1, PIXELS, 1, CHANNELS_LAST)
    p, o = block_p * PIXELS + tl.arange(0, PIXELS), tl.arange(0, FEW)
    total = tl.zeros((PIXELS, FEW), tl.float32)
    for start in range(0, C, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        value = tl.load(x + offsets(n, p, c, C, P, CHANNELS_LAST), (p < P)[:, None] & (c < C)[None, :], 0.0)
        weight = tl.load(w + (n * OUT + o[None, :]) * C + c[:, None], (o < OUT)[None, :] & (c < C)[:, None], 0.0)  # [C, O]
        weight = weight.to(value.dtype).to(OPERAND)  # rounded like x, as in a product of matrices
        total = tl.dot(value.to(OPERAND), weight, total, input_precision="tf32x3")
    tl.store(y + offsets(n, p, o, OUT, P, CHANNELS_LAST), total, (p < P)[:, None] & (o < OUT)[None, :])


@triton.jit(do_not_specialize=["N", "steps"])
def _backward(
    dy, x, w, dx, dw, N, OUT, C, P, steps,
    FEW: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr, OPERAND: tl.constexpr
):  # fmt: skip
    """dx, and the weight's gradient over this program's pixels into dw [blocks, N, OUT, C]."""
    n, block_p, c = place(C, P, steps, PIXELS, CHANNELS, CHANNELS_LAST)
    o = tl.arange(0, FEW)
    at_w, of_w = (n * OUT + o[:, None]) * C + c[None, :], (o < OUT)[:, None] & (c < C)[None, :]
    weight = tl.load(w + at_w, of_w, 0.0).to(x.dtype.element_ty).to(OPERAND)
    of_weight = tl.zeros((FEW, CHANNELS), tl.float32)
    for step in range(steps):
        p = (block_p * steps + step) * PIXELS + tl.arange(0, PIXELS)
        inside, at = (p < P)[:, None] & (c < C)[None, :], offsets(n, p, c, C, P, CHANNELS_LAST)
        value = tl.load(x + at, inside, 0.0).to(OPERAND)
        g = tl.load(dy + offsets(n, p, o, OUT, P, CHANNELS_LAST), (p < P)[:, None] & (o < OUT)[None, :], 0.0).to(OPERAND)
        of_weight = tl.dot(tl.trans(g), value, of_weight, input_precision="tf32x3")
        tl.store(dx + at, tl.dot(g, weight, input_precision="tf32x3"), inside)
    tl.store(dw + block_p.to(tl.int64) * N * OUT * C + at_w, of_weight, of_w)


def _is_served(x: Tensor, w: Tensor) -> bool:
    """Many channels make it a product of matrices, which the library does best; and it has float64."""
    return w.shape[1] <= FEW and x.dtype != torch.float64 and x.numel() > 0 and w.numel() > 0


def _library(x: Tensor, w: Tensor, channels_last: bool) -> Tensor:
    """[N, I, H, W] and [N, O, I] -> [N, O, H, W] in x's dtype."""
    w = w.to(x.dtype)
    if channels_last:
        return (x.permute(0, 2, 3, 1).flatten(1, 2) @ w.mT).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    return (w @ x.flatten(2)).unflatten(2, x.shape[2:])


@on_its_device
def pointwise(x: Tensor, w: Tensor) -> Tensor:
    x = to_dense(x)
    if not _is_served(x, w):
        return _library(x, w, is_channels_last(x))
    n, c, height, width = x.shape
    memory_format = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    y = torch.empty((n, w.shape[1], height, width), dtype=x.dtype, device=x.device, memory_format=memory_format)
    pixels, channels = 128, max(16, min(128 // x.element_size(), triton.next_power_of_2(c)))
    _forward[(n * triton.cdiv(height * width, pixels),)](
        x, w.contiguous(), y, w.shape[1], c, height * width,
        FEW=FEW, PIXELS=pixels, CHANNELS=channels, CHANNELS_LAST=is_channels_last(x),
        OPERAND=operand(x.dtype), num_warps=4,
    )  # fmt: skip
    return y


@on_its_device
def pointwise_backward(dy: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    x = to_dense(x)
    dy = match_layout(dy, x)
    if not x.numel():
        return torch.empty_like(x), dy.new_zeros(w.shape, dtype=acc_dtype(x.dtype))
    if not _is_served(x, w):
        return _library(dy, w.mT, is_channels_last(x)), dy.to(acc_dtype(x.dtype)).flatten(2) @ x.to(acc_dtype(x.dtype)).flatten(2).mT
    elements = 1024 if x.dtype == torch.float32 else 4096  # float32 takes three products for one, and as many more registers
    (n, c, height, width), t = x.shape, tiles(x, elements, 16)
    pixels, channels = max(16, t.pixels), max(16, t.channels)
    blocks_p, blocks_c = triton.cdiv(height * width, pixels * t.steps), triton.cdiv(c, channels)
    dx = torch.empty_like(x)
    dw = x.new_empty((blocks_p, n, w.shape[1], c), dtype=torch.float32)
    _backward[(n * blocks_p * blocks_c,)](
        dy, x, w.contiguous(), dx, dw, n, w.shape[1], c, height * width, t.steps,
        FEW=FEW, PIXELS=pixels, CHANNELS=channels, CHANNELS_LAST=is_channels_last(x),
        OPERAND=operand(x.dtype), num_warps=4,
    )  # fmt: skip
    return dx, dw.sum(0)
