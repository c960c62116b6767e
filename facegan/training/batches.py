"""Batches of real images, gathered from a decoded array so that training never waits for a decoder."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from facegan.training.randomness import Randomness, generator, permuted, sent


class DataClock:
    """Seconds spent fetching data, so that a run can print what share of its time that is."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


def to_float(images: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [N, 3, H, W] -> float32 in [-1, 1], channels_last."""
    tensor = sent(images, device) if isinstance(images, np.ndarray) else images.to(device)
    tensor = tensor.to(memory_format=torch.channels_last)
    return tensor.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8, rounded to nearest and clipped."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)


class RealBatches:
    """An endless, seeded, flipped walk over a subset of the images; its position is a function of the step alone."""

    def __init__(
        self, images: np.ndarray, index: np.ndarray, stream: str, randomness: Randomness, clock: DataClock
    ) -> None:
        if len(index) == 0:
            raise ValueError(f"no images for {stream}")
        self.images, self.index, self.stream = images, np.asarray(index), stream
        self.randomness, self.clock = randomness, clock

    def __call__(self, step: int, count: int) -> Tensor:
        """This process's share of `count` images of a step: float32 [count / world, 3, R, R] in [-1, 1]."""
        with self.clock:
            flips = generator(self.randomness.seed, f"{self.stream}/flip", step).random(count) < 0.5
            flips = self.randomness.shard.of(flips)
            batch = np.ascontiguousarray(self.images[self.rows(step, count)])
            batch[flips] = batch[flips, :, :, ::-1]
            return to_float(batch, self.randomness.device)

    def rows(self, step: int, count: int) -> np.ndarray:
        """Which images those are."""
        walk = permuted(self.randomness.seed, self.stream, step * count, count, len(self.index))
        return self.randomness.shard.of(self.index[walk])
