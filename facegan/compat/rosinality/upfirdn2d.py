"""`op.upfirdn2d`, `basicsr.ops.upfirdn2d.upfirdn2d`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facegan import ops
from facegan.compat.arguments import Pair, factors, numbers


def upfirdn2d(input: Tensor, kernel: Tensor, up: Pair = 1, down: Pair = 1, pad: Pair = (0, 0), device: Any = None) -> Tensor:
    """Compute `facegan.ops.upfirdn2d`: kernel [KH, KW]; pad (before, after) for both axes, or (x0, x1, y0, y1)."""
    given = numbers("pad", pad, 2, 4)
    before_x, after_x, before_y, after_y = given * (4 // len(given))
    return ops.upfirdn2d(input, kernel, factors(up), factors(down), (before_y, after_y, before_x, after_x))
