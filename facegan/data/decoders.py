"""Processes that decode images ahead of a trainer, and what happens when one of them is killed."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from facegan.data.decoder import ANSWER, PIXELS, REQUEST, Piece
from facegan.errors import FaceganError
from facegan.files import quoted

log = logging.getLogger("facegan.data")

TOGETHER = 16  # images in one request at most
DEATHS = 5  # of processes at one image, until it is to blame
STILLBORN = 20  # processes that end before they are ready, until that is told
PATIENCE = 300.0  # seconds for one request, until a process counts as stuck
Answer = tuple[int, str] | None  # of one image: decoded, or the kind of answer and the reason
# This very package first, what the user's program has besides last, so that a module of theirs hides none of Python's.
_COMMAND = """import sys
sys.path[:] = [sys.argv[1], *filter(None, sys.path), *sys.argv[2:]]
from facegan.data.decoder import main
main()"""
_ROOT = str(Path(__file__).parents[2])
_PIPE = 1 << 20  # bytes


def usual_processes() -> int:
    """Half of the cores that this process may use, shared with the run's other processes on this machine; 1 to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")  # set by torchrun and accelerate
    return min(8, max(1, cores // 2 // (int(beside) if beside.isdecimal() and int(beside) else 1)))


class _Ended(Exception):
    """A process ended while it was asked, or before it was `ready`; `.answers` had come by then."""

    def __init__(self, answers: list[Answer], ready: bool) -> None:
        self.answers, self.ready = answers, ready


class _Process:
    """One process, asked by one thread at a time; started when it is first asked."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.ready = False

    def _started(self) -> subprocess.Popen[bytes]:
        if self.child is None:
            self.ready = False
            alone = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            # Not `multiprocessing`: it would import the user's main module again, and its children outlive a killed parent.
            try:
                self.child = subprocess.Popen(
                    [sys.executable, "-c", _COMMAND, _ROOT, *sys.path], env={**os.environ, **alone}, pipesize=_PIPE,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise FaceganError(f"a process to decode images cannot be started ({error}): `decoders` asks for fewer of them") from None
        return self.child

    def ask(self, pieces: Sequence[Piece | bytes], out: np.ndarray) -> list[Answer]:
        """Decode into `out` uint8 [n, 3, R, R]; per image None, or the kind of answer and the reason. Raises _Ended."""
        child, answers = self._started(), list[Answer]()
        assert child.stdin is not None and child.stdout is not None
        stuck = threading.Timer(PATIENCE, child.kill)
        stuck.start()
        try:
            if not self.ready:
                self._read(bytearray(ANSWER.size))
                self.ready = True
            request = pickle.dumps((out.shape[-1], list(pieces)), protocol=pickle.HIGHEST_PROTOCOL)
            child.stdin.write(REQUEST.pack(len(request)) + request)
            child.stdin.flush()
            for place in range(len(pieces)):
                kind, length = ANSWER.unpack(self._read(bytearray(ANSWER.size)))
                if kind == PIXELS and length == out[place].nbytes:
                    self._read(out[place].reshape(-1).data)
                    answers.append(None)
                else:
                    answers.append((kind, bytes(self._read(bytearray(length))).decode(errors="replace")))
            return answers
        except (OSError, EOFError):
            raise _Ended(answers, self.ready) from None
        finally:
            stuck.cancel()

    def _read(self, buffer: bytearray | memoryview) -> bytearray | memoryview:
        assert self.child is not None and self.child.stdout is not None
        left = memoryview(buffer)
        while left:
            count = self.child.stdout.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            left = left[count:]
        return buffer

    def end(self) -> str:
        """Stop it, if it is running; how it ended."""
        child, self.child = self.child, None
        if child is None:
            return "never started"
        child.kill()
        code = child.wait()
        for pipe in (child.stdin, child.stdout):
            try:
                pipe.close()  # type: ignore[union-attr]
            except OSError:  # what was still to be sent
                pass
        return f"by signal {-code}" if code < 0 else f"with exit status {code}"


class Decoders:
    """So many processes; requests are answered in the order in which they come, results are the caller's arrays."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self.members = [_Process() for _ in range(processes)]
        for member in self.members:
            self._idle.put(member)
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="facegan-decoders")
        self._closed = threading.Event()
        self.close = weakref.finalize(self, _close, self._threads, self._closed, self.members)

    def submit(self, pieces: Sequence[Piece | bytes], names: Sequence[str], out: np.ndarray) -> list[Future[list[Answer]]]:
        """Begin to decode pieces, called `names`, into the rows of `out`, uint8 [n, 3, R, R]; one future a request, in order."""
        share = min(TOGETHER, max(4, -(-len(pieces) // self.processes)))
        parts = [slice(at, at + share) for at in range(0, len(pieces), share)]
        return [self._threads.submit(_decode, self._idle, self._closed, pieces[part], names[part], out[part]) for part in parts]


def _close(threads: ThreadPoolExecutor, closed: threading.Event, members: Sequence[_Process]) -> None:
    closed.set()
    threads.shutdown(wait=False, cancel_futures=True)
    for member in members:
        member.end()


def _decode(
    idle: queue.SimpleQueue[_Process], closed: threading.Event, pieces: Sequence[Piece | bytes], names: Sequence[str], out: np.ndarray
) -> list[Answer]:
    """One request, by whichever process is free; where it is killed another takes over from the image where it stood."""
    answers: list[Answer] = []
    member, deaths, stillborn = idle.get(), 0, 0
    try:
        while len(answers) < len(pieces) and not closed.is_set():
            at = len(answers)
            try:
                answers += member.ask(pieces[at:], out[at:])
            except _Ended as ended:
                if closed.is_set():
                    break
                answers += ended.answers
                deaths = int(ended.ready) + (0 if ended.answers else deaths)
                stillborn += not ended.ready
                how, name = member.end(), quoted(names[len(answers)])
                if deaths == DEATHS:
                    raise FaceganError(
                        f"{DEATHS} decoding processes ended at {name}, the last one {how}: move that file away, or give more memory; the "
                        "same command then goes on from the last snapshot"
                    ) from None
                if stillborn == STILLBORN:
                    raise FaceganError(
                        f"{STILLBORN} decoding processes ended before they had begun, the last one {how}: is there enough memory? The same "
                        "command goes on from the last snapshot"
                    ) from None
                log.warning("a decoding process ended %s at %s: another one takes its place, and no image is lost", how, name)
        return answers
    finally:
        idle.put(member)
