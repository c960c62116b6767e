"""How sharp a face is, and whether it was there before: what decides which of many photos become training data.

Measured on CelebA: `docs/data.md` has the figures behind the thresholds, which are defaults in `facegan.options`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

HASH_SIDE = 12
HASH_BITS = 2 * HASH_SIDE**2
_WORDS = -(-HASH_BITS // 64)
_BLOCK = 8192  # hashes compared at a time, which fit into a core's cache
_TAPS = 9  # of the blur of Crete et al., section 3
_POPULATION = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def sharpness(image: Image.Image) -> float:
    """How sharp a picture is as given, in [0, 1]: 1 - the blur effect of Crete et al. 2007, of its luma.

    Neighbours of a sharp picture lose much of their difference when it is blurred, those of a blurred one little; the paper's equations
    (1) to (6), by rows and by columns, of which the blurrier counts. Pixels beyond the border repeat it. A picture without any
    difference is 0, and one that varies in one direction alone is judged by that. All sums are of whole numbers.
    """
    luma = np.asarray(image.convert("L")).astype(np.int16)
    kept = [share for share in map(_lost, (luma, luma.T)) if share is not None]
    return min(kept, default=0.0)


def _lost(luma: np.ndarray) -> float | None:
    """s_V / s_F along the first axis of int16 [H, W]: the share of the variation that a blur of nine pixels takes away."""
    last, reach = len(luma) - 1, _TAPS // 2
    i = np.arange(1, last + 1)
    own = np.abs(luma[1:] - luma[:-1]).astype(np.int32)
    # Two neighbouring means of nine pixels share eight of them: nine times their difference is that of the two outermost pixels.
    blurred = np.abs(luma[np.minimum(i + reach, last)] - luma[np.maximum(i - 1 - reach, 0)])
    variation = int(own.sum(dtype=np.int64))
    if not variation:
        return None
    return int(np.maximum(_TAPS * own - blurred, 0).sum(dtype=np.int64)) / (_TAPS * variation)


def perceptual_hash(image: Image.Image) -> int:
    """A number of `HASH_BITS` bits, few of which differ between two pictures that look alike, as an aligned face shot twice in a burst.

    A bit for each pair of neighbours, across and down, in 12 x 12 of them: whether the second is brighter. Brightness, contrast, size and
    compression change few. Pillow reduces and converts in whole numbers, so that the number is the same everywhere.
    """
    luma = image.convert("L")
    across = np.asarray(luma.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.LANCZOS))
    down = np.asarray(luma.resize((HASH_SIDE, HASH_SIDE + 1), Image.Resampling.LANCZOS))
    bits = np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class Duplicates:
    """The hashes kept so far, numbered in the order of `add`; 40 bytes each."""

    def __init__(self) -> None:
        self._words = np.zeros((_WORDS, 1024), np.uint64)  # word by word: a query reads each as one stretch of memory
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, code: int) -> int:
        """Keep a `perceptual_hash`; its number."""
        if self._count == self._words.shape[1]:
            self._words = np.concatenate([self._words, np.zeros_like(self._words)], 1)
        self._words[:, self._count] = _split(code)
        self._count += 1
        return self._count - 1

    def nearest(self, code: int) -> tuple[int, int] | None:
        """(number, distance in bits) of the hash that differs least, the first of equals; None where there is none."""
        if not self._count:
            return None
        distances = self._distances(code)
        index = int(distances.argmin())
        return index, int(distances[index])

    def within(self, code: int, distance: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (int64 [n]) and distances in bits (uint16 [n]) of all that differ in at most `distance` bits, in the order of `add`."""
        distances = self._distances(code)
        indices = np.flatnonzero(distances <= distance)
        return indices, distances[indices]

    def _distances(self, code: int) -> np.ndarray:
        """uint16 [count]."""
        total = np.empty(self._count, np.uint16)
        words = _split(code)[:, None]
        for start in range(0, self._count, _BLOCK):
            block = slice(start, min(start + _BLOCK, self._count))
            _population(self._words[:, block] ^ words).sum(0, dtype=np.uint16, out=total[block])
        return total


def _split(code: int) -> np.ndarray:
    """uint64 [words]."""
    return np.frombuffer(code.to_bytes(8 * _WORDS, "little"), "<u8").astype(np.uint64)


def _population(words: np.ndarray) -> np.ndarray:
    """How many bits of each uint64 are set, uint8."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(words)
    counts: np.ndarray = _POPULATION[words.view(np.uint8).reshape(*words.shape, 8)].sum(-1, dtype=np.uint8)
    return counts
