"""Randomness keyed by (seed, stream, step, global sample index).

A run draws nothing from a global generator: what step 731 needs is a function of the seed and of 731. So a resumed run,
and a run on any number of processes, sees exactly the numbers of an undisturbed one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, stream: str, step: int = 0) -> np.random.Generator:
    """The counter-based generator (Philox, Salmon et al. 2011) of one stream at one step."""
    key = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=np.array([seed, key], dtype=np.uint64), counter=[0, 0, 0, step]))


def sent(values: np.ndarray, device: torch.device | str) -> Tensor:
    """An array as a tensor on the device; a GPU is not waited for, which pageable memory would force."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else tensor.to(device)


@dataclass(frozen=True)
class Shard:
    """This process's contiguous slice of every global batch."""

    rank: int = 0
    world: int = 1

    def of(self, batch: np.ndarray) -> np.ndarray:
        """Rows of a global batch [B, ...] that belong to this process; B must divide by the number of processes."""
        if len(batch) % self.world:
            raise ValueError(f"a batch of {len(batch)} does not divide over {self.world} processes")
        share = len(batch) // self.world
        return batch[self.rank * share : (self.rank + 1) * share]


@dataclass(frozen=True)
class Randomness:
    """The streams of one run as seen by one process."""

    seed: int
    shard: Shard
    device: torch.device

    def normal(self, stream: str, step: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal values; `shape[0]` is the *global* batch, the result holds this process's rows."""
        values = generator(self.seed, stream, step).standard_normal(shape, dtype=np.float32)
        return sent(self.shard.of(values), self.device)

    def uniform(self, stream: str, step: int, shape: tuple[int, ...]) -> Tensor:
        """Values in [0, 1); sharded as `normal`."""
        values = generator(self.seed, stream, step).random(shape, dtype=np.float32)
        return sent(self.shard.of(values), self.device)

    def noise(self, stream: str, step: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal values made on the device, row by row from a seed of its own; `shape[0]` as in `normal`.

        For many numbers an image: a GPU need not wait for the processor to draw and send them. Values differ between devices.
        """
        seeds = self.shard.of(generator(self.seed, stream, step).integers(1 << 63, size=shape[0]))
        rows = torch.empty(len(seeds), *shape[1:], device=self.device)
        source = torch.Generator(self.device)
        for row, seed in zip(rows, seeds.tolist(), strict=True):
            row.normal_(generator=source.manual_seed(seed))
        return rows


def permuted(seed: int, stream: str, start: int, count: int, size: int) -> np.ndarray:
    """Positions start .. start + count of an endless walk over `size` items, each pass in a new order."""
    positions = np.arange(start, start + count)
    walk = np.empty(count, dtype=np.int64)
    for visit in np.unique(positions // size):
        chosen = positions // size == visit
        walk[chosen] = generator(seed, f"{stream}/permutation", int(visit)).permutation(size)[positions[chosen] % size]
    return walk
