"""`upfirdn2d`: polyphase, so that the zeros between the pixels are never multiplied. Its gradient is itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facegan_kernels.native import require
from facegan_kernels.native.layout import dense, through_float32, wide

require()
_upfirdn2d = torch.ops.facegan_native.upfirdn2d.default


@through_float32()
def upfirdn2d(
    x: Tensor, f: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int], flip_filter: bool, gain: float
) -> Tensor:
    """Zero-inserts by `up`, pads by (top, bottom, left, right), filters by f and keeps every `down`-th pixel."""
    x, channels_last = dense(x)
    n, c, h, w = x.shape
    top, bottom, left, right = padding
    kh, kw = f.shape[0], f.shape[1] if f.ndim == 2 else 0
    oh = (h * up[0] + top + bottom - kh) // down[0] + 1
    ow = (w * up[1] + left + right - (kw or kh)) // down[1] + 1
    y = torch.empty(
        (n, c, oh, ow),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    f = f.to(device=x.device, dtype=wide(x.dtype)).contiguous()
    _upfirdn2d(x, f, y, n, c, h, w, oh, ow, channels_last, kh, kw, *up, *down, top, left, flip_filter, gain)
    return y
