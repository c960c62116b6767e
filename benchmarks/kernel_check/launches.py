"""Which registered operators a benchmark's case calls, with which arguments: nothing about a kernel is written down twice.

The case runs as a user's step does, public op, autograd and all, on tensors of any device (`meta` ones cost nothing). A
dispatch mode catches every `facegan::` operator on its way to its kernel.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import facegan_kernels
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.cases import Case
from benchmarks.kernel_check.steps import run
from facegan import backend
from facegan.ops import plans

Launcher = Callable[..., Any]


@dataclass(frozen=True)
class Launch:
    """One call of a registered operator: `arguments` without the backend, as its kernel takes them."""

    operator: str
    arguments: tuple[Any, ...]
    case: str

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.operator, *map(_described, self.arguments))

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [value for value in self.arguments if isinstance(value, torch.Tensor)]

    @property
    def outline(self) -> tuple[Any, ...]:
        """The key without scalars: what the number of bytes depends on."""
        return (self.operator, *(_described(value) for value in self.arguments if isinstance(value, (torch.Tensor, list, tuple))))


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    return tuple(value) if isinstance(value, list) else value


class _Caught(TorchDispatchMode):
    """Hands every call of a `facegan::` operator to `call`, whose result takes the place of the operator's own."""

    def __init__(self, call: Callable[[Any, tuple[Any, ...]], Any]) -> None:
        super().__init__()
        self.call = call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "facegan":
            return self.call(func, args)
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            return _laid_out_as(args[0], result)
        if func is torch.ops.aten.convolution_backward.default:
            return (_laid_out_as(args[1], result[0]), *result[1:])
        return result


def _laid_out_as(x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor | None:
    """A convolution's result as cuDNN lays it out, which that on `meta` tensors does not."""
    return None if y is None else y.contiguous(memory_format=torch._prims_common.suggest_memory_format(x))


@contextmanager
def _everything_runs() -> Iterator[None]:
    """Every op chooses Triton, whatever the device of its tensors; layers with a choice of plans run all of them."""

    def run_all(key: Any, device: Any, candidates: Mapping[str, Callable[[], Any]]) -> str:
        for run_plan in candidates.values():
            run_plan()
        return plans.DEFAULT

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(backend, "select", lambda op, device_type: "triton"))
        stack.enter_context(mock.patch.object(plans, "choose", run_all))
        stack.enter_context(mock.patch.object(torch, "is_autocast_enabled", lambda device_type: False))  # it knows no `meta`
        yield


def launcher(operator: str, name: str = "triton") -> Launcher | None:
    """The kernel behind a registered operator; None where the PyTorch form serves it."""
    module = facegan_kernels.KERNELS.get((name, operator))
    return None if module is None else getattr(importlib.import_module(module), operator)


def launches(cases: Iterable[Case]) -> list[Launch]:
    """The distinct calls that the steps of `cases` make, without computing anything."""
    found: dict[tuple[Any, ...], Launch] = {}
    for case in cases:

        def record(func: Any, args: tuple[Any, ...], case: Case = case) -> Any:
            launch = Launch(func._schema.name.split("::")[1], tuple(args[:-1]), str(case))
            found.setdefault(launch.key, launch)
            return func(*args)

        with _everything_runs(), _Caught(record):
            run(case, "meta")
    return list(found.values())
