"""Batches of real images, gathered from a decoded array so that training never waits for a decoder."""

from __future__ import annotations

import time

import numpy as np

from facegan.randomness import Randomness, generator, permuted


class DataClock:
    """Seconds spent fetching data, so that a run can print what share of its time that is."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


class RealBatches:
    """An endless, seeded, flipped walk over a subset of the images; its position is a function of the step alone."""

    def __init__(self, images: np.ndarray, index: np.ndarray, stream: str, randomness: Randomness, clock: DataClock) -> None:
        if len(index) == 0:
            raise ValueError(f"no images for {stream}")
        self.images, self.index, self.stream = images, np.asarray(index), stream
        self.randomness, self.clock = randomness, clock

    def __call__(self, step: int, count: int) -> np.ndarray:
        """This process's share of `count` images of a step: uint8 [count / world, 3, R, R], for `to_float`."""
        with self.clock:
            return flipped(self.images, self.rows(step, count), self.flips(step, count))

    def rows(self, step: int, count: int) -> np.ndarray:
        """Which images those are."""
        walk = permuted(self.randomness.seed, self.stream, step * count, count, len(self.index))
        return self.randomness.shard.of(self.index[walk])

    def flips(self, step: int, count: int) -> np.ndarray:
        """Which of them are mirrored."""
        return self.randomness.shard.of(generator(self.randomness.seed, f"{self.stream}/flip", step).random(count) < 0.5)


def flipped(images: np.ndarray, rows: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Copies of some rows of the images, mirrored where `flips` says."""
    batch = np.ascontiguousarray(images[rows])
    batch[flips] = batch[flips, :, :, ::-1]
    return batch
