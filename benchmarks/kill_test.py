#!/usr/bin/env python
"""Does a run survive `kill -9` at any moment? Kills one many times, restarts it each time, and compares the result byte by byte.

    python benchmarks/kill_test.py --kills 20

A small run of every phase is trained undisturbed; a second one is killed at seeded random moments, spread over its start, its
steps and its saving, and started again by the same command. Both must end with identical files `stages/*/model.safetensors`
and identical rows of metrics. Exits with status 1 when they do not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FLAGS = """--data synthetic --num 200 --resolution 16 --width 0.25 --batch 8 --minimum-images 4 --images-per-epoch 8 --device cpu
--recipe thesis --pretrain-epochs 10 --phase1-epochs 20 --phase2-epochs 20 --epochs 30 --merge regional --self-augment
--ema-images 100 --r1-gamma 0.1 --augment color,translation --harvest-every 2 --snapshot-every 4 --log-every 1"""
CLOCKS = {"seconds", "images_per_second", "data_wait"}


@dataclass
class Kill:
    """One kill: where it fell, and how long the process had lived."""

    stage: str
    step: int
    seconds: float


def command(out: Path, flags: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "facegan.cli", "train", "--out", str(out), *flags], env=environment, stderr=subprocess.DEVNULL
    )


def rows(run: Path) -> list[dict]:
    """Complete rows of the metrics; the last one may be half written."""
    try:
        lines = (run / "metrics.jsonl").read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def kill_once(run: Path, flags: list[str], target: int, delay: float) -> Kill | None:
    """Start the run, kill it `delay` seconds after it has written `target` rows in all (below 0: after its start)."""
    process, start = command(run, flags), time.perf_counter()
    before = rows(run)
    while process.poll() is None and target >= 0:
        now = rows(run)
        if len(now) >= target and now != before:
            break
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    ended = process.wait() == 0
    last = (rows(run) or [{"stage": "start", "step": 0}])[-1]
    return None if ended else Kill(last["stage"], last["step"], time.perf_counter() - start)


def kill_many(run: Path, flags: list[str], kills: int, length: int, seed: int) -> list[Kill]:
    """Kill the run at `kills` moments: one in eight while it starts, the others after a random row of `length`."""
    dice = random.Random(seed)
    targets = sorted(-1 if index % 8 == 0 else dice.randrange(1, length) for index in range(kills))
    found = (kill_once(run, flags, target, dice.uniform(0, 4 if target < 0 else 0.05)) for target in targets)
    return [kill for kill in found if kill is not None]


def differences(ours: Path, theirs: Path) -> list[str]:
    """What distinguishes two finished runs, clocks aside."""
    names = sorted({file.relative_to(run).as_posix() for run in (ours, theirs) for file in run.glob("stages/*/model.safetensors")})
    found = [name for name in names if not same(ours / name, theirs / name)]

    def plain(run: Path) -> list[dict]:
        return [{key: value for key, value in row.items() if key not in CLOCKS} for row in rows(run)]

    return found + (["metrics.jsonl"] if plain(ours) != plain(theirs) else []) + ([] if names else ["no stage has ended"])


def same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.read_bytes() == b.read_bytes()


def compare(folder: Path, flags: list[str], kills: int, seed: int) -> tuple[list[Kill], list[str]]:
    """Train undisturbed and killed in `folder`; returns the kills and the differences (none, if all is well)."""
    whole, killed = folder / "undisturbed", folder / "killed"
    for run in (whole, killed):
        done = kill_many(run, flags, kills, len(rows(whole)), seed) if run == killed else []
        if command(run, flags).wait():
            return done, [f"{run} does not train: run the same command by hand to see why"]
    return done, differences(killed, whole)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--out", help="folder to keep both runs in (default: a temporary one)")
    arguments, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.out or temporary)
        kills, found = compare(folder, FLAGS.split() + flags, arguments.kills, arguments.seed)
    print(f"{'kill':>4}  {'last row of stage':<18}{'step':>5}  {'alive':>7}")
    for number, kill in enumerate(kills, 1):
        print(f"{number:>4}  {kill.stage:<18}{kill.step:>5}  {kill.seconds:>5.1f} s")
    verdict = f"different: {', '.join(found)}" if found else "all stages and metrics are identical to an undisturbed run's"
    print(f"{len(kills)} kills; {verdict}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
