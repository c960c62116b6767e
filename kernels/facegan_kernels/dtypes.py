"""The dtype that kernels compute in, and what a clamp is in it."""

from __future__ import annotations

import math
from functools import cache

import torch


def acc_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of accumulators, statistics and sums of tensors of a floating point `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@cache
def limit_in(dtype: torch.dtype, clamp: float | None) -> float:
    """Return the limit that a clamped value of this dtype equals; infinite for none."""
    if clamp is None:
        return math.inf
    # on the CPU whatever the default device is: a GPU would be waited for, and cannot be while a graph is captured
    return torch.tensor(min(clamp, torch.finfo(dtype).max), dtype=torch.float64, device="cpu").to(dtype).item()
