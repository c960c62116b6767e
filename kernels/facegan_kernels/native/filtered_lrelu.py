"""`filtered_lrelu` by the compiled `upfirdn2d`, a few planes at a time, so that their upsampled map never leaves a CPU's cache.

The map between the filters is up * up times as large as x: to write and read it in memory takes longer than to filter it.
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
_BYTES = 1 << 20  # of the upsampled planes of one piece: about a core's second cache


def filtered_lrelu(x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
    """As `facegan.ops.filtered_lrelu`: y [N, C, H', W'] of the dtype and memory format of x [N, C, H, W]; b [C] of x's dtype."""
    given = composed.Options(*options)

    def piece(x: Tensor) -> Tensor:
        return composed.filtered_lrelu(_upfirdn2d, x, fu, fd, given)

    return _by_pieces(piece, x, b, given.up)


def filtered_lrelu_slope(a: Tensor, x: Tensor, fu: Tensor, fd: Tensor, b: Tensor | None, *options: Any) -> Tensor:
    """As `facegan.ops.filtered_lrelu.filtered_lrelu_slope_ref`, in a's dtype and memory format."""
    *rest, adjoint = options
    given = composed.Options(*rest)

    def piece(x: Tensor, a: Tensor) -> Tensor:
        return composed.filtered_lrelu_slope(_upfirdn2d, a, x, fu, fd, given, adjoint)

    return _by_pieces(piece, x, b, given.up, a)


def _by_pieces(piece: Callable[..., Tensor], x: Tensor, b: Tensor | None, up: int, *others: Tensor) -> Tensor:
    """The pieces' results, in the memory format of the last argument; x + b and the others are cut into the same planes."""
    last = channels_last(others[-1] if others else x)
    if b is not None:
        x = x + b[:, None, None]
    if x.device.type != "cpu" or x.numel() == 0:
        return as_format(piece(x, *others), last)
    maps = [as_format(t, False).view(1, -1, *t.shape[2:]) for t in (x, *others)]
    planes = max(_BYTES // (up * up * x.shape[2] * x.shape[3] * x.element_size()), 1)
    results = [piece(*cut) for cut in zip(*(m.split(planes, 1) for m in maps), strict=True)]
    y = results[0] if len(results) == 1 else torch.cat(results, 1)
    return as_format(y.view(*x.shape[:2], *y.shape[2:]), last)
