"""Splits that keep a person on one side: persons are drawn by a hash of their identity, never by the order of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegan.data.attributes import Groups
from facegan.errors import FaceganError

JUDGE_FRACTION = 0.25


@dataclass(frozen=True, eq=False)
class Split:
    """Who may learn from which image; every array holds int64 row indices.

    The judge is a pair, cross-fitted: both learn from `judge`, the first also from `joint_halves[0]` and the second
    from `joint_halves[1]`, and each gives its ceiling on the half it never saw.
    """

    train: np.ndarray  # about 3/4 of the usable: all that the generator side ever sees
    judge: np.ndarray  # the rest of the usable, never seen by the generator side
    joint_halves: tuple[np.ndarray, np.ndarray]  # the joint images, never seen by the generator side


def split(identities: Sequence[str], groups: Groups, seed: int = 0) -> Split:
    """Divide usable and joint images between generator side and judges; `identities` names the person on each row.

    The judge gets a quarter of every X_k too: a rare attribute has few persons, and chance could leave it almost none.
    """
    train, judge = holdout(identities, groups.usable, JUDGE_FRACTION, seed, "judge", strata=groups.only)
    return Split(train, judge, holdout(identities, groups.joint, 0.5, seed, "joint halves"))


def holdout(
    identities: Sequence[str], index: np.ndarray, fraction: float, seed: int, purpose: str, *, strata: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Split the rows `index` (int64) by person into (rest, held out), each in the order of `index`.

    Persons come in the order of a hash of seed, purpose and identity, and are held out until their images are as near
    to `fraction` of all as whole persons allow. Each of `strata` (row indices) is filled likewise, the smallest first.
    """
    if not 0 <= fraction <= 1:
        raise FaceganError(f"fraction: expected a number in [0, 1], got {fraction}")
    people = sorted({identities[i] for i in index})
    code = {name: p for p, name in enumerate(people)}
    person = np.array([code[identities[i]] for i in index], np.int64)  # [n]
    order = sorted(range(len(people)), key=lambda p: _draw(people[p], seed, purpose))
    held = np.zeros(len(people), bool)
    decided = np.zeros(len(people), bool)
    for stratum in (*sorted(strata, key=len), index):
        counts = np.bincount(person[np.isin(index, stratum)], minlength=len(people))
        target, got = fraction * counts.sum(), counts[held].sum()
        for p in order:
            if counts[p] and not decided[p]:
                held[p] = abs(got + counts[p] - target) < abs(got - target)
                got += counts[p] * held[p]
                decided[p] = True
    return index[~held[person]], index[held[person]]


def _draw(identity: str, seed: int, purpose: str) -> bytes:
    """What persons are ordered by: as good as random, and the same on every machine."""
    return hashlib.sha256("\0".join((str(seed), purpose, identity)).encode("utf-8", "surrogatepass")).digest()
