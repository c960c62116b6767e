"""Batches of real images, gathered from a decoded array so that training never waits for a decoder."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from facegan.training.randomness import Randomness, generator, permuted


class DataClock:
    """Seconds spent fetching data, so that a run can print what share of its time that is."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


def to_float(images: np.ndarray | Tensor, device: torch.device | str | None = None) -> Tensor:
    """uint8 [N, 3, H, W] -> float32 in [-1, 1], channels_last; on `device`, or where the images are."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    tensor = tensor.to(device).to(memory_format=torch.channels_last)
    return tensor.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8, rounded to nearest and clipped."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)


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
