"""Raters: linear functions of a face's features, one an attribute, solved in closed form; each fold of the faces has its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facegan.randomness import generator

STRENGTH = 0.3  # of the penalty, as a share of the features' mean square over the faces


def fitted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Ridge regression of y [n] in {0, 1} on features float64 [n, D] -> (weights [D], constant); both sides weigh the same in all.

    Solved for whichever is smaller, the faces or the features (Saunders et al. 1998 have the dual form).
    """
    side = np.where(y == 1, 0.5 / np.count_nonzero(y == 1), 0.5 / np.count_nonzero(y == 0))  # sums to 1
    mean = side @ x
    scaled = np.sqrt(side)[:, None] * (x - mean)
    target = np.sqrt(side) * (y - 0.5)
    penalty = STRENGTH * np.square(scaled).sum() / len(x) + 1e-12
    if len(x) <= x.shape[1]:
        weights = scaled.T @ np.linalg.solve(scaled @ scaled.T + penalty * np.eye(len(x)), target)
    else:
        weights = np.linalg.solve(scaled.T @ scaled + penalty * np.eye(x.shape[1]), scaled.T @ target)
    return weights, float(0.5 - mean @ weights)


def folds(people: Sequence[str], values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """int64 [n]: which of `count` parts each face belongs to; a person is in one, and each part gets its share of both sides.

    `values` [n, K] has 1, 0 and NaN. Persons come in an order drawn from the seed, those with most faces first, and go where least is
    of what they bring.
    """
    names = sorted(set(people))
    code = {name: i for i, name in enumerate(names)}
    person = np.array([code[name] for name in people])
    marks = np.concatenate([values == 1, values == 0, np.ones((len(values), 1), bool)], 1).astype(np.float64)
    brings = np.zeros((len(names), marks.shape[1]))
    np.add.at(brings, person, marks / marks.sum(0).clip(1))
    drawn = generator(seed, "label/folds").permutation(len(names))
    order = drawn[np.argsort(-np.bincount(person, minlength=len(names))[drawn], kind="stable")]
    held, part = np.zeros((count, marks.shape[1])), np.zeros(len(names), np.int64)
    for p in order:
        part[p] = np.argmin(held @ brings[p])
        held[part[p]] += brings[p]
    return part[person]
