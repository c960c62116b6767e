"""`adain` and `adain_affine` with their gradients: statistics in the wide dtype, then one affine pass."""

from __future__ import annotations

import torch
from torch import Tensor

from facegan_kernels.native import require
from facegan_kernels.native.layout import as_format, dense, like, per_channel, through_float32, wide

require()
_ops = torch.ops.facegan_native
_adain = _ops.adain.default
_adain_backward = _ops.adain_backward.default
_affine = _ops.adain_affine.default
_affine_backward = _ops.adain_affine_backward.default


def _sizes(x: Tensor) -> tuple[int, int, int]:
    n, c, h, w = x.shape
    return n, c, h * w


@through_float32()
def adain(content: Tensor, style: Tensor, alpha: float, mask: Tensor | None, eps: float) -> Tensor:
    """The content with the style's statistics, blended by alpha and the mask."""
    content, channels_last = dense(content)
    style = as_format(style, channels_last)
    mask = None if mask is None else per_channel(mask, wide(content.dtype))
    y = torch.empty_like(content)
    _adain(content, style, mask, y, *_sizes(content), style.shape[2] * style.shape[3], channels_last, alpha, eps)
    return y


@through_float32()
def adain_backward(dy: Tensor, content: Tensor, style: Tensor, alpha: float, mask: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """(d_content, d_style)"""
    c, channels_last = dense(content)
    dy, s = as_format(dy, channels_last), as_format(style, channels_last)
    mask = None if mask is None else per_channel(mask, wide(c.dtype))
    d_content, d_style = torch.empty_like(c), torch.empty_like(s)
    sizes = (*_sizes(c), s.shape[2] * s.shape[3])
    _adain_backward(dy, c, s, mask, d_content, d_style, *sizes, channels_last, alpha, eps)
    return d_content, like(d_style, style)


@through_float32()
def adain_affine(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """`scale (x - mu) / sigma + shift`"""
    x, channels_last = dense(x)
    dtype = wide(x.dtype)
    y = torch.empty_like(x)
    _affine(x, per_channel(scale, dtype), per_channel(shift, dtype), y, *_sizes(x), channels_last, eps)
    return y


@through_float32(1, 2)
def adain_affine_backward(dy: Tensor, x: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, d_scale, d_shift), the last two [N, C] in the wide dtype."""
    x, channels_last = dense(x)
    dy, dtype = as_format(dy, channels_last), wide(x.dtype)
    dx = torch.empty_like(x)
    d_scale, d_shift = (x.new_empty(x.shape[:2], dtype=dtype) for _ in range(2))
    _affine_backward(dy, x, per_channel(scale, dtype), dx, d_scale, d_shift, *_sizes(x), channels_last, eps)
    return dx, d_scale, d_shift
