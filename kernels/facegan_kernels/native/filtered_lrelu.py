"""`filtered_lrelu` by the compiled `upfirdn2d`, 16 planes at a time, so that their upsampled map stays near a CPU's core.

The map between the filters is up * up times as large as x: in memory it would take longer to write and read than to filter. The 16
planes lie as channels_last, whose filters read vectors of one pixel: zero-insertion in rows takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from facegan_kernels import composed
from facegan_kernels.native import as_format, channels_last, require

require()
_upfirdn2d = torch.ops.facegan.upfirdn2d.default
_PLANES = 16  # vectors of AVX2, and an upsampled map that the caches hold up to 100 px


def filtered_lrelu(x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
    """As `facegan.ops.filtered_lrelu`: y [N, C, H', W'] of the dtype and memory format of x [N, C, H, W]; b [C] of x's dtype."""
    given = composed.Options(*options)

    def piece(x: Tensor) -> Tensor:
        return composed.filtered_lrelu(_upfirdn2d, x, fu, fd, given)

    return _by_pieces(piece, x, b)


def filtered_lrelu_slope(a: Tensor, x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
    """As `facegan.ops.filtered_lrelu.filtered_lrelu_slope_ref`, in a's dtype and memory format."""
    *rest, adjoint = options
    given = composed.Options(*rest)

    def piece(x: Tensor, a: Tensor) -> Tensor:
        return composed.filtered_lrelu_slope(_upfirdn2d, a, x, fu, fd, given, adjoint)

    return _by_pieces(piece, x, b, a)


def _by_pieces(piece: Callable[..., Tensor], x: Tensor, b: Tensor | None, *others: Tensor) -> Tensor:
    """The pieces' results, in the memory format of the last argument; x + b and the others are cut into the same planes."""
    last = channels_last(others[-1] if others else x)
    if b is not None:
        x = x + b[:, None, None]
    if x.device.type != "cpu" or x.numel() == 0:
        return as_format(piece(x, *others), last)
    maps = [as_format(t, False).view(1, -1, *t.shape[2:]) for t in (x, *others)]
    y: Tensor | None = None
    for first in range(0, maps[0].shape[1], _PLANES):
        planes = slice(first, first + _PLANES)
        result = piece(*(m[:, planes].contiguous(memory_format=torch.channels_last) for m in maps))
        if y is None:
            y = result.new_empty((1, maps[0].shape[1], *result.shape[2:]))
        y[:, planes] = result
    assert y is not None  # x has planes
    return as_format(y.view(*x.shape[:2], *y.shape[2:]), last)
