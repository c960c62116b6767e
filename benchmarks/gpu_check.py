#!/usr/bin/env python
"""`make gpu-check`: everything that this package wants to know of a CUDA GPU, the most important first, within a given time.

    python benchmarks/gpu_check.py --total 400                # builds and GPU tests, then measurements, then the report
    python benchmarks/gpu_check.py --plan --first streaming   # what it would measure, in which order, and how long that should take
    python benchmarks/gpu_check.py --only modulated_conv2d    # what matches alone: tests/, first-step/, training/, layers/, streaming/
    python benchmarks/gpu_check.py --peer-nvidia ~/stylegan3  # with NVIDIA's operators from your own clone as a rival
    python benchmarks/gpu_check.py --device cpu               # small, to try it where there is no GPU

CUDA libraries and NVIDIA's plugins are built beside the first tests, which run in parallel workers; nothing else runs while anything
is timed. Every row is in the results before the next is measured, every test's outcome in `logs/tests.jsonl` before the next ends:
a stop at any moment keeps both. Nothing starts that is not expected to end in time, and the report says "not measured" of the rest.
Exits with status 1 when a test failed or nothing was measured.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()  # before PyTorch is imported, which takes seconds

import argparse  # noqa: E402
import importlib.util  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import children, first_step, outcomes, plan, record  # noqa: E402
from benchmarks.budget import Budget  # noqa: E402
from benchmarks.children import start  # noqa: E402
from benchmarks.plan import Measurement  # noqa: E402

TOTAL = 585.0  # seconds, all in all
RESERVE = 40.0  # of them, after the expected end of the last measurement
REPORT = 20.0  # of those, for the report, when everything before it has been stopped
PREPARING = 0.5  # share of the time that builds and tests may take at most
MOST_WORKERS = 12
TEST_RUNS = {
    "tests/triton": ["tests", "-m", "gpu", "-k", "not native"],
    "tests/native": ["tests", "-m", "gpu", "-k", "native"],
    "tests/cpu": ["tests/test_backend.py", "tests/ops/test_bias_act.py"],
}


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:5.0f} s] {text}", flush=True)


def ended(process: subprocess.Popen[bytes], name: str, limit: float) -> bool:
    """Whether it ended well within `limit` seconds; it is stopped there."""
    found = children.status(process, limit)
    say(f"{name}: {'done' if found == 0 else f'stopped after its {limit:.0f} s' if found is None else f'status {found}'}")
    return found == 0


class Check:
    """One run: what is to be done, and where its results and logs go."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.device, self.results = arguments, arguments.device, arguments.results.resolve()
        self.logs = self.results / "logs"
        self.chosen = plan.measurements(self.device, arguments.only, arguments.first)
        self.tests = plan.tests(self.device, arguments.only)
        self.builds = plan.builds(self.device, self.chosen, self.tests, bool(arguments.peer_nvidia))
        self.peer = str(Path(arguments.peer_nvidia).expanduser().resolve()) if arguments.peer_nvidia else None
        self.seconds = arguments.total - RESERVE
        self.end = STARTED + arguments.total - REPORT  # nothing runs on after it
        self.budget = Budget(self.seconds - (time.monotonic() - STARTED))

    def plan(self) -> list[str]:
        return list(plan.table(self.chosen, self.builds, self.tests, self.seconds))

    # --- builds and tests, together
    def prepare(self) -> bool:
        """Whether all tests passed. What fails to build is told and left out; what hangs is stopped."""
        self.logs.mkdir(parents=True, exist_ok=True)
        until = STARTED + PREPARING * self.seconds
        building = {name: self._build(name) for name in self.builds}
        passed = [self._test(name, until) for name in self.tests if name != "tests/native"]
        for name, process in building.items():
            built = ended(process, name, until - time.monotonic())
            if name == "builds/peer" and not built:
                self.peer = None
                say(f"NVIDIA's plugins cannot be had, see {self.logs / 'builds-peer.log'}: measuring without them")
        passed += [self._test(name, until) for name in self.tests if name == "tests/native"]
        return all(passed)

    def _build(self, name: str) -> subprocess.Popen[bytes]:
        say(f"{name}: started")
        with (self.logs / f"{name.replace('/', '-')}.log").open("w") as log:
            if name == "builds/peer":
                return start(["-m", "benchmarks.peer", str(self.peer)], log)
            jobs = os.environ.get("MAX_JOBS") or str(max(1, (os.cpu_count() or 1) // 2))  # the tests want cores too
            return start(["csrc/build_native.py"], log, dict(FACEGAN_BUILD="cuda", MAX_JOBS=jobs))

    def _test(self, name: str, until: float) -> bool:
        """Whether a run of tests passed; it writes its log and outcomes as it goes."""
        file = self.logs / f"{name.replace('/', '-')}.jsonl"
        file.unlink(missing_ok=True)
        command = ["-m", "pytest", *TEST_RUNS[name], "-v", "-p", "benchmarks.outcomes", "--outcomes", str(file), *parallel()]
        with file.with_suffix(".log").open("w") as log:
            passed = ended(start(command, log), name, until - time.monotonic())
        say(f"{name}: {outcomes.summary(outcomes.read(file))}")
        return passed

    # --- measurements, each alone
    def measure(self, work: Path) -> None:
        """`work`: an empty folder."""
        for run in plan.runs(self.chosen):
            name = run[0].id if len(run) == 1 else f"{len(run)} cases from {run[0].id} on"
            guess = plan.START + run[0].guess
            if not self.budget.allows(run[0].kind, guess):
                say(f"{name}: no time, {self.budget.expected(run[0].kind, guess):.0f} s expected of {self.budget.left:.0f} s left")
                continue
            begun = time.monotonic()
            caches = work / run[0].name
            filled = first_step.caches(caches) if caches.exists() else {}  # by the first step of the same training
            done = ended(start(self._command(run, caches), environment=filled), name, self.end - begun)
            if done and not run[0].by_pytest:
                self.budget.spent(run[0].kind, guess, time.monotonic() - begun)

    def _command(self, run: list[Measurement], caches: Path) -> list[str]:
        first, common = run[0], ["--results", str(self.results)]
        peer = ["--peer-nvidia", self.peer] if self.peer else []
        if first.kind == "first-step":
            return ["-m", "benchmarks.first_step", first.name, "--device", self.device, "--caches", str(caches), *common]
        if not first.by_pytest:
            return ["-m", "benchmarks.host_device", first.name, "--device", self.device, *common, *peer]
        groups = ",".join(dict.fromkeys(entry.group for entry in run))
        options = ["--cases", plan.SETS[self.device], "--groups", groups, "--budget", f"{self.budget.left - plan.START:.0f}", *peer]
        options += ["--only", self.arguments.only] if self.arguments.only else []
        options += ["--first", self.arguments.first] if self.arguments.first else []
        return ["-m", "pytest", "benchmarks", "--benchmark-only", "--benchmark-quiet", "-q", "-rs", *common, *options]


def parallel() -> list[str]:
    """pytest-xdist's workers, three for every four cores."""
    if importlib.util.find_spec("xdist") is None:
        say("pytest-xdist is not installed (pip install pytest-xdist): the tests run in one process, and may not all end in time")
        return []
    return ["-n", str(max(1, min(MOST_WORKERS, (os.cpu_count() or 1) * 3 // 4)))]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total", type=float, default=TOTAL, metavar="SECONDS", help="it ends within this time (default: %(default)g)")
    parser.add_argument("--only", metavar="PATTERN", help="only what matches this regular expression, as --plan names it")
    parser.add_argument("--first", choices=plan.GROUPS, help="what to measure first")
    parser.add_argument("--plan", action="store_true", help="print the plan and stop; no GPU needed")
    parser.add_argument("--device", choices=tuple(plan.SETS), default="cuda", help="default: %(default)s")
    parser.add_argument("--peer-nvidia", metavar="PATH", help="your clone of NVlabs/stylegan3")
    parser.add_argument("--results", type=Path, default=record.FOLDER, metavar="DIR", help="default: %(default)s")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    check = Check(arguments)
    if arguments.plan:
        print("\n".join(check.plan()))
        return 0
    say(check.plan()[-1])
    if not (check.chosen or check.tests):
        print(f"nothing matches --only {arguments.only!r}; --plan without it shows all names", file=sys.stderr)
        return 1
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check needs a CUDA GPU that PyTorch can see; `python -m facegan.env` shows what is here.", file=sys.stderr)
        return 1
    before = record.stamps(check.results)
    passed = check.prepare()
    with tempfile.TemporaryDirectory() as work:
        check.measure(Path(work))
    measured = not check.chosen or record.stamps(check.results) != before
    ended(start(["benchmarks/report.py", "--results", str(check.results)]), "report", STARTED + arguments.total - time.monotonic())
    say(f"{'all tests passed' if passed else 'tests FAILED'}; {'measured' if measured else 'nothing measured'}; of {arguments.total:.0f} s")
    return 0 if passed and measured else 1


if __name__ == "__main__":
    sys.exit(main())
