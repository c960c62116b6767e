"""`torch_utils.ops.conv2d_gradfix`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from facegan import ops
from facegan.compat.gradfix import conv2d, conv_transpose2d

__all__ = ["conv2d", "conv_transpose2d", "enabled", "no_weight_gradients", "weight_gradients_disabled"]

enabled = False  # training loops set it; `no_weight_gradients` does nothing before, here as there
weight_gradients_disabled = False


@contextmanager
def no_weight_gradients(disable: bool = True) -> Iterator[None]:
    """Leave out the gradients of convolutions' weights inside, once `enabled` is set."""
    global weight_gradients_disabled
    before = weight_gradients_disabled
    weight_gradients_disabled = before or disable
    try:
        if disable and enabled:
            with ops.no_weight_gradients():
                yield
        else:
            yield
    finally:
        weight_gradients_disabled = before
