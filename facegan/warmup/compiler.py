"""Compiles Triton kernels in processes of their own, into Triton's own cache: `python -m facegan.warmup.compiler PROCESSES`.

Reads a JSON list of kernels from standard input and writes a line for each that is done. The process has never touched a GPU, so
that it may fork, and nothing of the caller's `__main__` is run again.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from facegan.warmup.kernels import Specialisation

_DONE = "facegan: "  # begins a line that says so; a compiler may write others
_LONG = ("facegan_kernels.triton.fir", "facegan_kernels.triton.modulated_conv2d.fused")  # compiled first, as they take the longest
log = logging.getLogger("facegan.train")


def compile_in_processes(kernels: Sequence[Specialisation], processes: int) -> Iterator[tuple[int, str | None]]:
    """(its place, None or what went wrong) of each kernel, as they are done."""
    given = json.dumps([[one.module, one.name, one.arch, one.data] for one in kernels])
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore", "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "facegan.warmup.compiler", str(processes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(given)
            child.stdin.close()
            for line in child.stdout:
                if line.startswith(_DONE):
                    index, reason = json.loads(line.removeprefix(_DONE))
                    yield index, reason
            if child.wait():
                log.warning("the process that compiles kernels ended with status %d: they are compiled when first needed", child.returncode)
        finally:
            child.kill()


def _compiled(numbered: tuple[int, Specialisation]) -> tuple[int, str | None]:
    index, kernel = numbered
    try:
        kernel.compiled()
    except Exception as error:
        return index, f"{type(error).__name__}: {error}"
    return index, None


def main() -> None:
    kernels = [Specialisation(*values) for values in json.load(sys.stdin)]
    for one in kernels:
        one.function()  # imports its module before the processes are forked
    longest_first = sorted(enumerate(kernels), key=lambda numbered: numbered[1].module not in _LONG)
    with multiprocessing.get_context("fork").Pool(int(sys.argv[1])) as pool:
        for result in pool.imap_unordered(_compiled, longest_first):
            print(_DONE + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
