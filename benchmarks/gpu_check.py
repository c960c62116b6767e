#!/usr/bin/env python
"""`make gpu-check`: everything that this package wants to know of a CUDA GPU, in under ten minutes.

    python benchmarks/gpu_check.py                            # GPU tests, benchmarks, one JSON in benchmarks/results, the report
    python benchmarks/gpu_check.py --peer-nvidia ~/stylegan3  # with NVIDIA's operators from your own clone as a rival
    python benchmarks/gpu_check.py --plan                     # what it would measure, and how long that should take; no GPU needed

The cases are sorted by importance, and none starts after the time is up: a slow machine measures fewer, and the report says
"not measured" of the rest. Exits with status 1 when a test fails or nothing could be measured.
"""

from __future__ import annotations

import argparse
import collections
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import cases, contest, record

ROOT = Path(__file__).parents[1]
TOTAL, TESTS, REST = 585, 240, 15  # seconds: all in all, at most for the tests, for what comes after the last case
SECONDS_TO_COMPILE, OVERHEAD = 3.0, 0.4  # per case, as expected of torch.compile on a server's processor; not measured


def plan() -> None:
    """Prints the cases by operator and the seconds that they should take."""
    count: collections.Counter[str] = collections.Counter()
    cost: dict[str, float] = collections.defaultdict(float)
    for case in cases.select("check"):
        backends = 1 if case.op == "conv2d" else len(cases.BACKENDS["cuda"])
        count[case.op] += backends
        cost[case.op] += backends * (contest.WINDOW["cuda"] + OVERHEAD)
        cost[case.op] += SECONDS_TO_COMPILE * (case.order in cases.COMPILED_ORDERS)  # later backends find it in Inductor's cache
    for op, number in count.items():
        print(f"{op:20} {number:4} measurements  {cost[op]:4.0f} s")
    print(f"{'together':20} {count.total():4} measurements  {sum(cost.values()):4.0f} s expected of {TOTAL - REST - TESTS} s or more")


def run(*command: str, limit: float) -> int:
    """The command's status; 124 when it was stopped at its limit."""
    try:
        return subprocess.run([sys.executable, "-m", "pytest", *command], cwd=ROOT, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        print(f"stopped after {limit:.0f} s: {' '.join(command)}", file=sys.stderr)
        return 124


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    parser.add_argument("--peer-nvidia", metavar="PATH", help="your clone of NVlabs/stylegan3")
    parser.add_argument("--results", type=Path, default=record.FOLDER, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args()
    start = time.monotonic()
    plan()
    if arguments.plan:
        return 0
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA GPU that PyTorch can see; `python -m facegan.env` shows what is here.", file=sys.stderr)
        return 1
    tests = run("tests", "-m", "gpu", "-q", limit=TESTS)
    print(f"GPU tests: status {tests}, {time.monotonic() - start:.0f} s", flush=True)
    left = TOTAL - REST - (time.monotonic() - start)
    peer = ["--peer-nvidia", arguments.peer_nvidia] if arguments.peer_nvidia else []
    options = ["--benchmark-only", "--benchmark-quiet", "-q", "-rs", "--cases", "check", "--results", str(arguments.results), *peer]
    # A case may still take a while after the budget's end; past the limit nothing would be written.
    speed = run("benchmarks", *options, "--budget", f"{left - 30:.0f}", limit=left + REST)
    print(f"benchmarks: status {speed}, {time.monotonic() - start:.0f} s since the start", flush=True)
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "report.py"), "--results", str(arguments.results)])
    print(f"all: {time.monotonic() - start:.0f} s of {TOTAL}")
    return int(tests != 0 or speed != 0)


if __name__ == "__main__":
    sys.exit(main())
