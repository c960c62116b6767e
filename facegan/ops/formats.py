"""One rule for the memory format of results, for every operator and backend; csrc/operators.h has the same in C++.

A map whose strides suggest channels_last yields channels_last, every other map rows (NCHW), and the result has the strides that
`torch.empty` gives to that format. It is the rule by which PyTorch's convolutions go (`at::Tensor::suggest_memory_format`), written
down here because its Python twin in torch._prims_common differs between versions where dimensions of one element leave a choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def suggests_channels_last(x: Tensor) -> bool:
    """Whether the strides of x, of rank 4 or 5, rise in the order channels, columns, rows, (depth,) samples.

    Strides that both formats have, as those of [N, 1, 1, 1], suggest rows.
    """
    rank = x.ndim
    if rank != 4 and rank != 5:
        return False
    sizes, strides = x.shape, x.stride()
    if strides[1] == 0:
        return False
    least = 0
    for d in (1, 3, 2, 0) if rank == 4 else (1, 4, 3, 2, 0):
        if sizes[d] == 0 or strides[d] < least or (d == 0 and least == strides[1]):
            return False
        least = strides[d] * sizes[d]
    return True


def memory_format(x: Tensor) -> torch.memory_format:
    """Return the format of what an operator makes of x."""
    if not suggests_channels_last(x):
        return torch.contiguous_format
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d


def empty_like_format(x: Tensor, shape: Sequence[Any] | None = None) -> Tensor:
    """Return fresh memory of a shape, x's by default, in x's dtype and format: what a fake kernel says of a result."""
    return torch.empty(x.shape if shape is None else shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def upcast(x: Tensor) -> Tensor:
    """Return x in the dtype of accumulators and statistics: float32 in place of half types."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def to_dense(x: Tensor) -> Tensor:
    """Return x with the strides of its format: itself, a view of it, or a copy where it has gaps or another order."""
    return _as_format(x, suggests_channels_last(x))


def match_layout(y: Tensor, x: Tensor) -> Tensor:
    """Return y with the strides of x's format."""
    return _as_format(y, suggests_channels_last(x))


def kept(y: Tensor, x: Tensor) -> Tensor:
    """Return y in x's order of memory, for PyTorch's own operators, which lose channels_last in products of single pixels."""
    if not suggests_channels_last(x) or y.is_contiguous(memory_format=torch.channels_last):
        return y
    return y.contiguous(memory_format=torch.channels_last)


def _as_format(x: Tensor, channels_last: bool) -> Tensor:
    if not channels_last:
        if not x.is_contiguous():
            return x.contiguous()
    else:
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    strides = _strides(x.shape, channels_last)
    return x if x.stride() == strides else x.as_strided(x.shape, strides)


def _strides(sizes: Sequence[int], channels_last: bool) -> tuple[int, ...]:
    """As `torch.empty` has them."""
    strides, step = [0] * len(sizes), 1
    for d in [*([1] if channels_last else []), *range(len(sizes) - 1, -1, -1)]:
        if strides[d] == 0:
            strides[d], step = step, step * max(sizes[d], 1)
    return tuple(strides)


def following(weight: Tensor, x: Tensor) -> Tensor:
    """Return a convolution's weight that leaves the format to x: PyTorch convolves in channels_last where either of the two suggests it.

    Of a 1 x 1 kernel the strides alone tell the formats apart; nothing is copied then.
    """
    # the rule's first two steps, which tell most weights
    if weight.stride(3) < weight.stride(1) * weight.shape[1] or not suggests_channels_last(weight) or suggests_channels_last(x):
        return weight
    return weight.contiguous().view(-1).view(weight.shape)
