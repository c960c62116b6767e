"""Disks that fill at a random moment: every command says so in a sentence, and goes on to the same end when there is room again.

    python tests/campaigns/full_disks.py --count 100 --seconds 1800 --seed 0

As root on a tmpfs of a few hundred KiB, which is made larger bit by bit; else with a limit on the size of a file. What a life that found
no room leaves must be resumed by the same command, and its end must equal an undisturbed one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arguments import parser_of
from forked import Command, Fate, differences, live, operations, quiet_machine, trainings

SAID = ("make room", "No space left on device", "File too large")


class Disk:
    """A folder with so many bytes of room."""

    def __init__(self, place: Path) -> None:
        self.place, self.real = place, False
        place.mkdir()
        if os.geteuid() == 0:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], capture_output=True)
            self.real = mounted.returncode == 0

    def room(self, size: int) -> Fate:
        """Make it so large; where it is no disk of its own, the fate of a life whose files may not be larger."""
        if not self.real:
            return Fate(largest=size)
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.place)], check=True)
        return Fate()

    def close(self) -> None:
        """Unmount it."""
        if self.real:
            subprocess.run(["umount", str(self.place)], check=True)


def course(command: Command, folder: Path, disk: Disk, dice: random.Random, most: int, until: float) -> tuple[int, list[str]]:
    """(how often the disk was full, what was wrong) until the command has ended well."""
    log, out = folder / f"{command.name}.log", disk.place / command.name
    first = live(command.run, folder / f"of-{command.name}", log)
    if first.code:
        return 0, [f"does not end undisturbed: {first.said[-1500:]}"]
    whole = command.result(folder / f"of-{command.name}")
    size = sum(path.stat().st_size for path in (folder / f"of-{command.name}").rglob("*") if path.is_file())
    full, wrong, room = 0, list[str](), 64 << 10
    while True:
        enough = full >= most or time.monotonic() > until
        room = 64 * size + (64 << 20) if enough else min(int(room + dice.uniform(0.02, 0.25) * size) + 4096, 64 * size)
        life = live(command.run, out, log, disk.room(room))
        if life.code == 0:
            break
        last = life.said.strip().splitlines()[-1] if life.said.strip() else "nothing"
        if life.code < 0 or not any(words in life.said for words in SAID) or enough:
            return full, [f"ended with {life.code}, saying {last[:600]}"]
        full += 1
    found = differences(command.result(out), whole)
    wrong += [f"different after {full} full disks: {', '.join(found[:5])}"] * bool(found)
    return full, wrong


def main(count: int, seconds: float, seed: int) -> int:
    """Fill disks `count` times, or for so many seconds; 1 where an end differed or a message was missing."""
    dice, until, total, ends, failed = random.Random(seed), time.monotonic() + seconds, 0, 0, 0
    while total < count and time.monotonic() < until and not failed:
        with tempfile.TemporaryDirectory() as temporary, quiet_machine(Path(temporary)):
            inputs = Path(temporary) / "inputs"
            inputs.mkdir()
            for command in (*trainings(inputs), *operations(inputs)):
                disk = Disk(Path(temporary) / f"disk-{command.name}")
                try:
                    full, wrong = course(command, Path(temporary), disk, dice, count - total, until)
                finally:
                    disk.close()
                total, ends, failed = total + full, ends + 1, failed + len(wrong)
                where = "tmpfs" if disk.real else "limit of a file's size"
                print(f"{command.name:<8} {full:>4} times full ({where}): {'; '.join(wrong) or 'ends as undisturbed'}", flush=True)
    print(f"{total} full disks, {ends} ends, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = parser_of(__doc__, count=100, seconds=1800)
    sys.exit(main(**vars(parser.parse_args())))
