"""How many threads PyTorch computes with on a CPU: as many as there are processors that nobody else uses.

OpenMP's threads wait for one another by spinning, at the end of every parallel piece of work. Where another program has one of the
processors, all wait for the thread that shares it, and two threads are slower than one: Method A at 32 px on two processors makes 21
steps a second by two threads and 15 by one, beside a busy program 5 and 15. No setting of the spinning is right for both.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from facegan.errors import FaceganError

AUTO = "auto"
VARIABLE = "FACEGAN_THREADS"
HELP = "of a CPU: a number, or auto, as many as there are processors that no other program uses; a resumed run keeps its number"
SHORTEST = 0.3  # seconds over which the use of the processors is looked at
MOST = 1024

log = logging.getLogger("facegan.threads")


@dataclass(frozen=True)
class Usage:
    """Seconds that the processors of this process were in use until now, by all programs and by this one."""

    at: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> Usage:
        """psutil's figures; what runs with a low priority gives way, and does not count."""
        import psutil

        allowed = processors()
        times = [each for index, each in enumerate(psutil.cpu_times(percpu=True)) if index in allowed]
        busy = sum(getattr(each, name, 0.0) for each in times for name in ("user", "system", "irq", "softirq", "steal"))
        mine = os.times()
        return cls(time.monotonic(), busy, mine.user + mine.system + mine.children_user + mine.children_system)


@dataclass(frozen=True)
class Choice:
    """How many threads, and why."""

    count: int
    reason: str


_since: Usage | None = None  # when a command began, or threads were last chosen
_settled = 0  # how many PyTorch would take, once `settle` has set another number


def begin() -> None:
    """Look at the processors from now on: of a command that is about to compute."""
    global _since
    _since = Usage.now()


def processors() -> set[int]:
    """Those that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def check_threads(asked: str) -> int | None:
    """The number, None for `auto`. Raises FaceganError for anything else."""
    if asked == AUTO:
        return None
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 4 and 1 <= int(asked) <= MOST):
        raise FaceganError(f"`threads` is {asked[:40]!r}: expected auto, or a number from 1 to {MOST}")
    return int(asked)


def choose(asked: str = AUTO, kept: int | None = None, decoders: int = 0) -> Choice:
    """How many threads this process is to compute with; nothing is changed.

    What is asked for goes first, then OMP_NUM_THREADS, FACEGAN_THREADS, `kept`, the number that a run has had so far, and
    what is free, but for processors of so many `decoders` that this process will start.
    """
    import torch

    given = check_threads(asked)
    if given is not None:
        return Choice(given, f"as `threads` says{_other_bits(given, kept)}")
    if os.environ.get("OMP_NUM_THREADS"):
        count = torch.get_num_threads()
        return Choice(count, f"as OMP_NUM_THREADS says{_other_bits(count, kept)}")
    variable = os.environ.get(VARIABLE) or AUTO
    try:
        given = check_threads(variable)
    except FaceganError:
        raise FaceganError(f"{VARIABLE} is {variable[:40]!r}: expected auto, or a number from 1 to {MOST}") from None
    if given is not None:
        return Choice(given, f"as {VARIABLE} says{_other_bits(given, kept)}")
    if kept is not None:
        return Choice(kept, "as before, so that the run stays the same bit for bit")
    together = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if together > 1:
        each = len(processors()) // together
        return Choice(max(1, each - decoders), f"{len(processors())} processors for {together} processes{_beside(decoders)}")
    return free(_settled or torch.get_num_threads(), decoders)


def _beside(decoders: int) -> str:
    return f", {decoders} for decoding" if decoders else ""


def _other_bits(count: int, kept: int | None) -> str:
    """Of a resumed run that goes on with another number."""
    return "" if kept in (None, count) else f", not {kept} as before: the last bits may differ from those of an undisturbed run"


def free(most: int, decoders: int = 0) -> Choice:
    """Up to `most` threads, one less for each processor that others use, or that decoders will."""
    global _since
    before = _since or Usage.now()
    time.sleep(max(0.0, SHORTEST - (time.monotonic() - before.at)))
    now = _since = Usage.now()
    seconds = max(now.at - before.at, 1e-3)
    busy = max(0.0, (now.busy - before.busy) - (now.own - before.own)) / seconds
    count = len(processors())
    left = int(count - busy - decoders + 0.5)
    return Choice(max(1, min(most, left)), f"others use {min(busy, count):.1f} of {count} processors{_beside(decoders)}")


def settle() -> None:
    """Before a command computes on a CPU: set the number of threads, where `begin` was called and nothing was set yet."""
    global _settled
    import torch

    if _since is None or _settled:
        return
    _settled = torch.get_num_threads()
    chosen = choose()
    if chosen.count != torch.get_num_threads():
        log.info("%d thread%s: %s", chosen.count, "s" * (chosen.count > 1), chosen.reason)
        torch.set_num_threads(chosen.count)
