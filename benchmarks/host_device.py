"""A training step's host time beside its device time: does the GPU wait for Python?

    python -m benchmarks.host_device stylegan2-256 --device cuda --results benchmarks/results [--peer-nvidia ~/stylegan3]

The stage is the one that `facegan train` runs, with augmentation, R1, path length, optimisers and averages; it is measured over whole
cycles of 16 steps, after which the lazy regularisers repeat. Each contender's row is written as soon as it is measured: `eager`, every
operator launched by Python; `graphed`, replayed from CUDA graphs, in turn with the eager one; NVIDIA's networks, where a clone is
given, as a rival of both. On a CPU there is the host's time alone.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import device_profile, record, trainings
from benchmarks.peer import Peer
from benchmarks.training_step import TrainingStep
from benchmarks.trainings import Training
from facegan.config import TrainConfig
from facegan.memory import keep_memory
from facegan.methods.b.stage import StyleGAN2Training
from facegan.training.loop import Terms
from facegan.training.stage import Stage

CYCLE = 16  # steps after which R1 and path length have come round in every training here
WINDOW = {"cuda": 10.0, "cpu": 2.0}  # seconds of rounds
ROUNDS = 2, 20  # at least, at most
WARM_UP = 2, 6  # steps of each kind before anything is timed, without and with graphs (of which the third is recorded)


class Steps:
    """A stage's steps one after the other, with the sums of loss terms that the trainer keeps."""

    def __init__(self, stage: Stage[TrainConfig]) -> None:
        self.stage, self.terms, self.next = stage, Terms(), 0

    def step(self) -> None:
        self.terms.add(self.stage.step(self.next))
        self.next += 1

    def cycle(self) -> None:
        self.next += -self.next % CYCLE
        for _ in range(CYCLE):
            self.step()

    def at(self, place: int) -> None:
        """A step at the `place`-th of a cycle; those until there are left out."""
        self.next += (place - self.next) % CYCLE
        self.step()

    @property
    def from_graphs(self) -> bool:
        """Whether the stage records its steps, and has not given that up."""
        return self.stage.graphed.record is not None


@dataclass
class Times:
    """Seconds of every cycle: launching it on the host, and from its first to its last moment on the device (on a CPU the same)."""

    host: list[float] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)


def timed(cycle: Callable[[], None], device: str, times: Times) -> None:
    if device == "cpu":
        start = time.perf_counter()
        cycle()
        times.host.append(time.perf_counter() - start)
        times.elapsed.append(times.host[-1])
        return
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    start = time.perf_counter()
    cycle()
    times.host.append(time.perf_counter() - start)
    end.record()
    end.synchronize()
    times.elapsed.append(begin.elapsed_time(end) / 1000)


def race(cycles: Mapping[str, Callable[[], None]], device: str) -> dict[str, Times]:
    """All contenders in turn; they have been warmed up."""
    found = {name: Times() for name in cycles}
    start = time.perf_counter()
    for done in range(ROUNDS[1]):
        if done >= ROUNDS[0] and (time.perf_counter() - start) * (done + 1) / done > WINDOW[device]:
            break
        for name, cycle in cycles.items():
            timed(cycle, device, found[name])
    return found


def kinds_of_step(config: TrainConfig) -> dict[int, int]:
    """Place in the cycle of one step of each kind (with R1 or not, with path length or not) -> how many of them a cycle has."""
    periods = [config.r1_every, getattr(config, "pl_every", 1)]
    kinds = [tuple(place % period == 0 for period in periods) for place in range(CYCLE)]
    return {kinds.index(kind): count for kind, count in Counter(kinds).items()}


@dataclass(frozen=True)
class Profile:
    """Means over a cycle's steps."""

    busy: float  # seconds of the device per step
    kernels: list[dict[str, Any]]


def profiled(steps: Steps, copy_gb_s: float, count_bytes: bool) -> Profile:
    """One step of each kind under the profiler; operators' bytes, which need a step of their own, are not to be had of graphs."""
    kinds, moved = kinds_of_step(steps.stage.context.config), defaultdict[int, Counter[str]](Counter)
    for place in kinds if count_bytes else ():
        with device_profile.OperatorBytes() as counting:
            steps.at(place)
        moved[place] = counting.bytes
    found = {place: device_profile.activities(functools.partial(steps.at, place), moved[place]) for place in kinds}
    parts = [(count / CYCLE, found[place], moved[place]) for place, count in kinds.items()]
    busy = sum(weight * device_profile.busy_seconds(activities) for weight, activities, _ in parts)
    return Profile(busy, device_profile.top_kernels(parts, copy_gb_s))


def peer_cycle(peer: Peer, stage: StyleGAN2Training, device: str) -> Callable[[], None]:
    """NVIDIA's networks of the same sizes through as many steps and penalties, without augmentation and average."""
    config = stage.context.config
    theirs = TrainingStep(stage.shape, config.batch, device, peer.networks(stage.shape))

    def cycle() -> None:
        for place in range(CYCLE):
            theirs.step()
            if place % config.pl_every == 0:
                theirs.path_length()
            if place % config.r1_every == 0:
                theirs.r1()

    return cycle


class Measured:
    """Measures one training and writes its rows."""

    def __init__(self, training: Training, device: str, results: record.Results) -> None:
        self.training, self.device, self.results = training, device, results
        self.case = training.case("training")
        self.backend = trainings.serving(device)
        self.notes: dict[str, str] = {}

    def steps(self, folder: Path, graphs: bool) -> Steps:
        """Warmed up by steps of every kind: enough of them that what is recorded after a few is replayed from now on."""
        steps = Steps(trainings.make_stage(self.training, self.device, folder, graphs))
        start = time.perf_counter()
        for _ in range(WARM_UP[graphs]):
            for place in kinds_of_step(steps.stage.context.config):
                steps.at(place)
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.notes[f"seconds of warming up {'graphed' if graphs else 'eager'}"] = f"{time.perf_counter() - start:.1f}"
        return steps

    def keep(self, variant: str, raced: Mapping[str, Times], profile: Profile | None) -> None:
        """The row of `variant`, with the other contenders as its rivals."""
        rivals = {"ungraphed" if name == "eager" else name: times for name, times in raced.items() if name != variant}
        per_step = {name: [seconds / CYCLE for seconds in times.elapsed] for name, times in rivals.items()}
        per_step["op"] = [seconds / CYCLE for seconds in raced[variant].elapsed]
        elapsed, batch = statistics.median(per_step["op"]), self.case.n
        self.results.add(
            record.row(
                self.case, self.backend, per_step, notes=self.notes, variant=variant,
                host_seconds=statistics.median(raced[variant].host) / CYCLE,
                busy_seconds=profile and profile.busy,
                idle=profile and max(0.0, 1 - profile.busy / elapsed),
                seconds_per_kimg=1000 * elapsed / batch,
                kernels=profile.kernels if profile else [],
            )
        )  # fmt: skip

    def rivals(self, peer: Peer | None, stage: Stage[TrainConfig]) -> dict[str, Callable[[], None]]:
        """NVIDIA's cycle, warmed up; what fails there is told and no reason to stop."""
        if not (peer and isinstance(stage, StyleGAN2Training)):
            return {}
        try:
            cycle = peer_cycle(peer, stage, self.device)
            cycle()
        except Exception as error:
            self.notes["peer"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            return {}
        return {"peer": cycle}

    def run(self, folder: Path, peer: Peer | None) -> None:
        """The profiler comes last: it slows what runs after it."""
        contenders = {"eager": self.steps(folder / "eager", graphs=False)}
        raced = {"eager": race({"eager": contenders["eager"].cycle}, self.device)}
        self.keep("eager", raced["eager"], None)  # a stop during what follows leaves this
        cycles = self.rivals(peer, contenders["eager"].stage)
        if self.device == "cuda":
            graphed = self.steps(folder / "graphed", graphs=True)
            if graphed.from_graphs:
                contenders["graphed"] = graphed
            else:  # the log says why
                print(f"{self.training.name}: its steps cannot be replayed from CUDA graphs", file=sys.stderr)
        if cycles or len(contenders) > 1:
            both = race(cycles | {name: steps.cycle for name, steps in contenders.items()}, self.device)
            for variant in contenders:
                raced[variant] = both
                self.keep(variant, both, None)
        for variant, steps in contenders.items() if self.device == "cuda" else ():
            profile = profiled(steps, self.results.ceilings["copy_gb_s"], count_bytes=variant == "eager")
            self.keep(variant, raced[variant], profile)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", help="one of `trainings.TRAININGS`")
    parser.add_argument("--device", choices=tuple(trainings.TRAININGS), default="cuda")
    parser.add_argument("--results", type=Path, default=record.FOLDER, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--peer-nvidia", metavar="PATH", help="your clone of NVlabs/stylegan3")
    arguments = parser.parse_args()
    keep_memory()
    training = trainings.find(arguments.device, arguments.training)
    peer = Peer(arguments.peer_nvidia) if arguments.peer_nvidia and training.method == "b" else None
    with tempfile.TemporaryDirectory() as folder:
        Measured(training, arguments.device, record.Results(arguments.results, arguments.device)).run(Path(folder), peer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
