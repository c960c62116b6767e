"""How large a tile is. No kernel is tuned: each has one configuration, which its launcher names.

Kernels whose only limit is memory bandwidth need no tuning: 16-byte accesses with a few in flight per thread come within a few per
cent of the best, and what they sum keeps the same order in every run.

A kernel is compiled again for every value of a constexpr, and for every argument that becomes a multiple of 16, or 1, unless it is
named in `do_not_specialize`: the sizes that no address of a large tensor needs are, and so are numbers, so that another batch size
or layer compiles nothing. `python -m benchmarks.kernel_check --training stylegan2-256` counts what is left.
"""

from __future__ import annotations


def tile(bytes_per_element: int) -> int:
    """Elements of a tile for 128 threads that stream it: four accesses of 16 bytes per thread."""
    return 128 * 4 * 16 // bytes_per_element
