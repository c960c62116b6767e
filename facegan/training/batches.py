"""Batches of real images: gathered from a decoded array, or decoded by other processes while the steps before are computed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from facegan.data.streaming import Request, StreamedImages
from facegan.randomness import Randomness, generator, permuted

AHEAD = 4  # steps of which streamed images are decoded before they are wanted
_AHEAD_BYTES = 256 << 20  # that they take at most, if that is more than one step


class DataClock:
    """Seconds spent fetching data, so that a run can print what share of its time that is."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


class Fetcher:
    """The images of the rows that a step wants, uint8 [n, 3, R, R]; of streamed images those of the steps that should follow are started.

    What was started is a guess and no state: whatever step is asked for gets its own rows.
    """

    def __init__(self, images: np.ndarray | StreamedImages, rows: Callable[[int, int], np.ndarray], among: np.ndarray) -> None:
        """`rows` of (step, count); `among`: all that it may give."""
        self.images, self.rows, self.among = images, rows, among
        self._started: dict[int, dict[int, Request]] = {}  # count -> step -> its images
        self._last: dict[int, int] = {}  # count -> the step asked for before

    def __call__(self, step: int, count: int) -> np.ndarray:
        if not isinstance(self.images, StreamedImages):
            return np.ascontiguousarray(self.images[self.rows(step, count)])
        before = self._started.pop(count, {})
        wanted = before.pop(step) if step in before else self.images.start(self.rows(step, count))
        stride = step - self._last.get(count, step - 1)
        self._last[count] = step
        ahead = max(1, min(AHEAD, _AHEAD_BYTES // max(1, wanted.out.nbytes)))
        later = [step + number * (stride if 0 < stride < 64 else 1) for number in range(1, ahead + 1)]
        self._started[count] = {each: before.pop(each) if each in before else self.images.start(self.rows(each, count)) for each in later}
        for unwanted in before.values():
            unwanted.forget()
        return self.images.finish(wanted, self.among)


class RealBatches:
    """An endless, seeded, flipped walk over a subset of the images; its position is a function of the step alone."""

    def __init__(
        self, images: np.ndarray | StreamedImages, index: np.ndarray, stream: str, randomness: Randomness, clock: DataClock
    ) -> None:
        if len(index) == 0:
            raise ValueError(f"no images for {stream}")
        self.index, self.stream = np.asarray(index), stream
        self.randomness, self.clock = randomness, clock
        self.fetch = Fetcher(images, self.rows, self.index)

    def __call__(self, step: int, count: int) -> np.ndarray:
        """This process's share of `count` images of a step: uint8 [count / world, 3, R, R], for `to_float`."""
        with self.clock:
            return flipped(self.fetch(step, count), self.flips(step, count))

    def rows(self, step: int, count: int) -> np.ndarray:
        """Which images those are."""
        walk = permuted(self.randomness.seed, self.stream, step * count, count, len(self.index))
        return self.randomness.shard.of(self.index[walk])

    def flips(self, step: int, count: int) -> np.ndarray:
        """Which of them are mirrored."""
        return self.randomness.shard.of(generator(self.randomness.seed, f"{self.stream}/flip", step).random(count) < 0.5)


def flipped(batch: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """The batch, whose images are mirrored in place where `flips` says."""
    batch[flips] = batch[flips, :, :, ::-1]
    return batch
