"""What is seen of a data set's images when they are looked at: their sizes, how sharp they are, and which look alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from tqdm import tqdm

from facegan.data.formats import open_image
from facegan.data.images import reason, upright_square
from facegan.data.quality import Duplicates, perceptual_hash, sharpness

SIDE = 512  # pixels: larger pictures are reduced to it before they are measured
SHOWN, THUMBNAIL = 12, 96  # faces of a group that are kept to be shown, and their pixels at most
RUN = 4  # neighbours that are looked at together, as the pictures of a burst are neighbours
_AHEAD = 1024  # pictures looked at ahead of the one that is compared
_NAMED = 5  # pairs of each kind that are named

Opened = tuple[Image.Image, tuple[int, int]]  # the square in RGB, at most SIDE pixels; (width, height) of the picture


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture; all that is kept of it."""

    size: tuple[int, int]
    sharpness: float
    code: int  # its perceptual hash
    face: Image.Image | None  # where it is to be shown


@dataclass(frozen=True)
class Pair:
    """Two rows that look alike."""

    first: int
    second: int
    bits: int  # in which their hashes differ


@dataclass(eq=False)
class Alike:
    """Near-duplicates, by group and by side of the split."""

    groups: np.ndarray  # int64 [C, C]: pairs of a picture of one group and a later one of another
    repeats: np.ndarray  # int64 [C]: pictures like an earlier one of the same group
    across_sides: int = 0  # pairs of which training has one and the judge the other
    within: list[Pair] = field(default_factory=list)  # the first few of each kind
    across: list[Pair] = field(default_factory=list)
    on_both_sides: list[Pair] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Survey:
    """What was seen of n pictures, in the order of rows."""

    rows: np.ndarray  # int64 [n]
    group: np.ndarray  # int64 [n]
    sizes: np.ndarray  # int32 [n, 2]: width, height
    sharpness: np.ndarray  # float32 [n], of at most SIDE pixels
    alike: Alike
    faces: tuple[tuple[Image.Image, ...], ...]  # of each group, at most SHOWN
    unreadable: tuple[tuple[int, str], ...]  # (row, reason)


def open_square(data: bytes) -> Opened:
    """An encoded picture as training takes it, upright and cut to its central square; raises what Pillow raises on bad data."""
    with open_image(data) as opened:
        size = opened.size
        opened.draft(None, (2 * SIDE, 2 * SIDE))  # JPEG: let the DCT halve, down to twice the size wanted
        image = upright_square(opened)
    return _at_most(image, SIDE), size


def _at_most(image: Image.Image, side: int) -> Image.Image:
    return image if image.width <= side else image.resize((side, side), Image.Resampling.LANCZOS)


def sample(groups: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """At most `most` rows of disjoint groups: as many of each, more where others have fewer; all over the group, in runs of neighbours."""
    taken: list[np.ndarray] = [np.zeros(0, np.int64)] * len(groups)
    left = most
    for rank, k in enumerate(sorted(range(len(groups)), key=lambda k: len(groups[k]))):
        rows, share = groups[k], left // (len(groups) - rank)
        if share < len(rows):
            starts = np.linspace(0, -(-len(rows) // RUN) - 1, -(-share // RUN)).round().astype(np.int64) * RUN
            places = (starts[:, None] + np.arange(RUN)).ravel()
            rows = rows[places[places < len(rows)][:share]]
        taken[k] = rows
        left -= len(rows)
    return taken


def survey(
    load: Callable[[int], Opened], groups: Sequence[np.ndarray], sides: np.ndarray, distance: int, *, shown: bool, progress: bool
) -> Survey:
    """Look at the rows of disjoint groups, each at its picture that `load`, called by several threads, opens.

    `sides` int8 [N] tells the side of the split that a row is on, 0 for none; near-duplicates differ in at most `distance` bits; only with
    `shown` are small pictures kept. Pictures are looked at as a stream: memory holds a hash and a few numbers of each.
    """
    order = np.sort(np.concatenate(groups)) if groups else np.zeros(0, np.int64)
    group_of = np.full(len(sides), -1, np.int64)
    for k, rows in enumerate(groups):
        group_of[rows] = k
    picked = {int(row) for rows in groups for row in rows[_spread(len(rows))]} if shown else set()
    kept, sizes, sharp = np.empty(len(order), np.int64), np.empty((len(order), 2), np.int32), np.empty(len(order), np.float32)
    unreadable: list[tuple[int, str]] = []
    faces: list[list[Image.Image]] = [[] for _ in groups]
    finder = _Finder(group_of, sides, len(groups), distance)
    for row, seen in _look(load, order, picked, progress):
        if isinstance(seen, str):
            unreadable.append((row, seen))
            continue
        at = finder.add(row, seen.code)
        kept[at], sizes[at], sharp[at] = row, seen.size, seen.sharpness
        if seen.face is not None:
            faces[group_of[row]].append(seen.face)
    count = len(finder)
    rows = kept[:count]
    shown_faces = tuple(map(tuple, faces))
    return Survey(rows, group_of[rows], sizes[:count], sharp[:count], finder.alike, shown_faces, tuple(unreadable))


def _spread(count: int) -> np.ndarray:
    """Which of `count` rows to show."""
    return np.linspace(0, count - 1, min(count, SHOWN)).round().astype(np.int64)


def _look(load: Callable[[int], Opened], order: np.ndarray, picked: set[int], progress: bool) -> Iterator[tuple[int, Seen | str]]:
    """(row, what is seen or why nothing), in order; threads suffice, as Pillow and NumPy work without the lock."""

    def attempt(row: int) -> Seen | str:
        try:
            image, size = load(row)
            face = _at_most(image, THUMBNAIL) if row in picked else None
            return Seen(size, sharpness(image), perceptual_hash(image), face)
        except Exception as error:  # on bad bytes Pillow raises whatever its parsers trip over
            return reason(error)

    with (
        ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool,
        tqdm(total=len(order), desc="looking", unit="image", disable=None if progress else True) as bar,
    ):
        for start in range(0, len(order), _AHEAD):
            ahead = order[start : start + _AHEAD].tolist()
            for row, seen in zip(ahead, pool.map(attempt, ahead), strict=True):
                bar.update()
                yield row, seen


class _Finder:
    """Compares each picture with those before it."""

    def __init__(self, group_of: np.ndarray, sides: np.ndarray, groups: int, distance: int) -> None:
        self._group_of, self._sides, self._distance = group_of, sides, distance
        self._known, self._rows = Duplicates(), np.zeros(1024, np.int64)
        self.alike = Alike(np.zeros((groups, groups), np.int64), np.zeros(groups, np.int64))

    def __len__(self) -> int:
        return len(self._known)

    def add(self, row: int, code: int) -> int:
        """One picture more; its number."""
        indices, bits = self._known.within(code, self._distance)
        if len(indices):
            self._note(row, self._rows[indices], bits)
        number = self._known.add(code)
        if number == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[number] = row
        return number

    def _note(self, row: int, others: np.ndarray, bits: np.ndarray) -> None:
        alike, own = self.alike, self._group_of[row]
        theirs = self._group_of[others]
        alike.groups[:, own] += np.bincount(theirs, minlength=len(alike.groups))
        alike.repeats[own] += bool((theirs == own).any())
        apart = self._sides[others] * self._sides[row] == 2  # 1 and 2: one each
        alike.across_sides += int(apart.sum())
        for pairs, which in ((alike.within, theirs == own), (alike.across, theirs != own), (alike.on_both_sides, apart)):
            for i in np.flatnonzero(which)[: _NAMED - len(pairs)]:
                pairs.append(Pair(int(others[i]), row, int(bits[i])))
