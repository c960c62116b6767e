"""Arguments as NVIDIA's and rosinality's operators take them, brought to those of `facegan.ops`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import index

from facegan import backend
from facegan.errors import FaceganError

Pair = int | Sequence[int]
IMPLEMENTATIONS = ("ref", "cuda")


def factors(value: Pair) -> tuple[int, int]:
    """Return n or (x, y) as (vertical, horizontal)."""
    given = numbers("a factor", value, 1, 2)
    return given[-1], given[0]


def paddings(value: Pair) -> tuple[int, int, int, int]:
    """Return p, (x, y) or (x0, x1, y0, y1) as (top, bottom, left, right)."""
    given = numbers("padding", value, 1, 2, 4)
    x0, x1, y0, y1 = given * 4 if len(given) == 1 else (given[0], given[0], given[1], given[1]) if len(given) == 2 else given
    return y0, y1, x0, x1


def numbers(name: str, value: Pair, *lengths: int) -> tuple[int, ...]:
    """Return whole numbers of any type as a tuple, which has one of these lengths."""
    given = tuple(index(v) for v in value) if isinstance(value, Iterable) else (index(value),)
    if len(given) not in lengths:
        raise FaceganError(f"{name} is {value}; expected {' or '.join(map(str, lengths))} whole numbers, of x before y.")
    return given


def implementation(op: str, impl: str) -> AbstractContextManager[None]:
    """Return the context that `impl` asks for: "ref" is the reference backend, "cuda" whichever serves."""
    if impl not in IMPLEMENTATIONS:
        raise FaceganError(f"{op}: impl is {impl!r}; expected one of {', '.join(IMPLEMENTATIONS)}.")
    return backend.use_backend("reference") if impl == "ref" else nullcontext()
