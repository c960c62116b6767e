"""The pool of child processes, with children that take no time: what runs when, and what an interruption leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facegan.errors import FaceganError, Interrupted
from facegan.experiments.ablation import costs, schedule
from facegan.experiments.ablation.schedule import Pool
from facegan.experiments.ablation.tasks import Task

# python -m obliging RESULT [fail | wait]: notes that it runs; writes RESULT unless it shall fail. On SIGTERM it "saves" and leaves.
CHILD = """
import os, signal, sys, time
from pathlib import Path
result, what = Path(sys.argv[1]), sys.argv[2:]
result.parent.mkdir(parents=True, exist_ok=True)
with open(result.with_name("runs"), "a") as log:
    log.write(f"start {os.environ['OMP_NUM_THREADS']}\\n")
def leave(*_):
    result.with_name("saved").write_text("")
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
if "stubborn" in what:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = os.fork()
    if worker:
        result.with_name("worker").write_text(str(worker))
while "busy" in what and time.process_time() < 0.3:
    pass
if "fail" in what:
    print("10%|#  | 1/10")
    sys.exit("facegan: nothing works")
result.with_name("busy").write_text("")
while "wait" in what and not result.with_name("go").exists():
    time.sleep(0.01)
time.sleep(0.1)
result.with_name("busy").unlink()
result.write_text("done")
"""


@pytest.fixture(autouse=True)
def obliging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/obliging.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setattr(schedule, "POLL", 0.02)


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Task]:
    def task(row: str, *what: str, needs: Task | None = None, times: int = 1, trained: str = "") -> Task:
        folder = tmp_path / row / "seed0"
        command = ("obliging", str(folder / "result"), *what)
        return Task(row, 0, folder, folder / "result", (command,) * times, needs, folder / trained if trained else None)

    return task


def started(task: Task) -> int:
    runs = task.folder / "runs"
    return len(runs.read_text().splitlines()) if runs.exists() else 0


def test_a_failing_task_does_not_stop_the_others_and_says_why(task: Callable[..., Task]) -> None:
    bad, good = task("bad", "fail"), task("good", times=2)
    after_bad, after_good = task("after-bad", needs=bad), task("after-good", needs=good)
    changes: list[str] = []
    pool = Pool([bad, after_bad, good, after_good], 1, lambda: changes.append("x"))
    pool.run()
    assert [good.done, after_good.done, bad.done, after_bad.done] == [True, True, False, False]
    assert started(good) == 2 and started(after_bad) == 0 and len(changes) == 3
    assert pool.failures.keys() == {bad, after_bad}
    assert pool.failures[bad] == "exit status 1: $ python -m obliging " + str(bad.result) + " fail | facegan: nothing works"
    assert pool.failures[after_bad] == f"needs {bad.name}, which failed"


def test_a_task_waits_for_the_training_that_it_needs_and_not_for_more(task: Callable[..., Task]) -> None:
    start = task("start", "fail", trained="runs")  # fails after its training
    after = task("after", needs=start)
    pool = Pool([start, after], 1, lambda: None)
    pool.run()
    assert after.done and pool.failures.keys() == {start}


def test_costs_are_those_of_the_processor_and_add_up_over_interruptions(task: Callable[..., Task], tmp_path: Path) -> None:
    lazy, busy = task("lazy"), task("busy", "busy", "fail")  # one sleeps, one works
    for _ in range(2):
        Pool([lazy, busy], 2, lambda: None).run()
    (slept, worked) = (costs.read(each.costs)["obliging"] for each in (lazy, busy))
    assert slept is not None and slept["cpu_seconds"] < slept["seconds"]
    assert worked is not None and 2 * 0.3 < worked["cpu_seconds"] < worked["seconds"]
    before = costs.begin(busy.costs, "obliging")
    assert costs.total(busy.costs, ["obliging"], "seconds") is None  # it runs, or was killed
    costs.end(busy.costs, "obliging", before, 1.0, 0.5)
    assert costs.total(busy.costs, ["obliging"], "seconds") == pytest.approx(worked["seconds"] + 1)
    begun = task("begun")
    begun.folder.mkdir(parents=True)  # by a version that kept no costs
    Pool([begun], 1, lambda: None).run()
    assert begun.done and costs.read(begun.costs) == {"obliging": None}


def test_nothing_that_a_child_started_outlives_it(task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "PATIENCE", 0.1)
    stubborn = task("stubborn", "stubborn", "wait")

    def interrupt() -> None:
        while not (stubborn.folder / "busy").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        Pool([stubborn], 1, lambda: None).run()
    thread.join()
    worker = int((stubborn.folder / "worker").read_text())
    until = time.monotonic() + 5
    while alive(worker) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(worker)


def alive(pid: int) -> bool:
    """An orphan that nobody has buried yet is dead."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_is_done_is_not_done_again_and_what_failed_is(task: Callable[..., Task]) -> None:
    bad, good = task("bad", "fail"), task("good")
    for _ in range(2):
        Pool([bad, good], 2, lambda: None).run()
    assert started(good) == 1 and started(bad) == 2


def test_so_many_at_a_time_share_the_threads(task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    tasks = [task(f"row{i}") for i in range(5)]
    most = 0
    pool = Pool(tasks, 2, lambda: None)
    start = pool._start

    def watched() -> None:
        nonlocal most
        start()
        most = max(most, len(pool.running))

    monkeypatch.setattr(pool, "_start", watched)
    pool.run()
    assert most == 2 and all(task.done for task in tasks)
    assert {(task.folder / "runs").read_text() for task in tasks} == {"start 3\n"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_children_save_and_the_next_start_goes_on(task: Callable[..., Task], signum: int) -> None:
    first, second, third = task("first"), task("second", "wait"), task("third")

    def interrupt() -> None:
        while not (second.folder / "busy").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted) as stopped:
        Pool([first, second, third], 1, lambda: None).run()
    thread.join()
    assert stopped.value.signum == signum and "run the same command again" in str(stopped.value)
    assert (second.folder / "saved").exists() and first.done and not second.done and started(third) == 0
    (second.folder / "go").write_text("")
    Pool([first, second, third], 1, lambda: None).run()
    assert [started(each) for each in (first, second, third)] == [1, 2, 1] and third.done


def test_two_ablations_in_one_folder_are_refused_also_while_a_child_outlives_its_parent(tmp_path: Path) -> None:
    from facegan.locks import held

    with held(tmp_path, inherited=True) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.descriptor])
        with pytest.raises(FaceganError, match=f"in use by process {os.getpid()} on"), held(tmp_path):
            pass
    with pytest.raises(FaceganError, match=f"in use by process {os.getpid()} on"), held(tmp_path):
        pass
    child.communicate(b"\n")
    with held(tmp_path):
        pass
