"""What can be known of the kernels without a GPU: `make kernel-check`.

    python -m benchmarks.kernel_check [triton|float64|bytes|cuda|triton-full ...]    (from the root; by default the first four)
    python -m benchmarks.kernel_check --training stylegan2-256

triton:      every Triton kernel, as the shapes of `make gpu-check` specialise it, compiled for sm_80 and sm_90.
float64:     that no kernel of float64 holds a float32 constant or computes in less.
bytes:       what the Triton kernels move, counted under the interpreter, against the ideal.
cuda:        csrc/cuda, compiled for every architecture that ships; skipped where there is no nvcc.
triton-full: as triton, for the whole grid of the benchmarks: thousands of kernels, half an hour.
--training:  the distinct kernels of a training, and the seconds of one core that they take to compile; stylegan2-RESOLUTION (as
             wide as the paper's), method-b-RESOLUTION, method-a-RESOLUTION.

Prints a table per part, and at the end what is wrong: a spill, local memory, more shared memory than there is, 2-byte accesses
in a hot part, too many bytes, a compiler's warning, float32 in float64, too many kernels. Exits with status 1 then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from benchmarks.kernel_check.parts import OPTIONAL, PARTS, training
from benchmarks.kernel_check.report import Part
from facegan.errors import FaceganError


def main() -> int:
    parser = argparse.ArgumentParser(prog="kernel_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"default: {' '.join(PARTS)}")
    parser.add_argument("--training", action="append", default=[], metavar="NAME", help="e.g. stylegan2-256")
    arguments = parser.parse_args()
    known: dict[str, Callable[[], Part]] = PARTS | OPTIONAL
    chosen = arguments.parts or ([] if arguments.training else list(PARTS))
    if unknown := set(chosen) - set(known):
        parser.error(f"part is {', '.join(sorted(unknown))}; expected {', '.join(known)}")
    parts = {name: known[name] for name in chosen} | {name: partial(training, name) for name in arguments.training}
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # Triton's, in every process
    failures = []
    for name, part in parts.items():
        # the interpreter is turned on for a whole process, before it imports Triton
        os.environ["TRITON_INTERPRET"] = "1" if name == "bytes" else "0"
        start = time.monotonic()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                found = pool.submit(part).result()
            except FaceganError as error:
                parser.error(str(error))
        print(f"{found}\n{name}: {len(found.failures)} failures, {time.monotonic() - start:.0f} s\n", flush=True)
        failures += found.failures
    for failure in failures:
        print(f"FAIL {failure}")
    print(f"kernel-check: {len(failures)} failures" if failures else "kernel-check: all is well")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
