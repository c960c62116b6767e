"""A whole synthesis layer on the CPU by Winograd's minimal filtering F(4 x 4, 3 x 3): a quarter of the multiplications.

Two passes of csrc/cpu/winograd.cpp around 36 matrix products, which oneDNN does as one convolution of 36 groups: on processors with
AVX-512 it is more than twice as fast as the batched product of PyTorch's BLAS. Weights are transformed once for as long as they live
unchanged. The largest error is about that of a direct convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan_kernels.native import as_format, channels_last, require
from facegan_kernels.native.prepacking import cached_on, can_prepack, prepack, prepacked_convolution

require()
_input = torch.ops.facegan.winograd_input.default
_output = torch.ops.facegan.winograd_output.default

_A, _B = 9 / 16, 9 / 4  # squares of the points of csrc/cpu/winograd.cpp: Lavin & Gray 2016, section 4.3, with others


def _row(point: float, scale: float) -> list[float]:
    return [1 / scale, point / scale, point * point / scale]


_G = torch.tensor(
    [
        _row(0, _A * _B),
        *(_row(point, 2 * _A * (_A - _B)) for point in (0.75, -0.75)),
        *(_row(point, 2 * _B * (_B - _A)) for point in (1.5, -1.5)),
        [0, 0, 1],
    ],
    dtype=torch.float64,
    device="cpu",
)
_TILE, _POINTS = 4, 36
_BYTES = 8 << 20  # of the two buffers: what stays in a last-level cache


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
    """The layer for float32 x [N, I, H, W] on the CPU, weight [O, I, 3, 3] and padding 1; the result has x's format."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or weight.shape[2:] != (3, 3) or padding != 1:
        raise NotImplementedError("the Winograd layer takes float32 on the CPU, a 3 x 3 weight and padding 1")
    in_channels_last = channels_last(x)
    x = x.contiguous(memory_format=torch.channels_last)
    (n, c, h, w), o = x.shape, weight.shape[0]
    y = torch.empty((n, o, h, w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    tiles = n * -(-h // _TILE) * -(-w // _TILE)
    chunks = -(-tiles // max(64, _BYTES // (_POINTS * 4 * (c + o))))
    size = -(-tiles // chunks)  # the same for all, as the weight's format depends on it: the last chunk repeats some tiles
    v = x.new_empty((size, _POINTS, c))
    s = s.to(x.dtype).contiguous()
    d, noise, b = (None if t is None else t.to(x.dtype).contiguous() for t in (d, noise, b))
    noise_batch = 0 if noise is None else noise.shape[0]
    for chunk in range(chunks):
        first = min(chunk * size, tiles - size)
        _input(x, s, v, h, w, c, first, size)
        _output(_products(v, weight, flip_weight), d, noise, b, y, h, w, o, first, size, noise_batch, *activation)
    return as_format(y, in_channels_last)


def _products(v: Tensor, weight: Tensor, flip_weight: bool) -> Tensor:
    """v [tiles, 36, I], point by point times the transformed weight [O, I, 3, 3] -> [tiles, 36, O]."""
    tiles, _, c = v.shape

    def transform(w: Tensor) -> Tensor:
        return _transform(w if flip_weight else w.flip(2, 3))

    if not can_prepack(v):
        transformed: Tensor = cached_on(weight, "winograd", flip_weight, transform)
        return torch.bmm(v.transpose(0, 1), transformed.transpose(1, 2)).transpose(0, 1).contiguous()
    maps = v.view(1, tiles, 1, _POINTS * c).permute(0, 3, 1, 2)  # channels_last, a pixel a tile

    def grouped(w: Tensor) -> Tensor:
        return prepack(transform(w).view(-1, c, 1, 1), maps, 1, 0, groups=_POINTS)

    m = prepacked_convolution(maps, cached_on(weight, "winograd", (tiles, flip_weight), grouped), 1, 0, groups=_POINTS)
    return m.permute(0, 2, 3, 1).contiguous().view(tiles, _POINTS, -1)


def _transform(weight: Tensor) -> Tensor:
    """G g G^T of every 3 x 3 kernel, [36, O, I]."""
    taps = weight.permute(2, 3, 0, 1).reshape(9, -1)
    return (torch.kron(_G, _G).float() @ taps).view(_POINTS, *weight.shape[:2])
