"""`torch_utils.ops.filtered_lrelu`."""

from __future__ import annotations

import math

from torch import Tensor

from facegan import ops
from facegan.compat.arguments import Pair, implementation, paddings


def filtered_lrelu(
    x: Tensor,
    fu: Tensor | None = None,
    fd: Tensor | None = None,
    b: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Pair = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    impl: str = "cuda",
) -> Tensor:
    """Compute `facegan.ops.filtered_lrelu`."""
    clamp = None if clamp is None else float(clamp)
    with implementation("filtered_lrelu", impl):
        return ops.filtered_lrelu(x, fu, fd, b, up, down, paddings(padding), float(gain), float(slope), clamp, flip_filter)
