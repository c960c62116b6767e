"""The dtype that kernels compute in."""

from __future__ import annotations

import torch


def acc_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of accumulators, statistics and sums of tensors of a floating point `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
