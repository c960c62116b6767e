"""Named tensors of a file, held against what is expected before anything is built of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from facegan.errors import FaceganError
from facegan.files import quoted


def refuse_other_shapes(path: object, prefix: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """FaceganError unless both have the same names and shapes."""
    for key in sorted(expected.keys() | state.keys()):
        theirs, ours = state.get(key), expected.get(key)
        if theirs is None or ours is None or theirs.shape != ours.shape:
            named = f"{prefix}{quoted(key)}"
            raise FaceganError(f"{path}: {named} is {_size(theirs)} in the file, and {_size(ours)} in a network of its kind.")


def refuse_other_values(path: object, prefix: str, state: Mapping[str, Tensor]) -> None:
    """FaceganError unless all are finite real numbers."""
    for key, value in state.items():
        if not value.is_floating_point():
            raise FaceganError(f"{path}: {prefix}{quoted(key)} is of type {value.dtype}; expected weights of floating point.")
        if not value.isfinite().all():
            raise FaceganError(f"{path}: {prefix}{quoted(key)} holds values that are not finite; name a checkpoint from before that.")


def _size(value: Tensor | None) -> str:
    return "absent" if value is None else str(list(value.shape))


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
