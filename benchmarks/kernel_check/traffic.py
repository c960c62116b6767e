"""Bytes that a kernel moves, counted lane by lane under Triton's interpreter, against the bytes that it has to move.

Moved: active lanes of every load and store, and what PyTorch operators in the launcher read and write (`contiguous`, a final
sum of partial sums). Has to: every tensor argument read once and every result written once. Caches do not exist here, so a
value that neighbouring tiles read again (a halo, a bias) is counted again.

The shapes are the benchmarks' own. Of a grid, a fixed random sample of programs is run and stands for all of them; the tensors
are left unwritten, so that only the pages that the sample touches ever come into being.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

os.environ["TRITON_INTERPRET"] = "1"  # before Triton's first kernel is defined

from triton.runtime.interpreter import GridExecutor, InterpreterBuilder  # noqa: E402

PROGRAMS = 4  # of a grid, at most
TORCH = "torch"  # the name that PyTorch operators in a launcher go by


@dataclass
class Traffic:
    """Bytes read and written, by kernel; `kernel` is the one that runs now, of which every program stands for `weight` ones."""

    read: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    kernel: str = ""
    weight: float = 1.0

    @property
    def total(self) -> float:
        return sum(self.read.values()) + sum(self.written.values())

    def add(self, counter: Counter[str], amount: float) -> None:
        counter[self.kernel or TORCH] += amount * self.weight  # type: ignore[assignment]

    def by_kernel(self) -> str:
        names = dict.fromkeys([*self.read, *self.written])
        return ", ".join(f"{name} {self.read[name] / 2**20:.2f} + {self.written[name] / 2**20:.2f}" for name in names)


@contextmanager
def counting() -> Iterator[Traffic]:
    """Counts what kernels and PyTorch operators move inside the block; kernels leave most of their results unwritten."""
    traffic = Traffic()
    with ExitStack() as stack:
        for name in ("create_masked_load", "create_masked_store", "create_atomic_rmw"):
            method = getattr(InterpreterBuilder, name)
            stack.enter_context(mock.patch.object(InterpreterBuilder, name, _counted(method, name, traffic)))
        stack.enter_context(mock.patch.object(GridExecutor, "__call__", _sampled(GridExecutor.__call__, traffic)))
        stack.enter_context(mock.patch.object(GridExecutor, "_restore_args_dev", lambda *_: None))
        stack.enter_context(_TorchTraffic(traffic))
        stack.enter_context(np.errstate(all="ignore"))  # of memory that nobody wrote
        yield traffic


def _counted(method: Callable[..., Any], name: str, traffic: Traffic) -> Callable[..., Any]:
    """A method of the interpreter that touches memory, and counts the lanes that do."""
    pointers_at, mask_at = {"create_masked_load": (0, 1), "create_masked_store": (0, 2), "create_atomic_rmw": (1, 3)}[name]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        pointers, mask = args[pointers_at], args[mask_at]
        lanes = np.broadcast_to(mask.data, pointers.data.shape).sum()
        amount = int(lanes) * max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        if name != "create_masked_store":
            traffic.add(traffic.read, amount)
        if name != "create_masked_load":
            traffic.add(traffic.written, amount)
        return method(self, *args, **kwargs)

    return call


def _sampled(launch: Callable[..., Any], traffic: Traffic) -> Callable[..., Any]:
    """A launch that runs some programs of its grid only; they see the whole grid's size."""

    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        sizes: tuple[int, ...] = ()
        chosen: list[int] = []
        set_dim, set_idx, wanted = InterpreterBuilder.set_grid_dim, InterpreterBuilder.set_grid_idx, self.grid

        def grid(bound: dict[str, Any]) -> tuple[int]:
            nonlocal sizes, chosen
            sizes = tuple(wanted(bound) if callable(wanted) else wanted)
            total = math.prod(sizes)
            chosen = random.Random(0).sample(range(total), min(total, PROGRAMS))
            traffic.weight = total / max(len(chosen), 1)
            return (len(chosen),)

        def true_dim(builder: Any, *_: int) -> None:
            set_dim(builder, *sizes, *(1,) * (3 - len(sizes)))

        def true_idx(builder: Any, number: int, *_: int) -> None:
            place = [int(i) for i in np.unravel_index(chosen[number], sizes)]
            set_idx(builder, *place, *(0,) * (3 - len(sizes)))

        self.grid, traffic.kernel = grid, self.fn.__name__
        with mock.patch.multiple(InterpreterBuilder, set_grid_dim=true_dim, set_grid_idx=true_idx):
            launch(self, *args, **kwargs)
        traffic.kernel, traffic.weight = "", 1.0

    return call


class _TorchTraffic(TorchDispatchMode):
    """Adds what PyTorch operators outside of kernels read and write; views and allocations move nothing."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        aliases = [output.alias_info for output in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        if not (self.traffic.kernel or is_view or "empty" in func._schema.name):
            self.traffic.add(self.traffic.read, size([*args, *(kwargs or {}).values()]))
            self.traffic.add(self.traffic.written, size(result))
        return result


def size(values: Any) -> int:
    """Bytes of all tensors in a value, a list or a tuple; an expanded tensor's memory counts once."""
    if isinstance(values, Tensor):
        return min(values.numel() * values.itemsize, values.untyped_storage().nbytes())
    return sum(size(value) for value in values) if isinstance(values, (list, tuple)) else 0


@dataclass(frozen=True)
class Measured:
    """One launch: bytes moved, bytes that had to be, and what moved them (MiB read + written)."""

    moved: float
    ideal: int
    by_kernel: str

    @property
    def ratio(self) -> float:
        return self.moved / max(self.ideal, 1)


def measure(function: Callable[..., Any], arguments: Iterable[Any]) -> Measured:
    """Counts for a launcher and its arguments, of which tensors are used for their shapes only."""
    arguments = [_unwritten(value) for value in arguments]
    with counting() as traffic:
        result = function(*arguments)
    # every result is written in full: where the sample suggests less, it has met more than its share of tiles cut by an edge
    short = size(result) / max(sum(traffic.written.values()), 1)
    return Measured(traffic.total * max(short, 1.0), size(arguments) + size(result), traffic.by_kernel())


def _unwritten(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    # as many bytes as bfloat16, which the interpreter converts a hundred times as slowly
    dtype = torch.float16 if value.dtype == torch.bfloat16 else value.dtype
    return torch.empty_strided(value.shape, value.stride(), dtype=dtype)
