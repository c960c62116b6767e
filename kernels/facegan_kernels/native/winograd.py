"""A whole synthesis layer on the CPU by Winograd's minimal filtering F(4 x 4, 3 x 3): a quarter of the multiplications.

Two passes of csrc/cpu/winograd.cpp around one batched matrix product. The results differ from a direct convolution's by about
five times float32's rounding. Weights are transformed once for as long as they live unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from facegan_kernels.native import require
from facegan_kernels.native.layout import activation, per_channel

require()
_input = torch.ops.facegan_native.winograd_input.default
_output = torch.ops.facegan_native.winograd_output.default

# Lavin & Gray 2016, section 4.3
_G = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64, device="cpu") / 24
_TILE, _POINTS = 4, 36
_SAMPLES = 4096  # weights compared in every call
_BYTES = 8 << 20  # of the two buffers: what stays in a last-level cache
_transformed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # weight -> (its state, a sample, its transform)


def modulated_conv2d_fused(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    padding: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """The layer for float32 x [N, I, H, W] on the CPU, weight [O, I, 3, 3] and padding 1; the result has x's format."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or weight.shape[2:] != (3, 3) or padding != 1:
        raise NotImplementedError("the Winograd layer takes float32 on the CPU, a 3 x 3 weight and padding 1")
    memory_format = torch._prims_common.suggest_memory_format(x)
    x = x.contiguous(memory_format=torch.channels_last)
    (n, c, h, w), o = x.shape, weight.shape[0]
    products = _transform(weight)
    y = x.new_empty((n, o, h, w)).contiguous(memory_format=torch.channels_last)
    tiles = n * -(-h // _TILE) * -(-w // _TILE)
    chunk = min(tiles, max(64, _BYTES // (_POINTS * 4 * (c + o))))
    v, m = x.new_empty(_POINTS * chunk * c), x.new_empty(_POINTS * chunk * o)
    s, d, b = per_channel(s, x.dtype), None if d is None else per_channel(d, x.dtype), None if b is None else per_channel(b, x.dtype)
    noise = None if noise is None else noise.contiguous()
    tail = (0 if noise is None else noise.shape[0], *activation(act, alpha, gain, clamp, x.dtype))
    for first in range(0, tiles, chunk):
        size = min(chunk, tiles - first)
        block = v[: _POINTS * size * c].view(_POINTS, size, c), m[: _POINTS * size * o].view(_POINTS, size, o)
        _input(x, s, block[0], h, w, c, first, size)
        torch.bmm(block[0], products, out=block[1])
        _output(block[1], d, noise, b, y, h, w, o, first, size, *tail)
    return y.contiguous(memory_format=memory_format)


def _transform(weight: Tensor) -> Tensor:
    """G g G^T of every 3 x 3 kernel, [36, I, O]."""
    # `weight.data.copy_(...)` leaves version and place as they are, so a sample of the values is compared as well
    flat = weight.detach().flatten()
    state = 0 if weight.is_inference() else weight._version, weight.data_ptr()
    known, sample, products = _transformed.get(weight, (None, flat, None))
    step = max(1, flat.numel() // _SAMPLES)
    if known != state or not torch.equal(sample, flat[::step]):
        both_axes = torch.kron(_G, _G).float()
        taps = weight.detach().permute(2, 3, 1, 0).reshape(9, -1)
        products = (both_axes @ taps).view(_POINTS, weight.shape[1], weight.shape[0])
        _transformed[weight] = state, flat[::step].clone(), products
    return products
