"""The search for the recipe of mixing whose faces carry all attributes, under critics.

It sees half of the styles; how much of a gain is overfitted shows on the other half. The judge has no part in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.errors import FaceganError
from facegan.styles.recipe import Mode, Recipe, mixed, uniform

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # that a layer may take
STARTS = 3  # ranges of layers to continue from, besides the start that the caller gives
ROUNDS = 4  # through all layers, at most

Pair = tuple[int, int]  # row, column


@dataclass(frozen=True, order=True)
class Score:
    """Better is greater: first the share of faces in which every critic sees its attribute, then how surely."""

    joint: float  # share whose lowest score is above 0.5
    least: float  # mean of the lowest score, clipped to [0, 1]


def score_of(scores: Tensor) -> Score:
    """Of critics' scores [K, N]."""
    lowest = scores.float().amin(0)
    return Score(float(lowest.gt(0.5).float().mean()), float(lowest.clamp(0, 1).mean()))


def split_pairs(rows: Sequence[str], columns: Sequence[str], seed: int, most: int) -> tuple[list[Pair], list[Pair]]:
    """The pairs of one half of the rows and columns, to search with, and those of the other, to report on; at most `most` of each.

    The other pairs, of a style of either half, are left out: a recipe could suit a style that it was chosen with. Halves and order
    are those of a hash of the names.
    """
    if min(len(rows), len(columns)) < 2:
        raise FaceganError(f"`rows` and `cols` name {len(rows)} and {len(columns)} styles: expected at least 2 of each, half to report on")

    def draw(*names: str) -> bytes:
        return hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()

    def halves(names: Sequence[str]) -> tuple[list[int], list[int]]:
        order = sorted(range(len(names)), key=lambda index: draw(names[index]))
        return order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]

    seen, kept = (
        sorted(product(*half), key=lambda pair: draw(rows[pair[0]], columns[pair[1]]))[:most]
        for half in zip(halves(rows), halves(columns), strict=True)
    )
    return seen, kept


class Objective:
    """recipe -> Score over pairs of styles; what was asked before is remembered."""

    def __init__(
        self, rows: Tensor, columns: Tensor, w_avg: Tensor,
        render: Callable[[Tensor], Tensor], critics: Callable[[Tensor], Tensor], batch: int = 32,
    ) -> None:  # fmt: skip
        """`rows` and `columns` [N, num_ws, w_dim] are the pairs' styles; `render` makes images of styles, `critics` scores [K, N]."""
        self.rows, self.columns, self.w_avg = rows, columns, w_avg
        self.render, self.critics, self.batch = render, critics, batch
        self.known: dict[tuple[bool, tuple[float, ...]], Score] = {}

    def scores(self, recipe: Recipe) -> Tensor:
        """[K, N], a score per critic and pair."""
        ws = mixed(self.rows, self.columns, recipe, self.w_avg)
        return torch.cat([self.critics(self.render(part)) for part in ws.split(self.batch)], dim=1)

    def __call__(self, recipe: Recipe) -> Score:
        key = (recipe.mode == "arithmetic", recipe.weights)  # weights 0 and 1 interpolate as they cross over
        if key not in self.known:
            self.known[key] = score_of(self.scores(recipe))
        return self.known[key]


@dataclass(frozen=True)
class Found:
    recipe: Recipe
    score: Score
    ranges: list[tuple[Recipe, Score]]  # of the first part, the best first
    recipes: int  # that were rendered


def search(objective: Objective, start: Recipe, modes: Sequence[Mode]) -> Found:
    """All contiguous ranges of layers first; then, from the best of them and from `start`, one layer's weight after another.

    `modes`: those allowed. Interpolation includes crossover, which alone keeps to weights 0 and 1.
    """
    num_ws = len(start.weights)
    spans = [range(first, last + 1) for first in range(num_ws) for last in range(first, num_ws)]
    candidates = [uniform(mode, span, num_ws) for mode in modes for span in spans]
    ranges = [(recipe, objective(recipe)) for recipe in tqdm(candidates, desc="ranges of layers", unit="recipe", disable=None)]
    ranges.sort(key=lambda item: item[1], reverse=True)
    starts = [start, *(recipe for recipe, _ in ranges[:STARTS])]
    ends = [ascend(objective, recipe, modes) for recipe in starts]
    best = max([*starts, *ends], key=objective)  # the first of equals: the simpler
    return Found(simplified(best), objective(best), ranges, len(objective.known))


def ascend(objective: Objective, recipe: Recipe, modes: Sequence[Mode]) -> Recipe:
    """Coordinate ascent over the layers' weights: every layer takes its best weight, until none changes any more."""
    unchanged = 0
    layers = range(len(recipe.weights))
    with tqdm(total=ROUNDS * len(layers), desc=f"weights from {recipe.describe()}", unit="layer", disable=None) as bar:
        for layer in [*layers] * ROUNDS:
            better = max([recipe, *neighbours(recipe, layer, modes)], key=objective)
            unchanged = unchanged + 1 if better == recipe else 0
            recipe = better
            bar.update()
            bar.set_postfix(joint=f"{objective(recipe).joint:.3f}")
            if unchanged == len(layers):
                break
    return recipe


def neighbours(recipe: Recipe, layer: int, modes: Iterable[Mode]) -> Iterator[Recipe]:
    """The recipe with other weights at one layer."""
    mode: Mode = "interpolate" if recipe.mode == "crossover" and "interpolate" in modes else recipe.mode
    for weight in (0.0, 1.0) if mode == "crossover" else WEIGHTS:
        if weight != recipe.weights[layer]:
            yield Recipe(mode, (*recipe.weights[:layer], weight, *recipe.weights[layer + 1 :]))


def simplified(recipe: Recipe) -> Recipe:
    """Interpolation with weights 0 and 1 by its plain name."""
    plain = recipe.mode == "interpolate" and set(recipe.weights) <= {0, 1}
    return Recipe("crossover", recipe.weights) if plain else recipe
