#!/usr/bin/env python
"""What the processes of a training send each other: bytes a step, counted and measured, and what a network makes of them.

    sudo python benchmarks/communication.py            # counted, measured between two network namespaces, and computed for others
    python benchmarks/communication.py --counted       # without root: counted alone

Counted: four bytes for each weight of a network at every one of its backward passes, penalties as often as they come. Measured: what goes
through the cable between the two namespaces while a training steps, and how long gloo takes to average so many bytes over it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from machines import Training, run, two_machines, unavailable  # noqa: E402

from facegan.config import TrainConfig  # noqa: E402
from facegan.methods import configured  # noqa: E402
from facegan.methods.a.phase1 import Phase1  # noqa: E402
from facegan.methods.b.config import MethodBConfig  # noqa: E402
from facegan.methods.b.start import network_config  # noqa: E402
from facegan.models import stylegan2  # noqa: E402
from facegan.session import accelerator_for, make_context  # noqa: E402

CASES: dict[str, dict[str, Any]] = {  # name -> options; those with a length are measured too
    "A, 32 px": dict(method="a", resolution=32, phase1_epochs=30, phase2_epochs=0, epochs=0),
    "A, 64 px": dict(method="a", resolution=64, phase1_epochs=30, phase2_epochs=0, epochs=0),
    "B, 32 px": dict(method="b", resolution=32, phase2_epochs=0, kimg=30 * 0.016, width=0.25),
    "B, 64 px": dict(method="b", resolution=64, phase2_epochs=0, kimg=30 * 0.016, width=0.25),
    "B, 256 px": dict(method="b", resolution=256, phase2_epochs=0),
    "B, 1024 px": dict(method="b", resolution=1024, phase2_epochs=0),
}
COMMON: dict[str, Any] = dict(
    data="synthetic", num=120, batch=16, minimum_images=4, images_per_epoch=16, log_every=1, device="cpu", snapshot_every=1000
)
BANDWIDTHS = {"NVLink, 450 GB/s": 450e9, "PCIe 4.0 x16, 25 GB/s": 25e9, "100 GbE, 11 GB/s": 11e9, "10 GbE, 1.1 GB/s": 1.1e9}
TIMED = """
import json, sys, time, torch
torch.distributed.init_process_group("gloo")
for size in json.loads(sys.argv[1]):
    values, times = torch.zeros(size // 4), []
    for _ in range(7):
        torch.distributed.barrier(); start = time.perf_counter()
        torch.distributed.all_reduce(values); times.append(time.perf_counter() - start)
    print(json.dumps([size, sorted(times)[3]]), flush=True)
"""


def counted(config: TrainConfig) -> int:
    """Bytes of gradients that a process averages with the others in a step, in the mean over many."""
    if isinstance(config, MethodBConfig):
        shape = network_config(config, attributes=2)
        with torch.device("meta"):
            generator, discriminator = weights(stylegan2.Generator(shape)), weights(stylegan2.Discriminator(shape))
        return round(4 * (generator * (1 + 1 / config.pl_every) + discriminator * (1 + 1 / config.r1_every)))
    networks = Phase1(make_context(config, accelerator_for(config)), None).networks  # R1 shares the discriminator's pass
    return 4 * (weights(networks["G"]) + weights(networks["D"]))


def weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def sent(options: dict[str, Any], folder: Path) -> float:
    """Bytes a step that one of two machines sends, headers included."""
    stage, marks = "phase1" if options["method"] == "a" else "stylegan2", []
    with two_machines(folder) as machines:
        flags = [[*words(options), "--out", str(machine.folder / "run")] for machine in machines]
        training, metrics = Training(machines, flags, 29950), machines[0].folder / "run/metrics.jsonl"
        wire = ("ip", "netns", "exec", machines[0].name, "cat", f"/sys/class/net/{machines[0].device}/statistics/tx_bytes")
        for least in (4, 20):  # steps of R1 and path length lie between as often as in a long run
            while (step := steps(metrics, stage)) < least:
                assert all(each.poll() is None for each in training.processes), training.said()
                time.sleep(0.005)
            marks.append((step, int(run(*wire))))
    (first, before), (last, after) = marks
    return (after - before) / (last - first)


def words(options: dict[str, Any]) -> list[str]:
    return [word for name, value in {**COMMON, **options}.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def steps(metrics: Path, stage: str) -> int:
    """So many have been taken."""
    found = [json.loads(line) for line in metrics.read_text().split("\n")[:-1]] if metrics.exists() else []
    return max((row["step"] for row in found if row["stage"] == stage), default=0)


def averaged(sizes: list[int], folder: Path) -> dict[int, float]:
    """Seconds in which gloo averages so many bytes between two machines."""
    with two_machines(folder) as machines:
        training = Training(machines, [[json.dumps(sizes)]] * 2, 29960, TIMED)
        assert training.wait(300) == [0, 0], training.said()
        lines = [line for line in training.said(0).splitlines() if line.startswith("[") and "c10d" not in line]
    return dict(map(json.loads, lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counted", action="store_true", help="measure nothing")
    measuring = not parser.parse_args().counted and not unavailable()
    with tempfile.TemporaryDirectory() as folder:
        configs = {name: configured(**{**COMMON, **options, "out": f"{folder}/run"}) for name, options in CASES.items()}
        found = {name: counted(config) for name, config in configs.items()}
        print("| training | gradients a step | one of two machines sends a step | gloo averages them in |\n|---|---|---|---|")
        times = averaged(sorted(set(found.values())), Path(folder) / "times") if measuring else {}
        for name, size in found.items():
            short = measuring and ("phase1_epochs" in CASES[name] or "kimg" in CASES[name])
            measured = f"{sent(CASES[name], Path(folder) / name.replace(' ', '')) / 1e6:.2f} MB" if short else "-"
            print(f"| {name} | {size / 1e6:.2f} MB | {measured} | {f'{1e3 * times[size]:.0f} ms' if times else '-'} |", flush=True)
        print("\ncomputed, not measured: seconds a step of 8 processes for the averaging alone, 2 (8 - 1) / 8 x bytes / bandwidth\n")
        print("| training |", " | ".join(BANDWIDTHS), "|\n|---" + "|---" * len(BANDWIDTHS) + "|")
        for name, size in found.items():
            print(f"| {name} |", " | ".join(f"{1e3 * 2 * 7 / 8 * size / speed:.2f} ms" for speed in BANDWIDTHS.values()), "|")


if __name__ == "__main__":
    main()
