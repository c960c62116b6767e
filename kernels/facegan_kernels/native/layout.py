"""What the wrappers share: dense maps in one memory format, wide dtypes, and enums as the schemas number them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

ACTIVATIONS = {"linear": 0, "relu": 1, "lrelu": 2, "tanh": 3, "sigmoid": 4}  # enum class Act of csrc/formulas.h
_WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of accumulators, statistics and sums."""
    return _WIDE.get(dtype, dtype)


def dense(x: Tensor) -> tuple[Tensor, bool]:
    """x as [N, C, H, W] or, with True, [N, H, W, C] without gaps (any rank); a copy only where its strides are others."""
    if x.is_contiguous():
        return x, False
    last = _CHANNELS_LAST.get(x.ndim)
    if last is not None and x.is_contiguous(memory_format=last):
        return x, True
    memory_format = torch._prims_common.suggest_memory_format(x)
    return x.contiguous(memory_format=memory_format), memory_format == last


def as_format(x: Tensor, channels_last: bool) -> Tensor:
    """x dense in the format of the call's first tensor."""
    return x.contiguous(memory_format=_CHANNELS_LAST[x.ndim] if channels_last else torch.contiguous_format)


def like(x: Tensor, y: Tensor) -> Tensor:
    """x in the memory format of y, the argument that it is the gradient of."""
    return x if x.stride() == y.stride() else x.contiguous(memory_format=torch._prims_common.suggest_memory_format(y))


def per_channel(v: Tensor, dtype: torch.dtype) -> Tensor:
    """[N, C] or the like, dense in the wide dtype."""
    return v.to(dtype).contiguous()


@cache
def activation(act: str, alpha: float, gain: float, clamp: float | None, dtype: torch.dtype) -> tuple[int, float, float, float]:
    """The schemas' last four arguments. The limit is one that dtype can hold, so that a clamped element is known by its value."""
    limit = 0.0 if clamp is None else float(torch.tensor(clamp, dtype=dtype, device="cpu"))
    return ACTIVATIONS[act], alpha, gain, limit


def through_float32(*sums: int, clamp: int | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates an operator: float16 tensors on a CPU, which has no kernels of that dtype, are computed in float32.

    The results are narrowed again, but for those at the positions `sums`, which are float32 anyway. `clamp` is the position, after
    the first, of an argument that is narrowed first: a clamped element is known by its value.
    """

    def decorate(operator: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(operator)
        def wrapper(x: Tensor, *args: Any) -> Any:
            if x.dtype != torch.float16 or x.is_cuda:
                return operator(x, *args)
            widened = [a.float() if isinstance(a, Tensor) and a.dtype == torch.float16 else a for a in args]
            if clamp is not None and widened[clamp] is not None:
                widened[clamp] = float(torch.tensor(widened[clamp], dtype=x.dtype, device="cpu"))
            results = operator(x.float(), *widened)
            if isinstance(results, Tensor):
                return results.half()
            return tuple(r if i in sums else r.half() for i, r in enumerate(results))

        return wrapper

    return decorate
