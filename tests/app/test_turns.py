"""Turns in order, bars that tell, work that stops."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from tqdm.auto import tqdm

from facegan.app.turns import Job, Stopped, Turns, Worker, hook, listening, unhook


@pytest.fixture(autouse=True)
def hooked() -> Iterator[None]:
    before = tqdm.update
    hook()
    hook()  # a second page: what is done is done once
    yield
    unhook()
    unhook()
    assert tqdm.update is before


def wait_for(turns: Turns, count: int) -> None:
    while turns.waiting < count:
        time.sleep(0.001)


def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order, threads = Turns(), list[int](), []

    def ask(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        for number in range(5):
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
            wait_for(turns, number + 1)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    assert turns.waiting == 0


def test_long_work_lets_those_who_wait_go_first() -> None:
    turns, seen = Turns(), list[str]()

    def quick() -> None:
        with turns:
            seen.append("quick")

    with turns:
        turns.pass_on()  # nobody waits
        seen.append("step 1")
        thread = threading.Thread(target=quick)
        thread.start()
        wait_for(turns, 1)
        turns.pass_on()
        seen.append("step 2")
    thread.join()
    assert seen == ["step 1", "quick", "step 2"]


@pytest.mark.parametrize("disable", [True, None, False])
def test_bars_tell_the_job_of_their_thread_alone(disable: bool | None) -> None:
    job, told = Job(Turns()), []
    with job.at_work():
        for _ in tqdm(range(3), desc="faces", disable=disable):
            told.append(job.bar)
        with tqdm(total=10, initial=4, desc="steps", disable=disable) as bar:
            bar.update()
            assert job.bar == ("steps", 5, 10)
            bar.update(2)
            assert job.describe() == "steps: 7 of 10"
    assert told == [("", 0, 0), ("faces", 1, 3), ("faces", 2, 3)]
    for _ in tqdm(range(3), disable=disable):  # nobody listens
        pass
    assert job.bar == ("steps", 7, 10)


def test_work_stops_at_the_next_movement_of_a_bar() -> None:
    job, done = Job(Turns()), []

    def work() -> None:
        for number in tqdm(range(10), disable=True):
            done.append(number)
            if number == 3:
                job.stop()

    worker = Worker(job, work)
    for _ in worker:
        pass
    assert done == [0, 1, 2, 3]
    with pytest.raises(Stopped):
        _ = worker.result
    with job.turns:  # the device is free again
        pass


def test_a_job_that_was_called_off_before_its_turn_does_nothing() -> None:
    job = Job(Turns())
    job.stop()
    with pytest.raises(Stopped), job.at_work():
        raise AssertionError("it began")
    with job.turns:
        pass


def test_who_stops_looking_stops_the_work_without_waiting_for_it() -> None:
    job, begun, free, ended = Job(Turns()), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        free.wait()
        try:
            for _ in tqdm(range(5), disable=True):
                pass
        finally:
            ended.set()

    looking = iter(Worker(job, work))
    next(looking)
    begun.wait()
    looking.close()  # type: ignore[attr-defined]
    assert not ended.is_set()
    free.set()
    assert ended.wait(5)
    with job.turns:
        pass


def test_a_worker_gives_its_result_or_its_error() -> None:
    worker = Worker(Job(Turns()), lambda: 7)
    assert all(isinstance(each, Job) for each in worker)  # none at all where it was done at once
    assert worker.result == 7
    failing = Worker(Job(Turns()), lambda: 1 // 0)
    for _ in failing:
        pass
    with pytest.raises(ZeroDivisionError):
        _ = failing.result


def test_warnings_of_the_library_are_notes_of_the_job_whose_thread_they_are_of() -> None:
    job = Job(Turns())
    with listening(job):
        for _ in range(3):
            logging.getLogger("facegan.styles").warning("seed %d is odd", 5)
        logging.getLogger("facegan.styles").info("what the terminal reads")
        logging.getLogger("facegan.align").info("face cut out")
        thread = threading.Thread(target=lambda: logging.getLogger("facegan.styles").warning("of others"))
        thread.start()
        thread.join()
    logging.getLogger("facegan.styles").warning("later")
    assert job.notes == ["seed 5 is odd", "face cut out"]
