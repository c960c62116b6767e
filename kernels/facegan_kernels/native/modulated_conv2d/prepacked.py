"""The parts of a synthesis layer that keep something of their weight for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from facegan_kernels.dtypes import acc_dtype
from facegan_kernels.native import as_format, channels_last
from facegan_kernels.native.prepacking import cached_on, can_prepack, prepack, prepacked_convolution


def prepacked_conv2d(x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool, flip_weight: bool) -> Tensor:
    """x [N, I, H, W] convolved by weight [O, I, K, K], as a layer's `Resampling` has it."""
    options = (stride, padding, transposed)

    def turned(w: Tensor) -> Tensor:
        w = w.flip(2, 3) if transposed == flip_weight else w
        return w.transpose(0, 1) if transposed else w

    if not can_prepack(x):
        return torch.convolution(x, turned(weight), None, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1)
    packed = cached_on(weight, "packed", (x.shape, options, flip_weight), lambda w: prepack(turned(w), x, *options))
    return as_format(prepacked_convolution(x, packed, *options), channels_last(x))


def prepacked_demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """`1 / sqrt(sum_{i,k} (s_i w_{oik})^2 + 1e-8)`, [N, O] (Karras et al. 2020, eq. 3)."""
    dtype = acc_dtype(styles.dtype)
    squares: Tensor = cached_on(weight, "squares", dtype, lambda w: w.to(dtype).square().sum((2, 3)).T.contiguous())
    return torch.rsqrt(styles.to(dtype).square() @ squares + 1e-8)
