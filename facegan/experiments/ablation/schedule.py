"""Tasks as child processes, at most so many at a time; any moment is a good one to stop."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from tqdm.auto import tqdm

from facegan.errors import Interrupted
from facegan.experiments.ablation import costs
from facegan.experiments.ablation.tasks import TRAIN, Task
from facegan.training.interruption import Interruption

POLL = 0.5  # seconds
PATIENCE = 120  # seconds that a child has to save its state after a signal
LAST_LINES = 2


def reap(process: subprocess.Popen) -> tuple[int | None, float]:
    """The exit status, None while it runs, and with it the CPU seconds of the process and its own children."""
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        return None, 0.0
    process.returncode = os.waitstatus_to_exitcode(status)  # nobody else can ask for it again
    return process.returncode, usage.ru_utime + usage.ru_stime


class Child:
    """A task's commands, one after the other."""

    def __init__(self, task: Task, environment: dict[str, str], keep_open: Sequence[int]) -> None:
        self.task, self.environment, self.keep_open = task, environment, keep_open
        task.folder.parent.mkdir(parents=True, exist_ok=True)
        self.waiting = list(task.commands)
        self.log: IO[str] = open(task.log, "a")
        if task.folder.exists() and not task.costs.exists():
            costs.begin(task.costs, label(self.waiting[0]))  # begun where costs were not kept: they cannot be known
        self.process = self._next()

    def _next(self) -> subprocess.Popen:
        self.command = label(self.waiting[0])
        module, *words = self.waiting.pop(0)
        self.before, self.began = costs.begin(self.task.costs, self.command), time.monotonic()
        self.status: int | None = None
        self.log.write(f"$ python -m {module} {shlex.join(words)}\n")
        self.log.flush()
        # A session of its own: the terminal's Ctrl-C is for the parent, which passes it on once.
        return subprocess.Popen(
            [sys.executable, "-m", module, *words], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=self.environment, start_new_session=True, pass_fds=self.keep_open,
        )  # fmt: skip

    def poll(self) -> int | None:
        """The running command's exit status, None while it runs; at its end its costs are written down."""
        if self.status is None:
            self.status, cpu_seconds = reap(self.process)
            if self.status is not None:
                costs.end(self.task.costs, self.command, self.before, time.monotonic() - self.began, cpu_seconds)
        return self.status

    def ended(self) -> bool:
        """Whether nothing of it runs any more; starts its next command."""
        status = self.poll()
        if status is None:
            return False
        if status == 0 and self.waiting:
            self.process = self._next()
            return False
        self.log.close()
        return True

    def failure(self) -> str:
        """Why an ended child has no result; empty where it has one."""
        if self.status == 0 and self.task.done:
            return ""
        return f"exit status {self.status}: {last_lines(self.task.log)}"

    def kill(self) -> None:
        """With all that it started; nothing happens where it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


def last_lines(log: Path) -> str:
    """The end of a log, without progress bars, which overwrite themselves, and marks under lines of code."""
    text = log.read_text(errors="replace")[-20_000:]
    lines = [line.rsplit("\r", 1)[-1].strip() for line in text.split("\n")]
    said = [line for line in lines if line.strip("^~ ") and "%|" not in line]
    return " | ".join(said[-LAST_LINES:])


class Pool:
    """Runs tasks in order, each after the one that it needs; `changed` is called whenever one has ended.

    `failures`: {task: reason}, also of what cannot start as something else failed; those given at the start are not tried.
    `keep_open`: file descriptors that every child inherits.
    """

    def __init__(self, tasks: Sequence[Task], jobs: int, changed: Callable[[], None], keep_open: Sequence[int] = (),
                 failures: dict[Task, str] | None = None) -> None:  # fmt: skip
        self.failures = failures if failures is not None else {}
        self.waiting = [task for task in tasks if not task.done and task not in self.failures]
        self.jobs, self.changed, self.keep_open = jobs, changed, keep_open
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads() // jobs))}
        self.running: list[Child] = []
        self.total = len(tasks)

    def run(self) -> None:
        """Until nothing is left to do. Raises Interrupted on a signal, once the children have saved their state."""
        ended = self.total - len(self.waiting)
        bar = tqdm(total=self.total, initial=ended, desc="ablation", unit="task", smoothing=0)
        with Interruption() as interruption, bar:
            try:
                while (self.waiting or self.running) and not interruption.signum:
                    self._start()
                    time.sleep(POLL)
                    self._collect(bar)
            finally:
                self._stop()
        if interruption.signum:
            raise Interrupted(interruption.signum, "the ablation", bar.n)

    def _start(self) -> None:
        for task in list(self.waiting):
            need = task.needs
            ready = need is None or need.usable
            if need in self.failures and not ready:
                self.failures[task] = f"needs {need.name if need else ''}, which failed"
                self.waiting.remove(task)
            elif len(self.running) < self.jobs and ready:
                self.waiting.remove(task)
                tqdm.write(task.typed()[0] if task.typed() else task.name)
                self.running.append(Child(task, self.environment, self.keep_open))

    def _collect(self, bar: tqdm) -> None:
        for child in list(self.running):
            if not child.ended():
                continue
            self.running.remove(child)
            reason = child.failure()
            if reason:
                self.failures[child.task] = reason
                bar.write(f"{child.task.name} failed, {reason}")
            bar.update()
            self.changed()
        bar.set_postfix_str(", ".join(f"{child.task.row} seed {child.task.seed}" for child in self.running), refresh=False)
        bar.refresh()

    def _stop(self) -> None:
        for child in self.running:
            child.process.terminate()
        try:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until and any(child.poll() is None for child in self.running):
                time.sleep(min(POLL, 0.05))
        finally:
            for child in self.running:  # a second Ctrl-C gets here at once
                child.kill()


def label(command: Sequence[str]) -> str:
    """`train` of ("facegan.cli", "train", ...), `curve` of ("facegan.experiments.ablation.curve", ...)."""
    return command[1] if command[0] == TRAIN else command[0].rpartition(".")[2]


def threads() -> int:
    """What all children may use together."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal():
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
