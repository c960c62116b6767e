"""What the processes of a run know of each other, beside the collectives that they compute with: through their group's store.

Each tells twice a second that it lives, from a thread, so that reading data, compiling and saving count as life. One that fails says so,
and all the others end with its sentence. One that is silent for `peer_timeout` seconds (stopped, killed, cut off) is given up: whoever
waits for it in a collective, which nothing else would interrupt, ends with a sentence that names it.
"""

from __future__ import annotations

import itertools
import logging
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import torch

from facegan.errors import FaceganError, Interrupted

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger("facegan.train")
BEAT = 0.5  # seconds between two signs of life
GRACE = 3.0  # seconds for a process to end by itself once it knows that another has failed
AGAIN = "what was saved is whole: when the cause is mended, run the same command again on every machine to resume"
_BROKEN = re.compile(r"gloo|connection (closed|reset|refused)|broken pipe|socket|nccl", re.IGNORECASE)
_runs = itertools.count()  # of this process; the processes of a group start the same ones, in the same order


class Peers:
    """The other processes of a run; with one process there are none, and nothing here does anything."""

    def __init__(self, rank: int = 0, world: int = 1, local_main: bool = True, timeout: float = 20.0) -> None:
        self.rank, self.world, self.local_main, self.timeout = rank, world, local_main, timeout
        self.failure = ""  # the sentence of another process that has failed
        self._others = [each for each in range(world) if each != rank]
        self._names = {each: f"process {each}" for each in range(world)}
        self._silent = dict.fromkeys(self._others, 0.0)  # seconds since a sign of life
        self._deaf = 0.0  # seconds since the store has answered
        self._left: set[int] = set()  # those that have ended well
        self._failed = False  # this process, for a reason of its own
        self._stop, self._leaving = threading.Event(), threading.Event()
        self._rounds = itertools.count()

    @property
    def called(self) -> str:
        """This process, in the words of the others."""
        return f"process {self.rank} on {platform.node()} (id {os.getpid()})"

    # --- life
    def start(self) -> None:
        """Let the others hear of this process, and listen to them."""
        if self.world == 1:
            return
        from torch.distributed.distributed_c10d import _get_default_store

        prefix, whole = f"facegan/{next(_runs)}", cast(Any, _get_default_store())
        self._serving = whole  # Accelerate gives the group up when training ends, and a store is served by process 0's object
        # One a thread: a store answers one question at a time.
        self._store, self._beats = (torch.distributed.PrefixStore(prefix, whole.clone()) for _ in range(2))
        for store in (self._store, self._beats):
            store.set_timeout(timedelta(seconds=self.timeout))
        self._store.set(f"name/{self.rank}", self.called)
        for work in (self._beat, self._judge):
            threading.Thread(target=work, name=f"facegan{work.__name__}", daemon=True).start()

    def _beat(self) -> None:
        """Tells and asks; may hang where the store's machine does, which `_judge` sees."""
        before: dict[int, bytes] = {}
        keys = {each: f"beat/{each}" for each in self._others}
        for count in itertools.count():
            with suppress(Exception):  # of a store that is gone: `_judge` counts the time
                self._beats.set(f"beat/{self.rank}", str(count))
                present = {each: key for each, key in keys.items() if each in before or self._beats.check([key])}
                values = self._beats.multi_get(list(present.values())) if present else []
                for each, value in zip(present, values, strict=True):
                    if before.get(each) != value:
                        before[each], self._silent[each] = value, 0.0
                self._deaf = 0.0
                self._listen()
            if self._stop.wait(BEAT):
                return

    def _listen(self) -> None:
        """Who has failed, who has left, and what they are called."""
        for each in self._others:
            if self._names[each] == f"process {each}" and self._beats.check([f"name/{each}"]):
                self._names[each] = self._beats.get(f"name/{each}").decode()
        if self._beats.add("left", 0) > len(self._left):
            self._left |= {each for each in self._others if self._beats.check([f"left/{each}"])}
        if self._beats.add("failures", 0) and not self.failure and not self._failed:
            for each in self._others:
                if self._beats.check([f"failed/{each}"]):
                    self.failure = f"{self._names[each]} has ended: {self._beats.get(f'failed/{each}').decode()}"
                    self._beats.add("heard", 1)
                    return

    def _judge(self) -> None:
        """Ends this process where another has failed or is silent, and the main thread does not do so by itself."""
        last, known = time.monotonic(), 0.0
        while not self._stop.wait(BEAT):
            now = time.monotonic()
            passed, last = min(now - last, 2 * BEAT), now  # no longer: this process may have been stopped itself
            self._deaf += passed
            for each in self._others:
                self._silent[each] += passed
            known += passed if self.failure else 0.0
            lost = self._lost(self.timeout)
            if (lost or known > GRACE) and not self._leaving.is_set():
                self._end(self.failure or f"{lost} has given no sign of life for {self.timeout:g} seconds (`peer_timeout`); {AGAIN}")

    def _lost(self, seconds: float) -> str:
        """Who has been silent for so long, in words."""
        if self._deaf >= seconds:
            return "the machine of process 0" if self.rank else "the store of the process group"
        silent = [self._names[each] for each in self._others if self._silent[each] >= seconds and each not in self._left]
        return " and ".join(silent)

    def _end(self, sentence: str) -> None:
        """This process, whatever its main thread waits for."""
        self._leaving.set()
        sys.stdout.flush()
        if logging.getLogger().handlers or log.handlers:
            log.error("facegan: %s", sentence)
        else:  # a program of its own, which does not listen to the library
            print(f"facegan: {sentence}", file=sys.stderr, flush=True)
        logging.shutdown()
        os._exit(2)

    # --- leaving
    def ended_by(self, error: BaseException) -> FaceganError | None:
        """What this process is to end with instead of `error`, where another one is the cause; tells the others what ended this one."""
        if self.world == 1 or isinstance(error, Interrupted):
            return None
        cause: FaceganError | None = None
        self._leaving.set()  # no second sentence from `_judge`
        if not isinstance(error, FaceganError) and broken_connection(error):
            cause = FaceganError(self._cause())
        if not self.failure and cause is None:
            self._failed = True
            sentence = (str(error) if isinstance(error, FaceganError) else f"{type(error).__name__}: {error}").splitlines()[0]
            telling = threading.Thread(target=self._tell, args=(sentence,), daemon=True)  # a store out of reach may never answer
            telling.start()
            telling.join(2 * GRACE)
        return cause

    def _cause(self) -> str:
        """Why a connection broke: the failure of another, or its silence, which takes a few seconds to notice."""
        for _ in range(round(2 * GRACE / BEAT)):
            if self.failure:
                return self.failure
            lost = self._lost(GRACE)
            if lost:
                return f"{lost} has ended, or cannot be reached; {AGAIN}"
            time.sleep(BEAT)
        return f"the connection to another process has broken; {AGAIN}"

    def _tell(self, sentence: str) -> None:
        """The others; waits until they have heard, as the store may be this process's own."""
        with suppress(Exception):  # they will notice the silence
            self._store.set(f"failed/{self.rank}", sentence)
            self._store.add("failures", 1)
            until = time.monotonic() + GRACE + 4 * BEAT
            while self._store.add("heard", 0) + self._store.add("failures", 0) < self.world and time.monotonic() < until:
                time.sleep(BEAT / 5)

    def done(self) -> None:
        """This process has finished; returns when all have, so that the store outlives the last question."""
        if self.world == 1:
            return
        with suppress(RuntimeError):  # the store has left first
            self._store.set(f"left/{self.rank}", "1")
            self._store.add("left", 1)
            while not self._store.check([f"left/{each}" for each in self._others]) and not self.failure:
                time.sleep(BEAT / 10)
            self._leaving.set()
            self._store.add("gone", 1)
            until = time.monotonic() + GRACE
            while not self.rank and self._store.add("gone", 0) < self.world and time.monotonic() < until:
                time.sleep(BEAT / 10)

    def stop(self) -> None:
        """No more signs of life."""
        self._leaving.set()
        self._stop.set()

    # --- agreement; every process calls these, in the same order
    def gather(self, value: str) -> list[str]:
        """Everyone's `value`, by rank; takes as long as the slowest."""
        if self.world == 1:
            return [value]
        number = next(self._rounds)
        keys = [f"round/{number}/{each}" for each in range(self.world)]
        self._store.set(keys[self.rank], value)
        self._wait(keys)
        return [each.decode() for each in self._store.multi_get(keys)]

    def wait(self) -> None:
        """Until everyone is here, however long that takes."""
        self.gather("")

    def agree(self, value: str, what: str) -> None:
        """Raises FaceganError, everywhere, unless all processes have the same `value`: "`what` than process 0's"."""
        values = self.gather(value)
        others = [self._name(each) for each, theirs in enumerate(values) if theirs != values[0]]
        if others:
            raise FaceganError(f"{' and '.join(others)} {what}")

    def _name(self, rank: int) -> str:
        return self._store.get(f"name/{rank}").decode()

    @contextmanager
    def local_main_first(self) -> Iterator[None]:
        """One process of every machine goes ahead, the others follow."""
        if not self.local_main:
            self.wait()
        yield
        if self.local_main:
            self.wait()

    def _wait(self, keys: list[str]) -> None:
        """Until the store has all of them. In Python, so that signals are heard and no time-out of a collective applies."""
        pause = 0.005
        while True:
            try:
                if self._store.check(keys):
                    return
            except RuntimeError as error:
                raise FaceganError(self._cause()) from error
            if self.failure:
                raise FaceganError(self.failure)
            time.sleep(pause)
            pause = min(1.5 * pause, BEAT / 2)


def broken_connection(error: BaseException) -> bool:
    """Whether an error of PyTorch says that another process cannot be reached."""
    known = isinstance(error, torch.distributed.DistError) if torch.distributed.is_available() else False
    return known or (isinstance(error, RuntimeError) and bool(_BROKEN.search(str(error))))


@contextmanager
def together(accelerator: Accelerator, timeout: float) -> Iterator[Peers]:
    """The processes of a run, which end together: well, or each with a sentence."""
    peers = Peers(accelerator.process_index, accelerator.num_processes, accelerator.is_local_main_process, timeout)
    peers.start()
    try:
        yield peers
    except BaseException as error:
        cause = peers.ended_by(error)
        if cause is not None:
            raise cause from error
        raise
    else:
        peers.done()
    finally:
        peers.stop()
