"""`op.conv2d_gradfix`, where `no_weight_gradients` needs no leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from facegan import ops
from facegan.compat.gradfix import conv2d, conv_transpose2d

__all__ = ["conv2d", "conv_transpose2d", "enabled", "no_weight_gradients", "weight_gradients_disabled"]

enabled = True
weight_gradients_disabled = False


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Leave out the gradients of convolutions' weights inside, unless `enabled` was cleared."""
    if enabled:
        with ops.no_weight_gradients():
            yield
    else:
        yield
