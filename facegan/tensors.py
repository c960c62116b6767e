"""Named tensors of files: read within limits, and held against what is expected before anything is built of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from facegan.errors import FaceganError
from facegan.files import quoted, regular_file

LARGEST = 8 << 30  # bytes of a file of tensors
LONGEST_HEADER = 4 << 20  # bytes; a training's of a thousand tensors has 100,000
M = TypeVar("M", bound=nn.Module)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        FaceganError: there is none, it is no regular file, is too large, or is damaged. Safetensors itself sees to it that the
            header's shapes agree with the bytes that follow.
    """
    size = regular_file(path, LARGEST, "file of tensors")
    try:
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if not header <= min(size - 8, LONGEST_HEADER):
            raise FaceganError(f"{path} has a header of {header:,} bytes, in a file of {size:,}; expected at most {LONGEST_HEADER:,}")
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise FaceganError(f"{path} is no readable file of tensors ({quoted(str(error))})") from None


def refuse_other_shapes(where: object, prefix: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """FaceganError unless both have the same names and shapes; `where` begins the message, `prefix` the names in it."""
    for name in sorted(expected.keys() | state.keys()):
        theirs, ours = (f"{list(tensors[name].shape)}" if name in tensors else "absent" for tensors in (state, expected))
        if theirs != ours:
            raise FaceganError(f"{where}: {prefix}{quoted(name)} is {quoted(theirs)} in the file, and {ours} in a network of its kind.")


def refuse_other_values(where: object, prefix: str, state: Mapping[str, Tensor]) -> None:
    """FaceganError unless all are finite real numbers."""
    for key, value in state.items():
        if not value.is_floating_point():
            raise FaceganError(f"{where}: {prefix}{quoted(key)} is of type {value.dtype}; expected weights of floating point.")
        if not value.isfinite().all():
            raise FaceganError(f"{where}: {prefix}{quoted(key)} holds values that are not finite; name a checkpoint from before that.")


def check_size(tensors: Iterable[tuple[str, Tensor]], size: int, origin: str) -> dict[str, Tensor]:
    """The named tensors of a file of `size` bytes as a table.

    Raises:
        FaceganError: they are more numbers than the file has bytes, as when one stored number is repeated by a stride of 0 or one
            tensor bears thousands of names: conversion would write them all out.
    """
    found: dict[str, Tensor] = {}
    total = 0
    for name, value in tensors:
        total += value.numel() + 1
        if total > size:
            raise FaceganError(f"{origin} is refused: its {size} bytes claim to hold more numbers than that.")
        found[name] = value
    return found


class _Undrawn(TorchFunctionMode):
    """First weights are not drawn, nor divided by a learning rate's multiplier: either makes PyTorch import its compiler, for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.__truediv__, torch.Tensor.div):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Networks that are made here have names and shapes, and no numbers."""
    with torch.device("meta"), _Undrawn():
        yield


@torch.random.fork_rng(devices=[])  # the layers' first weights are drawn, and replaced
def rebuilt(make: Callable[[], M], state: Mapping[str, Tensor], where: object) -> M:
    """`make()` with the weights of `state`; memory is taken only once their names and shapes are known to fit."""
    with shapes_alone():
        expected = make().state_dict()
    refuse_other_shapes(where, "", state, expected)
    network = make()
    network.load_state_dict(state)
    return network


def in_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of `value` on the parameter's device and in its memory format.

    The fused kernel walks parameter, gradient and both averages by one index: averages in rows beside a channels_last weight would
    be those of other elements, and nothing says so.
    """
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
