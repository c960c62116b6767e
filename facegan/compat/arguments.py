"""Arguments as NVIDIA's and rosinality's operators take them, brought to those of `facegan.ops`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from facegan import backend
from facegan.errors import FaceganError

Pair = int | Sequence[int]
IMPLEMENTATIONS = ("ref", "cuda")


def factors(value: Pair) -> tuple[int, int]:
    """Return n or (x, y) as (vertical, horizontal)."""
    x, y = (value, value) if isinstance(value, int) else value
    return int(y), int(x)


def paddings(value: Pair) -> tuple[int, int, int, int]:
    """Return p, (x, y) or (x0, x1, y0, y1) as (top, bottom, left, right)."""
    given = [value] * 4 if isinstance(value, int) else [int(p) for p in value]
    x0, x1, y0, y1 = (given[0], given[0], given[1], given[1]) if len(given) == 2 else given
    return y0, y1, x0, x1


def implementation(op: str, impl: str) -> AbstractContextManager[None]:
    """Return the context that `impl` asks for: "ref" is the reference backend, "cuda" whichever serves."""
    if impl not in IMPLEMENTATIONS:
        raise FaceganError(f"{op}: impl is {impl!r}; expected one of {', '.join(IMPLEMENTATIONS)}.")
    return backend.use_backend("reference") if impl == "ref" else nullcontext()
