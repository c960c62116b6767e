"""Other projects unpatched and on our operators, side by side: a process of each, one round in turn, CPU time.

    FACEGAN_ORACLES=~/clones pytest -s benchmarks/test_compat.py --results benchmarks/results

On a GPU the unpatched side is the project's own form in PyTorch (`impl="ref"`), with which it runs everywhere.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import record
from benchmarks.cases import BACKENDS, Case
from benchmarks.children import ROOT, end, tied
from benchmarks.races import RACES

CHECKOUTS = os.environ.get("FACEGAN_ORACLES")
ROUNDS = 3
BATCH = 1


class Contender:
    """A child process that runs a round when told to."""

    def __init__(self, *arguments: str) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "compat_child.py"), *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, preexec_fn=tied,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout
        text = self.process.stdout.readline().strip()
        assert text, f"the process ended with {self.process.wait()}"
        return text

    def seconds(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.line())


@pytest.mark.skipif(not CHECKOUTS, reason="FACEGAN_ORACLES names no folder with clones of the projects to measure")
@pytest.mark.parametrize("race", RACES)
def test_compat(race: str, device: str, keep: Callable[[record.Row], None]) -> None:
    _, subject, kind, size, mode, bar, rival = RACES[race]
    assert CHECKOUTS
    common = [kind, "--size", str(size), "--batch", str(BATCH), "--device", device]
    contenders = {"op": Contender(CHECKOUTS, subject, mode, *common), "unpatched": Contender(CHECKOUTS, rival or subject, "plain", *common)}
    try:
        for contender in contenders.values():
            assert contender.line() == "ready"
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, contender in contenders.items():
                times[name].append(contender.seconds())
    finally:
        for contender in contenders.values():
            end(contender.process)  # type: ignore[arg-type]
    case = Case("compat", kind, race, BATCH, 512, size, 512, "float32", "nchw")
    found: dict[str, Any] = record.row(case, BACKENDS[device][0], times, notes={"bar": str(bar)}, variant=mode)
    keep(found)
    medians = {name: statistics.median(entries) for name, entries in times.items()}
    print(f"\n{race}: {medians['unpatched'] / medians['op']:.2f} (bar {bar}): {medians}")
