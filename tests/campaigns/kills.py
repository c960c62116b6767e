"""SIGKILLs at random moments over Methods A, B, restoration and file operations; every end must equal an undisturbed one, bit by bit.

    python tests/campaigns/kills.py --count 1000 --seconds 3600 --seed 0

A life is killed before a random change of the file system, before a random step, or after a random time; the same command follows until
one life ends well. Compared are weights, lists, pictures, rows of metrics, checkpoints, what TensorBoard shows, and that nothing is left.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from arguments import parser_of
from forked import Command, Fate, Life, differences, live, operations, quiet_machine, trainings


class Course:
    """A command, undisturbed once and then killed again and again."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command, self.folder, self.log = command, folder, folder / "log"
        folder.mkdir()
        life = live(command.run, folder / "whole", self.log, counted=folder / "changes")
        if life.code:
            raise RuntimeError(f"{command.name} does not end undisturbed: {life.said[-2000:]}")
        self.whole, self.seconds = command.result(folder / "whole"), life.seconds
        self.changes = int((folder / "changes").read_text())
        self.steps = len(self.whole.get("rows", ()))
        self.kills: Counter[str] = Counter()
        self.ends, self.wrong = 0, list[str]()

    def fate(self, dice: random.Random) -> tuple[str, Fate]:
        kind = dice.choice(["change", "change", "time", *["step"] * bool(self.steps)])
        if kind == "change":
            return kind, Fate(change=dice.randint(1, self.changes))
        if kind == "step":
            return kind, Fate(step=dice.randint(1, self.steps))
        return kind, Fate(seconds=dice.uniform(0.001, self.seconds))

    def until_it_ends(self, dice: random.Random, most: int, until: float) -> None:
        """Kill lives of one folder, `most` of them at most, until one ends well, and compare."""
        out = self.folder / "killed"
        killed = 0
        while True:
            over = killed >= most or time.monotonic() > until
            kind, fate = ("", Fate()) if over else self.fate(dice)
            life: Life = live(self.command.run, out, self.log, fate)
            if life.code == 0:
                break
            if life.code > 0:
                self.wrong.append(f"a life ended with an error: {life.said[-1500:]}")
                break
            self.kills[kind] += 1
            killed += 1
        self.ends += 1
        if life.code == 0:
            found = differences(self.command.result(out), self.whole)
            self.wrong += [f"different after {killed} kills: {', '.join(found[:5])}"] * bool(found)
        if not self.wrong:
            shutil.rmtree(out, ignore_errors=True)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} at a {kind}" for kind, count in sorted(self.kills.items()))
        verdict = "; ".join(self.wrong) if self.wrong else "all as undisturbed"
        return f"{self.command.name:<8} {sum(self.kills.values()):>5} kills ({kinds}), {self.ends} ends: {verdict}"


def main(count: int, seconds: float, seed: int, only: str = "") -> int:
    """Kill `count` times, or for so many seconds; 1 where an end differed."""
    dice, until = random.Random(seed), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as temporary, quiet_machine(Path(temporary)):
        inputs = Path(temporary) / "inputs"
        inputs.mkdir()
        commands = [command for command in (*trainings(inputs), *operations(inputs)) if not only or command.name in only.split(",")]
        courses = [Course(command, Path(temporary) / f"of-{command.name}") for command in commands]
        total = 0
        while total < count and time.monotonic() < until and not any(course.wrong for course in courses):
            for course in courses:
                course.until_it_ends(dice, count - total, until)
                total = sum(sum(course.kills.values()) for course in courses)
                print(f"{total} kills: {course}", file=sys.stderr, flush=True)
    print(*courses, sep="\n")
    wrong = sum(len(course.wrong) for course in courses)
    print(f"{total} kills, {sum(course.ends for course in courses)} ends, {wrong} different")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = parser_of(__doc__, count=1000, seconds=3600)
    parser.add_argument("--only", default="", help="names of commands, joined by commas")
    sys.exit(main(**vars(parser.parse_args())))
