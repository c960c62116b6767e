"""Randomness keyed by (seed, stream, step, global sample index).

A run draws nothing from a global generator: what step 731 needs is a function of the seed and of 731. So a resumed run,
and a run on any number of processes, sees exactly the numbers of an undisturbed one.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOGETHER = 8  # rows of noise from one seed; a process's share of a batch is a multiple of it
LISTED = 1 << 16  # items of a walk up to which each pass's order is drawn as a whole
_ROUNDS = 8


def generator(seed: int, stream: str, step: int = 0) -> np.random.Generator:
    """The counter-based generator (Philox, Salmon et al. 2011) of one stream at one step."""
    key = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=np.array([seed, key], dtype=np.uint64), counter=[0, 0, 0, step]))


@dataclass(frozen=True)
class Shard:
    """This process's contiguous slice of every global batch."""

    rank: int = 0
    world: int = 1

    def of(self, batch: np.ndarray) -> np.ndarray:
        """Rows of a global batch [B, ...] that belong to this process; B must divide by the number of processes."""
        first, last = self.span(len(batch))
        return batch[first:last]

    def span(self, count: int) -> tuple[int, int]:
        """First row of a global batch of `count` that belongs to this process, and the one after its last."""
        if count % self.world:
            raise ValueError(f"a batch of {count} does not divide over {self.world} processes")
        share = count // self.world
        return self.rank * share, (self.rank + 1) * share


@dataclass(frozen=True)
class Randomness:
    """The streams of one run as seen by one process."""

    seed: int
    shard: Shard
    device: torch.device

    def normal(self, stream: str, step: int, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal float32 values; `shape[0]` is the *global* batch, the result holds this process's rows."""
        return self.shard.of(generator(self.seed, stream, step).standard_normal(shape, dtype=np.float32))

    def uniform(self, stream: str, step: int, shape: tuple[int, ...]) -> np.ndarray:
        """float32 values in [0, 1); sharded as `normal`."""
        return self.shard.of(generator(self.seed, stream, step).random(shape, dtype=np.float32))

    def noise(self, stream: str, step: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal values made on the device; `shape[0]` as in `normal`.

        For many numbers an image: a GPU need not wait for the processor to draw and send them. Values differ between devices.
        `TOGETHER` rows of the global batch come from one seed and one call, also where this process holds some of them only.
        """
        first, last = self.shard.span(shape[0])
        begin, end = first // TOGETHER, -(-last // TOGETHER)
        seeds = generator(self.seed, stream, step).integers(1 << 63, size=end)[begin:].tolist()
        rows = torch.empty(len(seeds) * TOGETHER, *shape[1:], device=self.device)
        source = torch.Generator(self.device)
        for part, seed in zip(rows.split(TOGETHER), seeds, strict=True):
            part.normal_(generator=source.manual_seed(seed))
        return rows[first - begin * TOGETHER : last - begin * TOGETHER]


def permuted(seed: int, stream: str, start: int, count: int, size: int) -> np.ndarray:
    """Positions start .. start + count of an endless walk over `size` items, each pass in a new order; int64 [count]."""
    positions = np.arange(start, start + count)
    walk = np.empty(count, dtype=np.int64)
    for visit in np.unique(positions // size):
        chosen = positions // size == visit
        if size > LISTED:
            walk[chosen] = scattered(positions[chosen] % size, size, _keys(seed, stream, int(visit)))
        else:
            walk[chosen] = _order(seed, stream, int(visit), size)[positions[chosen] % size]
    return walk


@functools.lru_cache(maxsize=32)  # the next steps want the same one: of 60,000 items it takes longer than all else that a step draws
def _order(seed: int, stream: str, visit: int, size: int) -> np.ndarray:
    order = generator(seed, f"{stream}/permutation", visit).permutation(size)
    order.flags.writeable = False
    return order


def _keys(seed: int, stream: str, visit: int) -> np.ndarray:
    return generator(seed, f"{stream}/permutation", visit).integers(1 << 64, size=_ROUNDS, dtype=np.uint64)


def scattered(positions: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Where a keyed bijection of 0 .. size - 1 sends int64 positions [n], at a cost of n alone; uint64 keys, an even number of rounds.

    The generalised Feistel network on Z_a x Z_b, a b >= size, whose results beyond `size` are sent through it again (Black & Rogaway
    2002, methods 2 and 3). As b = ceil(size / a) and a = ceil(sqrt(size)), less than one in b is.
    """
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    sent = _feistel(positions.astype(np.uint64), np.uint64(a), np.uint64(b), keys)
    while (beyond := np.flatnonzero(sent >= size)).size:
        sent[beyond] = _feistel(sent[beyond], np.uint64(a), np.uint64(b), keys)
    return sent.astype(np.int64)


def _feistel(x: np.ndarray, a: np.uint64, b: np.uint64, keys: np.ndarray) -> np.ndarray:
    left, right = x % a, x // a
    for number, key in enumerate(keys):
        left, right = right, (left + _mixed(right + key)) % (b if number % 2 else a)
    return a * right + left


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele et al. 2014), and of its 64 bits the 32 upper ones."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(32)
