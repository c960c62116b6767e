"""Two machines in network namespaces, one of which dies, hangs or is cut off at a random moment, again and again, until the run has ended.

    python tests/campaigns/machines.py --count 20 --seconds 3600 --seed 1

Methods A and B in turn. After each blow every process that can must end within 30 seconds with one sentence and no traceback; the machine
is then there again and the same command goes on. Each run must end with the weights and rows of an undisturbed one. Needs root.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from arguments import parser_of
from machines import ENDS_WITHIN, ROOT, Training, two_machines, unavailable

COMMON = """--data synthetic --num 200 --resolution 16 --width 0.25 --batch 16 --minimum-images 4 --images-per-epoch 16 --device cpu
--snapshot-every 3 --log-every 1 --phase2-epochs 12"""
METHODS = {
    "a": "--method a --recipe thesis --phase1-epochs 30 --epochs 30 --harvest-every 4",
    "b": "--method b --kimg 0.48 --r1-every 2 --pl-every 2 --ema-kimg 0.05",
}
BLOWS = ("death", "death", "stop", "cut")
CLOCKS = {"seconds", "images_per_second", "data_wait"}


def flags(method: str, out: Path) -> list[str]:
    return [*COMMON.split(), *METHODS[method].split(), "--out", str(out)]


def rows(run: Path) -> list[dict]:
    """Complete rows; the last may be half written."""
    try:
        lines = (run / "metrics.jsonl").read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [{key: value for key, value in json.loads(line).items() if key not in CLOCKS} for line in lines]


def undisturbed(method: str, root: Path) -> Path:
    """The run of two processes on one machine."""
    out, started = root / f"alone-{method}", []
    for rank in range(2):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29990", "GLOO_SOCKET_IFNAME": "lo", "FACEGAN_CACHE": str(root / "cache"),
        }  # fmt: skip
        words = [sys.executable, str(ROOT / "train.py"), *flags(method, out)]
        started.append(subprocess.Popen(words, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL))
    assert [each.wait(timeout=600) for each in started] == [0, 0]
    return out


def differences(run: Path, whole: Path) -> list[str]:
    files = sorted(file.relative_to(whole) for file in [*whole.glob("stages/*/model.safetensors"), *whole.glob("ids/*.txt")])
    found = [str(file) for file in files if not (run / file).exists() or (run / file).read_bytes() != (whole / file).read_bytes()]
    return found + ["metrics.jsonl"] * (rows(run) != rows(whole))


class Campaign:
    """Counts what happened."""

    def __init__(self, seed: int) -> None:
        self.random, self.port = random.Random(seed), 30000
        self.blows = self.hangs = self.runs = 0
        self.faults: list[str] = []
        self.longest = 0.0

    def life(self, method: str, root: Path, target: int) -> bool:
        """One start of the run, ended by a blow once it has `target` rows more; True where it ended before."""
        self.port += 1
        with two_machines(root) as machines:
            training = Training(machines, [flags(method, each.folder / method) for each in machines], self.port)
            run = machines[0].folder / method
            before, until = len(rows(run)), time.monotonic() + 300
            while len(rows(run)) < before + target and any(each.poll() is None for each in training.processes):
                if time.monotonic() > until:
                    self.hangs += 1
                    self.faults.append(f"no progress: {training.said()}")
                    return False
                time.sleep(0.02)
            time.sleep(self.random.random())
            if training.processes[0].poll() == 0 or training.processes[1].poll() == 0:
                self.check(training.wait(ENDS_WITHIN) == [0, 0], training, "statuses")
                return True
            self.strike(training, machines)
        return False

    def strike(self, training: Training, machines: tuple) -> None:
        blow, victim = self.random.choice(BLOWS), self.random.randrange(2)
        survivors = [0, 1] if blow == "cut" else [1 - victim]
        if blow == "cut":
            machines[victim].unplug()
        else:
            machines[victim].signal(signal.SIGKILL if blow == "death" else signal.SIGSTOP)
        self.blows, start = self.blows + 1, time.monotonic()
        try:
            statuses = training.wait(ENDS_WITHIN, survivors)
        except AssertionError as error:
            self.hangs += 1
            self.faults.append(f"{blow} of {victim}: {error}")
            return
        took = time.monotonic() - start
        self.longest = max(self.longest, took)
        for rank, status in zip(survivors, statuses, strict=True):
            said = training.said(rank)
            sentences = [line for line in said.splitlines() if line.startswith("facegan: ")]
            fine = status == 2 and "Traceback" not in said and len(sentences) == 1
            self.check(fine or status == 0, training, f"{blow} of {victim}: process {rank} ended with {status}")
            print(f"{self.blows:3} {blow:5} of machine {victim}: {took:4.1f} s, {(sentences or ['finished'])[-1][:110]}", flush=True)

    def check(self, fine: bool, training: Training, what: str) -> None:
        if not fine:
            self.faults.append(f"{what}: {training.said()[-2000:]}")


def main(count: int, seconds: float, seed: int) -> int:
    """`count` blows at the most, in `seconds` at the most; 0 where nothing hung and nothing differed."""
    if unavailable():
        print(f"skipped: {unavailable()}")
        return 0
    campaign, end = Campaign(seed), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        whole = {method: undisturbed(method, root) for method in METHODS}
        while campaign.blows < count and time.monotonic() < end:
            method = list(METHODS)[campaign.runs % len(METHODS)]
            total = len(rows(whole[method]))
            lives = root / f"lives{campaign.runs}"
            while not campaign.hangs:
                last = campaign.blows >= count or time.monotonic() > end
                if campaign.life(method, lives, target=10 * total if last else campaign.random.randrange(total)):
                    break
            campaign.runs += 1
            for machine in range(2):
                found = differences(lives / f"machine{machine}" / method, whole[method])
                campaign.faults += [f"run {campaign.runs} of {method}, machine {machine}: {', '.join(found)} differ"] * bool(found)
            shutil.rmtree(lives)
            if campaign.hangs:
                break
    print(
        f"{campaign.blows} blows in {campaign.runs} runs: {campaign.hangs} hangs, the slowest end after {campaign.longest:.1f} s, "
        f"{len(campaign.faults)} faults"
    )
    for fault in campaign.faults:
        print(fault)
    return int(bool(campaign.hangs or campaign.faults))


if __name__ == "__main__":
    parser = parser_of(__doc__, count=20, seconds=3600, seed=1)
    given = parser.parse_args()
    sys.exit(main(given.count, given.seconds, given.seed))
