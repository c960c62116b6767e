"""A recording of operators that stands in for a CUDA graph where there is no GPU, and holds a function to the graphs' rules.

    with on_the_cpu():
        facegan train ... --cuda-graphs on

Like a graph it holds what was computed once, tensor by tensor, and computes that again from whatever lies in the same memory: a
number that Python put in, or a tensor that is not where it was, comes out wrong here as it would there. What a capture forbids,
or a GPU would have to be waited for, raises `HostRead`: values that are read, masks as indices, constants that are sent, random
numbers that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from facegan import graphs

# Methods that read values; on a CPU some do so without an operator.
READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__contains__", "new_tensor", "__array__")
SENDING = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.asarray}
TAGS = {
    torch.Tag.data_dependent_output: "reads a value",
    torch.Tag.dynamic_output_shape: "has a result whose shape depends on values",
    torch.Tag.nondeterministic_seeded: "draws random numbers",
}


class HostRead(Exception):
    """The host takes part in what is recorded."""


class Tape:
    """Operators of `function()`, which runs; `replay()` runs them again on the same tensors."""

    def __init__(self, function: Callable[[], Any], stream: Any = None, alike: Any = None) -> None:
        self.entries: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        with _Watched(), _Recorded(self.entries):
            self.outputs = function()

    @torch.no_grad()
    def replay(self) -> None:
        for operator, args, kwargs, results in self.entries:
            found = operator(*args, **kwargs)
            if results:
                for result, new in zip(results, _tensors(found), strict=True):
                    result.copy_(new)


class _Watched(TorchFunctionMode):
    """Refuses functions that read or send."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if function in SENDING or (name in READING and getattr(Tensor, name, None) is function):
            raise HostRead(f"{name} in what is to be recorded")
        return function(*args, **(kwargs or {}))


class _Recorded(TorchDispatchMode):
    """Notes operators with their arguments and results."""

    def __init__(self, entries: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]]) -> None:
        super().__init__()
        self.entries = entries

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _check(operator, args)
        found = operator(*args, **kwargs)
        results = _tensors(found)
        if operator._schema.is_mutable:  # what it returns is what it changed
            self.entries.append((operator, args, kwargs, []))
        elif not operator.name().startswith(("aten::empty", "aten::new_empty")) and not _is_view(results, args, kwargs):
            self.entries.append((operator, args, kwargs, results))
        return found


def _check(operator: Any, args: tuple[Any, ...]) -> None:
    name = operator.name()
    if name.startswith(("aten::index.", "aten::index_put", "aten::_index_put")):
        if any(index.dtype in (torch.bool, torch.uint8) for index in _tensors(args[1])):
            raise HostRead(f"{name} by a mask has as many results as the mask has ones")
        return
    for tag in operator.tags:
        if tag in TAGS:
            raise HostRead(f"{name} {TAGS[tag]}")
    if name == "aten::lift_fresh":
        raise HostRead("a constant is sent to the device")
    if name.startswith("aten::_linalg_check_errors"):
        raise HostRead(f"{name} waits for a result's status")


def _is_view(results: list[Tensor], args: Any, kwargs: Any) -> bool:
    """Whether the results lie in the arguments' memory, where nothing has to be computed."""
    given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
    inside = [result.untyped_storage()._cdata in given for result in results]
    if any(inside) and not all(inside):
        raise NotImplementedError("an operator with views and new tensors as results")
    return all(inside)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Inside, `graphs.Graphed` records on the CPU too."""
    graphs.RECORDERS["cpu"] = Tape
    try:
        yield
    finally:
        del graphs.RECORDERS["cpu"]
