"""Work of many visitors on one device: turns in the order in which they came, progress, and work that can be stopped.

What the library tells progress by are tqdm's bars. Whoever works here listens to those of his own thread: each movement of a bar is where
the work may be stopped, and where those who wait for the device get their turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from tqdm.std import tqdm

T = TypeVar("T")
EVERY = 0.25  # seconds between two looks at what goes on
MOST_NOTES = 20


class Stopped(Exception):
    """The work was called off."""


class Turns:
    """A lock that is fair, so that many short pieces of work get in between the steps of a long one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = self._now = 0  # the next number to be drawn, the number whose turn it is

    def __enter__(self) -> Turns:
        with self._changed:
            mine, self._next = self._next, self._next + 1
            self._changed.wait_for(lambda: self._now == mine)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._now += 1
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return max(0, self._next - self._now - 1)

    def pass_on(self) -> None:
        """Let those who wait go first; by the holder alone."""
        if self.waiting:
            self.__exit__()
            self.__enter__()


class Job:
    """What a piece of work tells of itself while it goes on, and whether it is to stop."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.notes: list[str] = []  # sentences of the library's log
        self.bar: tuple[str, int, int] = ("", 0, 0)  # what is counted, how far, of how many; 0: nobody knows
        self.picture: Any = None  # the newest one, of work that shows what it does
        self.began = time.monotonic()
        self._stop = threading.Event()

    def stop(self) -> None:
        """Call the work off; it ends at its next step."""
        self._stop.set()

    def checked(self) -> None:
        """Raises Stopped if the work is called off."""
        if self._stop.is_set():
            raise Stopped

    def moved(self, words: str, done: int, total: int) -> None:
        """A step was made."""
        self.bar = (words, done, total)
        self.checked()
        self.turns.pass_on()

    def note(self, text: str) -> None:
        """A sentence of the log, each once."""
        if text not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(text)

    def describe(self) -> str:
        """`faces: 3 of 16`"""
        words, done, total = self.bar
        if not words and not total:
            return "working ..."
        return f"{words or 'step'}: {done}" + (f" of {total}" if total else "")

    @contextmanager
    def at_work(self) -> Iterator[Job]:
        """Has the device, in this thread; its bars and log lines are this job's."""
        with self.turns, listening(self):
            self.checked()
            yield self


class Worker(Generic[T]):
    """A job in a thread of its own, so that the page can be told how it goes: iterate until it is done, then ask for `result`."""

    def __init__(self, job: Job, work: Callable[[], T]) -> None:
        self.job = job
        self._result: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def _run(self, work: Callable[[], T]) -> None:
        try:
            with self.job.at_work():
                self._result = work()
        except BaseException as error:
            self._error = error.with_traceback(None) if isinstance(error, (Stopped, MemoryError)) else error

    def __iter__(self) -> Iterator[Job]:
        """A look at the job every now and then. Whoever stops looking stops the work, and does not wait for it: he may be the server."""
        self._thread.start()
        try:
            while self._thread.is_alive():
                self._thread.join(EVERY)
                yield self.job
        finally:
            self.job.stop()

    @property
    def result(self) -> T:
        """What the work gave; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


# --- bars and log lines of a thread

_here = threading.local()


@contextmanager
def listening(job: Job) -> Iterator[None]:
    """The bars and the log of this thread are the job's."""
    before = getattr(_here, "job", None)
    _here.job = job
    try:
        yield
    finally:
        _here.job = before


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        job = getattr(_here, "job", None)
        if job is not None and (record.levelno >= logging.WARNING or record.name == "facegan.align"):  # the rest is for the terminal
            job.note(record.getMessage())


_plain = (tqdm.__init__, tqdm.__iter__, tqdm.update)
_notes = _Notes(logging.INFO)
_hooks, _level = 0, logging.NOTSET  # pages that are open; the log's level without them


def hook() -> None:
    """Have tqdm and the library's log tell the job of their thread, if there is one, until `unhook` has been called as often."""
    global _hooks, _level
    _hooks += 1
    if _hooks > 1:
        return
    plain_init, plain_iter, plain_update = _plain

    def init(self: Any, *args: Any, **values: Any) -> None:
        plain_init(self, *args, **values)  # a bar that is not drawn, as without a terminal, forgets its words and counts nothing
        self.told = [values.get("desc") or "", values.get("initial") or 0]

    def update(self: Any, n: float | None = 1) -> bool | None:
        told, job = getattr(self, "told", None), getattr(_here, "job", None)
        if told and job is not None:
            told[1] += n or 0
            job.moved(told[0], int(told[1]), int(self.total or 0))
        return plain_update(self, n)

    def each(self: Any) -> Iterator[Any]:
        job = getattr(_here, "job", None)
        for done, item in enumerate(plain_iter(self), 1):
            yield item
            if job is not None:
                job.moved(self.told[0], done, int(self.total or 0))

    tqdm.__init__, tqdm.__iter__, tqdm.update = init, each, update
    logger = logging.getLogger("facegan")
    _level = logger.level
    logger.addHandler(_notes)
    logger.setLevel(logging.INFO)


def unhook() -> None:
    """One page fewer; after the last one tqdm and the log are as they were."""
    global _hooks
    _hooks -= 1
    if _hooks == 0:
        tqdm.__init__, tqdm.__iter__, tqdm.update = _plain
        logger = logging.getLogger("facegan")
        logger.removeHandler(_notes)
        logger.setLevel(_level)
