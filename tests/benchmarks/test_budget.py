"""What fits into the time that is left."""

from __future__ import annotations

from benchmarks.budget import SAFETY, Budget


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_nothing_starts_that_is_not_expected_to_end() -> None:
    budget = Budget(10.0, Clock())
    assert budget.allows("any", 10 / SAFETY) and not budget.allows("any", 10.1 / SAFETY)


def test_it_learns_from_the_last_of_a_kind_and_else_from_all() -> None:
    clock = Clock()
    budget = Budget(100.0, clock)
    with budget.spending("slow", 2.0):
        clock.seconds += 6.0
    with budget.spending("quick", 2.0):
        clock.seconds += 1.0
    assert budget.left == 93.0
    assert budget.expected("slow", 4.0) == SAFETY * 12.0
    assert budget.expected("quick", 4.0) == SAFETY * 2.0
    assert budget.expected("new", 4.0) == SAFETY * 4.0 * 7 / 4
    budget.spent("slow", 2.0, 2.0)  # the next ones find what the first compiled
    assert budget.expected("slow", 4.0) == SAFETY * 4.0


def test_what_fails_teaches_nothing() -> None:
    budget = Budget(10.0, Clock())
    try:
        with budget.spending("any", 1.0):
            raise ValueError
    except ValueError:
        pass
    assert budget.expected("any", 2.0) == SAFETY * 2.0
