"""`torch_utils.ops.conv2d_resample`."""

from __future__ import annotations

from torch import Tensor

from facegan import ops
from facegan.compat.arguments import Pair, paddings


def conv2d_resample(
    x: Tensor,
    w: Tensor,
    f: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> Tensor:
    """Compute `facegan.ops.conv2d_resample`; without a filter one tap stands in."""
    if f is None and max(up, down) > 1:
        f = ops.setup_filter([1], device=x.device)
    return ops.conv2d_resample(
        x, w, f, up=up, down=down, padding=paddings(padding), groups=groups, flip_weight=flip_weight, flip_filter=flip_filter
    )
