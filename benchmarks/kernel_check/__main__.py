"""What can be known of the kernels without a GPU: `make kernel-check`.

    python -m benchmarks.kernel_check [triton|bytes|cuda|triton-full ...]    (from the root; by default the first three)

triton:      every Triton kernel, as the shapes of `make gpu-check` specialise it, compiled for sm_80 and sm_90.
bytes:       what the Triton kernels move, counted under the interpreter, against the ideal.
cuda:        csrc/cuda, compiled for every architecture that ships; skipped where there is no nvcc.
triton-full: as triton, for the whole grid of the benchmarks: thousands of kernels, half an hour.

Prints a table per part, and at the end what is wrong: a spill, local memory, more shared memory than there is, 2-byte accesses
in a hot part, too many bytes, a compiler's warning. Exits with status 1 then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from benchmarks.kernel_check.parts import OPTIONAL, PARTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="kernel_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"default: {' '.join(PARTS)}")
    chosen = parser.parse_args().parts or list(PARTS)
    known = PARTS | OPTIONAL
    if unknown := set(chosen) - set(known):
        parser.error(f"part is {', '.join(sorted(unknown))}; expected {', '.join(known)}")
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # Triton's, in every process
    failures = []
    for name in chosen:
        # the interpreter is turned on for a whole process, before it imports Triton
        os.environ["TRITON_INTERPRET"] = "1" if name == "bytes" else "0"
        start = time.monotonic()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            part = pool.submit(known[name]).result()
        print(f"{part}\n{name}: {len(part.failures)} failures, {time.monotonic() - start:.0f} s\n", flush=True)
        failures += part.failures
    for failure in failures:
        print(f"FAIL {failure}")
    print(f"kernel-check: {len(failures)} failures" if failures else "kernel-check: all is well")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
