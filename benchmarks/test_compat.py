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
from benchmarks.cases import Case
from benchmarks.children import ROOT, end, tied

CHECKOUTS = os.environ.get("FACEGAN_ORACLES")
ROUNDS = 5
# what is measured: its subject, kind, size, batch, mode, the rival's subject unless it is the same, bar on a CPU
RACES = {
    "rosinality forward": ("rosinality", "forward", 256, 1, "patched", None, 1.8),
    "rosinality step": ("rosinality", "step", 64, 1, "patched", None, 1.8),
    "rosinality step, layers": ("rosinality", "step", 64, 1, "layers", None, 1.8),
    "gfpgan forward, operators": ("gfpgan", "forward", 256, 1, "patched", None, 1.7),
    "gfpgan forward": ("gfpgan", "forward", 256, 1, "layers", None, 1.7),
    "sg3-t forward": ("sg3-t", "forward", 64, 1, "patched", None, 1.4),
    "sg3-r forward": ("sg3-r", "forward", 64, 1, "patched", None, 1.4),
    "sg3-stylegan2 forward": ("sg3-stylegan2", "forward", 256, 1, "layers", None, 1.4),
    "sg3-stylegan2 step": ("sg3-stylegan2", "step", 64, 1, "layers", None, 1.2),
    "sg3-stylegan2 step, operators": ("sg3-stylegan2", "step", 64, 1, "patched", None, 1.2),
    "facegan step": ("facegan", "step", 64, 1, "plain", "sg3-stylegan2", 1.2),
}


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
    subject, kind, size, batch, mode, rival, bar = RACES[race]
    assert CHECKOUTS
    common = [kind, "--size", str(size), "--batch", str(batch), "--device", device]
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
    case = Case("compat", kind, race.replace(" ", "-"), batch, 512, size, 512, "float32", "nchw")
    found: dict[str, Any] = record.row(case, "auto", times, notes={"bar": str(bar)}, variant=mode)
    keep(found)
    medians = {name: statistics.median(entries) for name, entries in times.items()}
    print(f"\n{race}: {medians['unpatched'] / medians['op']:.2f} (bar {bar}): {medians}")
