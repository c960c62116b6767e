"""What a power cut may leave, by hand: files cut short, pages of zeros, files and folders that are gone; every run must end as an
undisturbed one, or say in a sentence what is lost or to be done.

    python tests/campaigns/power_cuts.py --count 100 --seconds 1800 --seed 0

A training of Method A, B or restore is cut off at a random step; one or two of what it had just written (checkpoints, records, metrics,
events, pictures, lists, the cache of images, alignment's notes) are damaged, and the same command follows.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from arguments import parser_of
from forked import Command, Fate, differences, live, operations, quiet_machine, trainings

PAGE = 4096


def cut_short(path: Path, dice: random.Random) -> None:
    os.truncate(path, dice.randrange(path.stat().st_size + 1))


def pages_of_zeros(path: Path, dice: random.Random) -> None:
    size = path.stat().st_size
    with open(path, "r+b") as file:
        for start in dice.sample(range(0, max(size, 1), PAGE), k=min(2, -(-max(size, 1) // PAGE))):
            file.seek(start)
            file.write(bytes(min(PAGE, size - start)))


def gone(path: Path, dice: random.Random) -> None:
    path.unlink()


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (cut_short, pages_of_zeros, gone)
# Of a run: what is written last. config.json and finished stages are not, and nothing could replace them.
WRITTEN_LAST = ("checkpoints/*/*", "metrics.jsonl", "tensorboard/*tfevents*", "samples/*.png", "ids/*.txt")


def newest(out: Path) -> list[Path]:
    """The files of the newest checkpoint, and the others that a run was writing."""
    checkpoints = sorted(path for path in (out / "checkpoints").glob("*") if not path.name.startswith("."))
    found = [path for pattern in WRITTEN_LAST[1:] for path in out.glob(pattern)]
    return [*found, *(path for folder in checkpoints[-1:] for path in folder.iterdir())]


def verdict(command: Command, out: Path, whole: dict, said: str, code: int) -> str:
    """How it went on: as undisturbed, with a sentence that says what is lost, with advice, or wrong in silence."""
    if code:
        return (
            "refused with advice"
            if "is whole (could not read" in said and "run the same command again" in said
            else f"error: {said[-900:]}"
        )
    found = [
        name for name in differences(command.result(out), whole) if not name.startswith("samples/")
    ]  # pictures of steps before the cut
    if not found:
        return "as undisturbed"
    if {*found} <= {"rows", "events"} and "are lost; no network is affected" in said:
        return "rows said to be lost"
    if all(name.startswith("ids/") for name in found) and "is not the list of images that was written" in said:
        return "a list said to be damaged"
    return f"different in silence: {', '.join(found[:5])}"


def one(command: Command, folder: Path, whole: dict, steps: int, dice: random.Random) -> str:
    """One run that is cut off, damaged, and goes on."""
    out, log = folder / "cut", folder / "log"
    shutil.rmtree(out, ignore_errors=True)
    live(command.run, out, log, Fate(step=dice.randint(2, steps)))
    places = newest(out)
    for path in dice.sample(places, k=min(len(places), dice.choice((1, 1, 2)))):
        dice.choice(DAMAGES)(path, dice)
    life = live(command.run, out, log)
    return verdict(command, out, whole, life.said, life.code)


def used_again(command: Command, folder: Path, whole: dict, dice: random.Random) -> str:
    """The cache of decoded images, or a folder of aligned faces, damaged and used again."""
    out, log = folder / "cut", folder / "log"
    if not out.exists():
        live(command.run, out, log)
    path = dice.choice([path for path in out.rglob("*") if path.is_file()])
    # A face that is gone was deleted by a person, as far as alignment knows, and its pixels are not compared; it is cut short.
    (cut_short if path.suffix == ".png" else dice.choice(DAMAGES))(path, dice)
    life = live(command.run, out, log)
    return verdict(command, out, whole, life.said, life.code)


def main(count: int, seconds: float, seed: int) -> int:
    """Damage `count` times, or for so many seconds; 1 where anything was wrong in silence or ended with a traceback."""
    dice, until = random.Random(seed), time.monotonic() + seconds
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as temporary, quiet_machine(Path(temporary)):
        inputs = Path(temporary) / "inputs"
        inputs.mkdir()
        wholes = []
        for command in (*trainings(inputs), *(each for each in operations(inputs) if each.name in ("cache", "align"))):
            folder = Path(temporary) / f"of-{command.name}"
            folder.mkdir()
            life = live(command.run, folder / "whole", folder / "log")
            if life.code:
                print(f"{command.name} does not end undisturbed: {life.said[-2000:]}")
                return 1
            wholes.append((command, folder, command.result(folder / "whole")))
        while sum(found.values()) < count and time.monotonic() < until:
            for command, folder, whole in wholes:
                steps = len(whole.get("rows", ()))
                result = one(command, folder, whole, steps, dice) if steps else used_again(command, folder, whole, dice)
                found[command.name, result] += 1
    for (name, result), times in sorted(found.items()):
        print(f"{name:<8} {times:>5} {result}")
    wrong = sum(times for (_, result), times in found.items() if result.startswith(("different", "error")))
    print(f"{sum(found.values())} damages, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = parser_of(__doc__, count=100, seconds=1800)
    sys.exit(main(**vars(parser.parse_args())))
