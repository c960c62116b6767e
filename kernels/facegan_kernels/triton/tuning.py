"""Which configuration a kernel runs in: measured once per shape and kept on disk, or the first one.

`FACEGAN_AUTOTUNE=0` takes the first configuration everywhere, so that nothing is measured; so does Triton's interpreter, where
times mean nothing. Kernels whose only limit is memory bandwidth need no tuning: 16-byte accesses with a few in flight per thread
come within a few per cent of the best, and what they sum keeps the same order in every run.

A kernel is compiled anew for every argument that becomes a multiple of 16, or 1, unless it is named in `do_not_specialize`: the
sizes that no address of a large tensor needs are, so that another batch size compiles nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import triton

MEASURES = os.environ.get("FACEGAN_AUTOTUNE", "1") != "0" and os.environ.get("TRITON_INTERPRET", "0") != "1"


def autotune(configs: Sequence[triton.Config], key: Sequence[str]) -> Callable[[Any], Any]:
    """Decorates a kernel whose constexpr parameters named in `configs` are then left out by the caller.

    Args:
        configs: the candidates; the first is the one to take unmeasured. A candidate costs 0.1 s and its compilation, once.
        key: names of the kernel's parameters that make up a shape.
    """
    candidates = list(configs) if MEASURES else list(configs[:1])
    return triton.autotune(candidates, list(key), cache_results=True)


def tile(bytes_per_element: int) -> int:
    """Elements of a tile for 128 threads that stream it: four accesses of 16 bytes per thread."""
    return 128 * 4 * 16 // bytes_per_element
