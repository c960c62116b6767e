"""Autocast for `meta` tensors, which PyTorch's own does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# What the networks call of all that autocast narrows the arguments of.
NARROWED: tuple[Callable[..., Any], ...] = (F.linear, F.conv2d, F.conv_transpose2d, torch.matmul, torch.Tensor.matmul,
                                            torch.Tensor.__matmul__, torch.baddbmm, torch.bmm)  # fmt: skip


class Autocast(TorchFunctionMode):
    """Stands in for `torch.autocast`: a mode while it is entered, and off inside of a block with enabled=False."""

    entered: list[Autocast] = []

    def __init__(self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, cache_enabled: bool = True) -> None:
        super().__init__()
        self.dtype, self.enabled = dtype or torch.bfloat16, enabled

    def __enter__(self) -> Autocast:
        self.entered.append(self)
        super().__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)
        self.entered.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self is self.entered[-1] and self.enabled and func in NARROWED:
            args = tuple(self._narrowed(value) for value in args)
        return func(*args, **(kwargs or {}))

    def _narrowed(self, value: Any) -> Any:
        return value.to(self.dtype) if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


def _enabled(device_type: str | None = None) -> bool:
    return bool(Autocast.entered) and Autocast.entered[-1].enabled


def _dtype(device_type: str | None = None) -> torch.dtype:
    return Autocast.entered[-1].dtype


@contextmanager
def autocast_of_meta() -> Iterator[None]:
    """`torch.autocast` and what asks for it work on `meta` tensors inside."""
    with ExitStack() as stack:
        for name, stand_in in (("autocast", Autocast), ("is_autocast_enabled", _enabled), ("get_autocast_dtype", _dtype)):
            stack.enter_context(mock.patch.object(torch, name, stand_in))
        yield
