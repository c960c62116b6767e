"""A machine that does something else as well: Method A at 32 px beside none, one and three programs that keep a processor busy.

    python tests/campaigns/busy.py --count 3 --seconds 600 --seed 0

A round trains with one thread, with a thread for each processor, and with `--threads auto`, one right after the other, and prints steps a
second. `auto` must reach nine tenths of the better of the two numbers, by the median of the rounds. Then a training with two threads is
killed and resumed by `--threads auto` beside three busy programs: it must go on with its two threads and end with the same bits. The
machine must do nothing else meanwhile: another program's share changes what is measured, and the campaign says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from arguments import parser_of

from facegan.threads import processors

ROOT = Path(__file__).resolve().parents[2]
COMMON = "--method a --data synthetic --num 2000 --recipe plain --width 0.5 --phase1-epochs 1 --epochs 0 --phase2-epochs 0 --device cpu"
MEASURED = f"{COMMON} --resolution 32 --batch 16 --images-per-epoch 1600 --log-every 1"
RESUMED = f"{COMMON} --resolution 16 --batch 8 --images-per-epoch 96 --log-every 1 --snapshot-every 3 --minimum-images 4"
LOADS = (0, 1, 3)  # programs beside it
FIRST, LONGEST = 5, 15.0  # rows before a clock is looked at; seconds of a measurement
REACHED = 0.9
CLOCKS = {"seconds", "images_per_second", "data_wait"}
LIMIT = 240.0  # seconds, after which a training hangs


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many that never wait."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def others() -> float:
    """Processors that are in use although this campaign does nothing, over half a second."""
    import psutil

    return psutil.cpu_percent(0.5) / 100 * (os.cpu_count() or 1)


def rows(run: Path) -> list[dict]:
    """Complete ones."""
    try:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def training(words: str, threads: str, run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`facegan train`, without the variables that settle its number of threads; killed at the end where it still runs."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "FACEGAN_THREADS")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    environment["FACEGAN_CACHE"] = str(run.parent / "cache")
    command = [sys.executable, "-m", "facegan.cli", "train", *words.split(), "--threads", threads, "--out", str(run)]
    with open(run.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(process: subprocess.Popen[bytes], run: Path, wanted: int, seconds: float) -> bool:
    """Wait until it has so many rows, has ended well, or the time is over; whether one of the first two."""
    end = time.monotonic() + seconds
    while len(rows(run)) < wanted and process.poll() is None:
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(run.with_suffix(".log").read_text()[-2000:])
    return True


def speed(run: Path, threads: str) -> tuple[float, int]:
    """(steps a second, the number of threads) of a training that is cut off after some seconds."""
    with training(MEASURED, threads, run) as process:
        if not until(process, run, FIRST + 1, LIMIT):
            raise RuntimeError(f"--threads {threads}: no {FIRST + 1} steps in {LIMIT:.0f} s: {run.with_suffix('.log').read_text()[-1500:]}")
        until(process, run, 10**9, LONGEST)
    found = rows(run)
    clock = found[-1]["seconds"] - found[FIRST - 1]["seconds"]
    return (len(found) - FIRST) / clock, json.loads((run / "config.json").read_text())["threads"]


def result(run: Path) -> tuple:
    """What a resumed run must have in common with an undisturbed one."""
    weights = {file.relative_to(run).as_posix(): file.read_bytes() for file in sorted(run.glob("stages/*/model.safetensors"))}
    return weights, [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows(run)]


def resumed(root: Path, dice: random.Random) -> list[str]:
    """What was wrong with a run that is resumed beside three busy programs."""
    whole, cut, wrong = root / "whole", root / "cut", list[str]()
    with training(RESUMED, "2", whole) as process:
        if not until(process, whole, 10**9, LIMIT):
            return [f"an undisturbed run took longer than {LIMIT:.0f} s"]
    with training(RESUMED, "2", cut) as process:
        until(process, cut, dice.randint(4, 9), LIMIT)
    before = len(rows(cut))
    with busy(3), training(RESUMED, "auto", cut) as process:
        if not until(process, cut, 10**9, LIMIT):
            wrong.append(f"resumed beside three programs it took longer than {LIMIT:.0f} s")
    if before >= len(rows(whole)):
        wrong.append("it had ended before it could be resumed: nothing was tried")
    if not wrong and result(cut) != result(whole):
        wrong.append("resumed beside three programs it has other weights or rows")
    if (found := json.loads((cut / "config.json").read_text())["threads"]) != 2:
        wrong.append(f"resumed beside three programs it has {found} threads, not 2 as before")
    return wrong


def verdict(rates: dict[str, Sequence[float]], most: str) -> tuple[float, str]:
    """`auto` by the better of one thread and `most`, medians, and the line that says so."""
    medians = {threads: statistics.median(found) for threads, found in rates.items()}
    ratio = medians["auto"] / max(medians["1"], medians[most])
    told = ", ".join(f"{threads} {rate:.2f}" for threads, rate in medians.items())
    return ratio, f"steps a second by --threads: {told}; auto is {ratio:.2f}x the better"


def main(count: int, seconds: float, seed: int) -> int:
    """`count` rounds, or as many as fit into so many seconds; 1 where `auto` was slow or a resumed run differed."""
    dice, end, most = random.Random(seed), time.monotonic() + seconds, str(len(processors()))
    rates: dict[int, dict[str, list[float]]] = {load: defaultdict(list) for load in LOADS}
    chosen, wrong, rounds, beside = defaultdict[int, list[int]](list), list[str](), 0, [others()]
    with tempfile.TemporaryDirectory() as name:
        wrong += resumed(Path(name), dice)
        print(f"resumed beside three programs: {'; '.join(wrong) or 'its threads and bits as before'}", flush=True)
        while rounds < count and (not rounds or time.monotonic() < end):
            for load in LOADS:
                for threads in dice.sample(["auto", "1", *{most} - {"1"}], k=2 + (most != "1")):
                    beside.append(others())
                    with busy(load):
                        rate, used = speed(Path(name) / f"run{rounds}-{load}-{threads}", threads)
                    rates[load][threads].append(rate)
                    if threads == "auto":
                        chosen[load].append(used)
            rounds += 1
    for load in LOADS:
        ratio, line = verdict(rates[load], most)
        print(f"{load} programs beside it: {line} ({', '.join(map(str, chosen[load]))} threads)")
        if ratio < REACHED:
            wrong.append(f"beside {load} programs auto reaches {ratio:.2f} of the better number of threads")
    print(f"others used {statistics.fmean(beside):.1f} of {most} processors between the measurements (at most {max(beside):.1f})")
    print(f"busy machine, {rounds} rounds: {'; '.join(wrong) or f'auto at least {REACHED}x the better, a resumed run as before'}")
    return int(bool(wrong))


if __name__ == "__main__":
    parser = parser_of(__doc__, count=3, seconds=600)
    sys.exit(main(**vars(parser.parse_args())))
