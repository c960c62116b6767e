"""What fits into the time that is left, by what the like of it has cost so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAFETY = 1.25  # of an expectation that has been corrected by what was measured


class Budget:
    """Lets nothing start that is not expected to end before the deadline.

    An expectation is a guess made in advance, times what guesses were off by: the last one of the same kind where there is one, else
    all of them together.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.now, self.deadline = now, now() + seconds
        self.off: dict[str, float] = {}  # kind -> cost over guess, the last time
        self.guessed = self.cost = 0.0

    @property
    def left(self) -> float:
        """Seconds; below 0 when the deadline has passed."""
        return self.deadline - self.now()

    def expected(self, kind: str, guess: float) -> float:
        """Seconds that something of this kind will take."""
        overall = self.cost / self.guessed if self.guessed else 1.0
        return SAFETY * guess * self.off.get(kind, overall)

    def allows(self, kind: str, guess: float) -> bool:
        return self.expected(kind, guess) <= self.left

    @contextmanager
    def spending(self, kind: str, guess: float) -> Iterator[None]:
        """Learns from what the block costs."""
        start = self.now()
        yield
        self.spent(kind, guess, self.now() - start)

    def spent(self, kind: str, guess: float, cost: float) -> None:
        self.guessed, self.cost = self.guessed + guess, self.cost + cost
        self.off[kind] = cost / guess
