"""Which registered operators a step calls, with which arguments, found by running it on `meta` tensors: nothing is computed.

The step runs as a user's does, public op, autograd and all. A dispatch mode catches every operator of ours on its way to its kernel.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facegan import backend
from facegan.ops.modulated_conv2d import measured
from facegan.warmup.autocast import autocast_of_meta

Launcher = Callable[..., Any]
Choose = Callable[[Any, Any, Mapping[str, Callable[[], Any]]], str]  # as `measured.choose`


@dataclass(frozen=True)
class Launch:
    """One call of a registered operator: `arguments` as its kernel takes them; `case` says for people where it comes from."""

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


def launcher(operator: str, name: str = "triton") -> Launcher | None:
    """The kernel behind a registered operator; None where the PyTorch form serves it."""
    try:
        from facegan_kernels import KERNELS
    except ImportError:
        return None
    module = KERNELS.get((name, operator))
    return None if module is None else getattr(importlib.import_module(module), operator)


def every_algorithm(key: Any, device: Any, candidates: Mapping[str, Callable[[], Any]]) -> str:
    """Runs all of them."""
    for run in candidates.values():
        run()
    return measured.DEFAULT


def algorithms_of(device: torch.device | None, arch: int | None = None) -> Choose:
    """What layers with a choice do on a device, by the rule for an architecture, or else all that they can."""
    if device is not None and not measured.measuring():
        choose = measured.choose
        return lambda key, _, candidates: choose(key, device, candidates)
    if arch is not None:
        return lambda key, *_: measured.by_rule(key, (arch // 10, arch % 10))
    return every_algorithm


def recorded(step: Callable[[], Any], case: str = "", choose: Choose = every_algorithm) -> list[Launch]:
    """The distinct calls that `step` makes on `meta` tensors, in their order."""
    found: dict[tuple[Any, ...], Launch] = {}

    def record(func: Any, args: tuple[Any, ...]) -> Any:
        takes_backend = func._schema.arguments[-1].name == "backend"
        launch = Launch(func._schema.name.split("::")[1], tuple(args[:-1] if takes_backend else args), case)
        found.setdefault(launch.key, launch)
        return func(*args)

    with triton_serves(choose), _Caught(record):
        step()
    return list(found.values())


class _Caught(TorchDispatchMode):
    """Hands every call of an operator of ours to `call`, whose result takes the place of the operator's own."""

    def __init__(self, call: Callable[[Any, tuple[Any, ...]], Any]) -> None:
        super().__init__()
        self.call = call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace.startswith("facegan"):
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
def triton_serves(choose: Choose) -> Iterator[None]:
    """Every op chooses Triton, whatever the device of its tensors, and layers with a choice of algorithms `choose` one."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(backend, "select", lambda op, device_type: "triton"))
        stack.enter_context(mock.patch.object(measured, "choose", choose))
        stack.enter_context(autocast_of_meta())
        yield
