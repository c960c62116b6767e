"""What `gpu_check.py` measures, in which order, and what it should cost: the most important first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import cases, contest, trainings
from benchmarks.budget import Budget
from benchmarks.cases import Case

# What can be asked for first: the time to a training's first step; whole training steps; layers; operators bound by memory.
GROUPS = ("first-step", "training", "layers", "streaming")
SETS = {"cuda": "check", "cpu": "tiny"}  # device -> the set of cases

# Seconds, as guessed before anything is measured; `Budget` corrects them as it goes. An H100 with 16 cores, 2026-11-28: CUDA libraries
# 54, NVIDIA's plugins 70, tests 93 and 34, a case that compiles its rivals 4, a step of a training 0.2. The others are not measured.
BUILD, PEER_BUILD = 54.0, 70.0
TESTS = {"cuda": {"tests/triton": 93.0, "tests/native": 34.0}, "cpu": {"tests/cpu": 20.0}}
START = 10.0  # of a process: Python, torch, the GPU's context
FIRST_STEP = {"cuda": 40.0, "cpu": 40.0}  # cold and with filled caches
TRAINING = {"cuda": 45.0, "cpu": 15.0}
WHOLE_STEP = {"cuda": 15.0, "cpu": 5.0}
COMPILING = {"cuda": 3.0, "cpu": 6.0}
RACE = 1.0  # around a race's window: inputs, the comparison, rivals


@dataclass(frozen=True)
class Measurement:
    """One thing to measure; `kind` names those whose costs tell of each other."""

    group: str
    name: str
    kind: str
    guess: float  # seconds

    @property
    def id(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def by_pytest(self) -> bool:
        return not self.kind.startswith(("first-step", "training"))


def of_case(case: Case, backend: str, device: str) -> Measurement:
    """A case on a backend; the first backend of a case pays for the compilation of its rivals."""
    first = backend == "reference" or backend == cases.BACKENDS[device][0]
    guess = contest.WINDOW[device] + RACE
    if case.op in cases.STEPS:
        guess += WHOLE_STEP[device]
    elif case.order in cases.COMPILED_ORDERS:
        guess += COMPILING[device] if first else COMPILING[device] / 2
    return Measurement(case.group, f"{case}-{backend}", f"{case.op} {case.order} {'first' if first else 'again'}", guess)


def backends_of(op: str, device: str) -> tuple[str, ...]:
    return cases.BACKENDS[device] if op != "conv2d" else ("reference",)  # it has one implementation


def everything(device: str) -> Iterator[Measurement]:
    """All measurements on a device, the most important first."""
    chosen = trainings.TRAININGS[device]
    starts = [Measurement("first-step", entry.name, "first-step", FIRST_STEP[device]) for entry in chosen if entry.first_step]
    steps = [Measurement("training", entry.name, f"training {entry.name}", TRAINING[device]) for entry in chosen]
    yield from (*starts[:1], *steps, *starts[1:])
    for case in cases.select(SETS[device]):
        for backend in backends_of(case.op, device):
            yield of_case(case, backend, device)


def wanted(name: str, only: str | None) -> bool:
    return only is None or re.search(only, name) is not None


def measurements(device: str, only: str | None = None, first: str | None = None) -> list[Measurement]:
    """Those whose id matches `only`, the group `first` in front."""
    chosen = [entry for entry in everything(device) if wanted(entry.id, only)]
    return sorted(chosen, key=lambda entry: entry.group != first)


def runs(chosen: Sequence[Measurement]) -> list[list[Measurement]]:
    """One process each: a training by itself, neighbouring cases together."""
    found: list[list[Measurement]] = []
    for entry in chosen:
        if entry.by_pytest and found and found[-1][0].by_pytest:
            found[-1].append(entry)
        else:
            found.append([entry])
    return found


def tests(device: str, only: str | None = None) -> dict[str, float]:
    """Test runs -> seconds."""
    return {name: seconds for name, seconds in TESTS[device].items() if wanted(name, only)}


def builds(device: str, chosen: Iterable[Measurement], planned_tests: Iterable[str], peer: bool) -> dict[str, float]:
    """What is to be built for all that -> seconds."""
    native = any(name.endswith("native") for name in [*(entry.name for entry in chosen), *planned_tests])
    found = {"builds/native": BUILD} if native and device == "cuda" else {}
    return found | ({"builds/peer": PEER_BUILD} if peer else {})


def preparing(building: dict[str, float], testing: dict[str, float]) -> float:
    """Seconds: the builds run beside the first tests, and the tests of what was built after them."""
    later = testing.get("tests/native", 0.0)
    return max(sum(testing.values()) - later, max(building.values(), default=0.0)) + later


def table(chosen: Sequence[Measurement], building: dict[str, float], testing: dict[str, float], seconds: float) -> Iterator[str]:
    """The plan as text: when each is expected to end, and what does not fit into `seconds`."""
    for name, cost in [*building.items(), *testing.items()]:
        yield f"{'':>12} {cost:5.0f} s  {name}"
    clock, fitting = 0.0, 0
    budget = Budget(seconds, now=lambda: clock)
    clock = preparing(building, testing)
    for run in runs(chosen):
        clock += START
        for entry in run:
            fits = budget.allows(entry.kind, entry.guess)
            fitting += fits
            clock += entry.guess if fits else 0.0
            yield f"{f'by {clock:.0f} s' if fits else 'no time':>12} {entry.guess:5.1f} s  {entry.id}"
    yield f"{fitting} of {len(chosen)} measurements expected within {seconds:.0f} s"
