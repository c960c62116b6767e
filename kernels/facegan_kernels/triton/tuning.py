"""Which configuration a kernel runs in: one that is good on every GPU of its class, or what is measured where that is asked for.

`FACEGAN_AUTOTUNE=1` measures each shape once, with every candidate compiled for it, and keeps the answer on disk; Triton's
interpreter measures nothing, as times mean nothing there. Kernels whose only limit is memory bandwidth need no tuning: 16-byte
accesses with a few in flight per thread come within a few per cent of the best, and what they sum keeps the same order in every run.

A kernel is compiled anew for every value of a constexpr, and for every argument that becomes a multiple of 16, or 1, unless it is
named in `do_not_specialize`: the sizes that no address of a large tensor needs are, and so are numbers, so that another batch size
or layer compiles nothing. `python -m benchmarks.kernel_check --training stylegan2-256` counts what is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import triton

MEASURES = os.environ.get("FACEGAN_AUTOTUNE", "0") == "1" and os.environ.get("TRITON_INTERPRET", "0") != "1"


class Configured:
    """A kernel in one configuration, launched as the kernel is."""

    def __init__(self, fn: Any, config: triton.Config) -> None:
        self.fn, self.options = fn, config.all_kwargs()

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.fn[grid](*args, **kwargs, **self.options)


def autotune(configs: Sequence[triton.Config], key: Sequence[str]) -> Callable[[Any], Any]:
    """Decorates a kernel whose constexpr parameters named in `configs` are then left out by the caller.

    Args:
        configs: the candidates; the first is the one to take unmeasured. A candidate costs 0.1 s and its compilation, once.
        key: names of the kernel's parameters that make up a shape.
    """
    if MEASURES:
        return triton.autotune(list(configs), list(key), cache_results=True)
    return lambda fn: Configured(fn, configs[0])


def tile(bytes_per_element: int) -> int:
    """Elements of a tile for 128 threads that stream it: four accesses of 16 bytes per thread."""
    return 128 * 4 * 16 // bytes_per_element
