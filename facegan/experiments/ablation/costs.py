"""What the commands of a task took: CPU seconds, which other work on the machine does not stretch, beside those of the clock.

    OUT/<row>/seed<k>.costs.json     {command: {"seconds": s, "cpu_seconds": c}, ...}, added up over interruptions

null stands for what is not known: a command that was begun and whose end nobody saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from facegan.checkpoints.run import write_json
from facegan.files import RECORD_LIMIT, read_json
from facegan.schema import checked

KEYS = ("seconds", "cpu_seconds")
Cost = dict[str, float]


class _Cost(TypedDict):
    seconds: float
    cpu_seconds: float


def read(path: Path) -> dict[str, Cost | None]:
    return checked(read_json(path, RECORD_LIMIT), dict[str, _Cost | None], path) if path.exists() else {}


def begin(path: Path, command: str) -> Cost | None:
    """Note that `command` runs, its cost unknown until `end`; returns what it has cost before."""
    record = read(path)
    before = record.get(command, dict.fromkeys(KEYS, 0.0))
    write_json(path, {**record, command: None})
    return before


def end(path: Path, command: str, before: Cost | None, seconds: float, cpu_seconds: float) -> None:
    """`before`: what `begin` returned."""
    now = dict(zip(KEYS, (seconds, cpu_seconds), strict=True))
    write_json(path, {**read(path), command: before and {key: before[key] + now[key] for key in KEYS}})


def known(path: Path, commands: Sequence[str]) -> list[str]:
    """Those of `commands` that there are costs of: a folder of an earlier version may lack some."""
    return [command for command in commands if command in read(path)]


def total(path: Path, commands: Sequence[str], key: str) -> float | None:
    """Sum over `commands`; None where one of them is not known."""
    record = read(path)
    known = [cost[key] for command in commands if (cost := record.get(command)) is not None]
    return sum(known) if len(known) == len(commands) else None
