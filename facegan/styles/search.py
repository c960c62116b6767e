"""The search for the recipe of mixing whose faces carry all attributes, under critics.

It sees half of the styles; how much of a gain is overfitted shows on the other half. The judge has no part in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.errors import FaceganError
from facegan.styles.projection import MOST_DISTANT
from facegan.styles.recipe import Channels, Mask, Mixture, Mode, Recipe, mixture, uniform

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # that a layer may take
STARTS = 3  # simple recipes to continue from, besides the start that the caller gives
ROUNDS = 4  # through all layers, at most

AVERAGES = (0.0, 0.5, 1.0)  # how far columns may be drawn to their mean
MASKED_WEIGHTS = (1.0, 1.5, 2.0, 3.0, 4.0)  # of all layers under a mask, to begin with
FIRST_NUMBERS, NUMBERS = (20, 80), (10, 20, 40, 80, 160)  # of channels of style space: to begin with, and later
CHANNEL_WEIGHTS = (1.0, 1.5, 2.0, 3.0, 4.0)  # of all of them

Pair = tuple[int, int]  # row, column
Family = Literal["layers", "regional", "stylespace"]  # how a recipe says where the column goes: by layers alone, by a mask, by channels


@dataclass(frozen=True, order=True)
class Score:
    """Better is greater: first the share of faces in which every critic sees its attribute, then how surely."""

    joint: float  # share whose lowest score is above 0.5
    least: float  # mean of the lowest score, clipped to [0, 1]


WORST = Score(-1.0, -1.0)


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
        self, rows: Tensor, columns: Tensor, w_avg: Tensor, render: Callable[[Mixture], Tensor], critics: Callable[[Tensor], Tensor],
        resolution: int, batch: int = 32, mean: Tensor | None = None, budget: int = 0, away: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        """`rows` and `columns` [N, num_ws, w_dim] are the pairs' styles, `mean` that of all columns which may be used; `render` makes
        images of mixtures, `critics` scores [K, N]. `budget`: recipes that may be tried, 0 for any number. `away`: the
        `latent_distance` of styles; a recipe whose styles are `MOST_DISTANT` in the mean is not rendered and counts as worst: critics know
        faces, and may like what lies where the network has none."""
        self.rows, self.columns, self.w_avg, self.mean = rows, columns, w_avg, columns.mean(0) if mean is None else mean
        self.render, self.critics, self.batch, self.resolution, self.budget = render, critics, batch, resolution, budget
        self.away = away
        self.known: dict[Recipe, Score] = {}

    def scores(self, recipe: Recipe) -> Tensor:
        """[K, N], a score per critic and pair."""
        return self._scores(self._drawn(recipe))

    def _drawn(self, recipe: Recipe) -> Mixture:
        return mixture(self.rows, self.columns, recipe, self.w_avg, self.resolution, self.mean)

    def _scores(self, drawn: Mixture) -> Tensor:
        return torch.cat([self.critics(self.render(part)) for part in drawn.split(self.batch)], dim=1)

    def _strays(self, drawn: Mixture) -> bool:
        """Whether styles lie too far out; of those in some channels only, whose others are the row's, nobody can say by w."""
        styles = drawn.ws if drawn.others is None else drawn.others
        return self.away is not None and not drawn.channels and float(self.away(styles).mean()) > MOST_DISTANT["w"]

    @property
    def spent(self) -> bool:
        """Whether the budget is used up: what was not asked for before counts as worst from then on."""
        return 0 < self.budget <= len(self.known)

    def __call__(self, recipe: Recipe) -> Score:
        key = plain(recipe)
        if key not in self.known:
            if self.spent:
                return WORST
            drawn = self._drawn(recipe)
            self.known[key] = WORST if self._strays(drawn) else score_of(self._scores(drawn))
        return self.known[key]


def plain(recipe: Recipe) -> Recipe:
    """What draws the same faces: weights 0 and 1 interpolate as they cross over, masks and channels speak for themselves."""
    return replace(recipe, mode="arithmetic" if recipe.mode == "arithmetic" else "interpolate")


def family_of(recipe: Recipe) -> Family:
    """How a recipe says where the column goes."""
    return "stylespace" if recipe.channels else "regional" if recipe.mask else "layers"


@dataclass(frozen=True)
class Found:
    recipe: Recipe
    score: Score
    ranges: list[tuple[Recipe, Score]]  # of the first part, the best first
    recipes: int  # that were rendered
    best: dict[Family, Recipe] = field(default_factory=dict)  # of each family that was tried


def search(objective: Objective, start: Recipe, modes: Sequence[Mode], masks: Sequence[Mask] = (), channels: Channels = ()) -> Found:
    """The simple recipes first: all contiguous ranges of layers, all layers under each mask, and the first of the channels, with columns
    as they are, halfway to their mean and averaged. Then, from `start`, the best of each of these and the best of all, one choice after
    another: each layer's weight, or that of all channels and their number, the mask, the average.

    `modes`: those allowed. Interpolation includes crossover, which alone keeps to weights 0 and 1; `regional` is interpolation under a
    mask, `stylespace` in channels. `masks`: those to try. `channels`: those to try, the best first.
    """
    simple = [*ranges_of_layers(start, modes), *under_masks(start, modes, masks), *in_channels(start, modes, masks, channels)]
    scored = []
    with tqdm(total=len(simple), desc="simple recipes", unit="recipe", disable=None) as bar:
        for recipe in simple:
            scored.append((recipe, objective(recipe)))
            bar.update()
            bar.set_postfix(joint=f"{max(score for _, score in scored).joint:.3f}")
    scored.sort(key=lambda item: item[1], reverse=True)
    ordered = [recipe for recipe, _ in scored]
    of_families = [next((recipe for recipe in ordered if family_of(recipe) == family), None) for family in get_args(Family)]
    chosen = dict.fromkeys(recipe for recipe in [*ordered[:1], *of_families, *ordered] if recipe is not None)
    starts = [start, *list(chosen)[:STARTS]]
    ends = [ascend(objective, recipe, modes, masks, channels) for recipe in starts]
    candidates = [*starts, *ends]
    best = max(candidates, key=objective)  # the first of equals: the simpler
    families = {
        family: simplified(max(of_it, key=objective))
        for family in get_args(Family)
        if (of_it := [recipe for recipe in candidates if family_of(recipe) == family and objective(recipe) > WORST])
    }  # fmt: skip
    rendered = sum(score > WORST for score in objective.known.values())
    return Found(simplified(best), objective(best), scored, rendered, families)


def ranges_of_layers(start: Recipe, modes: Sequence[Mode]) -> list[Recipe]:
    """The columns' styles, whole, in each contiguous range of layers."""
    num_ws = len(start.weights)
    spans = [range(first, last + 1) for first in range(num_ws) for last in range(first, num_ws)]
    return [uniform(mode, span, num_ws) for mode in modes if mode not in ("regional", "stylespace") for span in spans]


def under_masks(start: Recipe, modes: Sequence[Mode], masks: Sequence[Mask]) -> list[Recipe]:
    """All layers under each mask, with each weight and average."""
    num_ws = len(start.weights)
    ways = [mode for mode in modes if mode in ("regional", "arithmetic")]
    return [
        replace(uniform(mode, range(num_ws), num_ws, weight, mask), average=average)
        for mode, mask, average, weight in product(ways, masks, AVERAGES, MASKED_WEIGHTS)
    ]


def in_channels(start: Recipe, modes: Sequence[Mode], masks: Sequence[Mask], channels: Channels) -> list[Recipe]:
    """Few and more of the channels, in all layers, with each weight, of columns as they are or averaged, everywhere or under a mask."""
    num_ws = len(start.weights)
    ways = [mode for mode in modes if mode in ("stylespace", "arithmetic")] if channels else []
    numbers = sorted({min(number, len(channels)) for number in FIRST_NUMBERS})
    return [
        replace(uniform(mode, range(num_ws), num_ws, weight, mask, channels[:number]), average=average)
        for mode, mask, number, average, weight in product(ways, [None, *masks[:1]], numbers, (0.0, 1.0), CHANNEL_WEIGHTS)
    ]


def numbers_of(channels: Channels) -> list[int]:
    """Those of `NUMBERS` that there are, and all where there are fewer than the most."""
    return sorted({min(number, len(channels)) for number in NUMBERS})


def ascend(objective: Objective, recipe: Recipe, modes: Sequence[Mode], masks: Sequence[Mask] = (), channels: Channels = ()) -> Recipe:
    """Coordinate ascent: every choice takes its best value, until none changes any more or the budget is used up."""
    unchanged = 0
    choices: list[int | str] = ["weight", "number"] if recipe.channels else [*range(len(recipe.weights))]
    choices += ["mask", "average"] if recipe.mask or recipe.channels else []
    with tqdm(total=ROUNDS * len(choices), desc=f"choices from {recipe.describe()}", unit="choice", disable=None) as bar:
        for choice in choices * ROUNDS:
            better = max([recipe, *neighbours(recipe, choice, modes, masks, channels)], key=objective)
            unchanged = unchanged + 1 if better == recipe else 0
            recipe = better
            bar.update()
            bar.set_postfix(joint=f"{objective(recipe).joint:.3f}")
            if unchanged == len(choices) or objective.spent:
                break
    return recipe


def neighbours(
    recipe: Recipe, choice: int | str, modes: Iterable[Mode], masks: Sequence[Mask] = (), channels: Channels = ()
) -> Iterator[Recipe]:
    """The recipe with other weights at one layer, or at all, another number of channels, another mask, or another average."""
    mode: Mode = "interpolate" if recipe.mode == "crossover" and "interpolate" in modes else recipe.mode  # of any other weights
    if choice == "weight":
        allowed = (1.0,) if mode == "crossover" else sorted({*WEIGHTS[1:], *CHANNEL_WEIGHTS})
        every = ((weight,) * len(recipe.weights) for weight in allowed)
        yield from (replace(recipe, mode=mode, weights=weights) for weights in every if weights != recipe.weights)
    elif choice == "number":
        parts = (channels[:number] for number in numbers_of(channels) if channels)
        yield from (replace(recipe, channels=part) for part in parts if part != recipe.channels)
    elif choice == "mask":
        everywhere = [None] if recipe.channels and recipe.mode != "regional" else []
        yield from (replace(recipe, mask=mask) for mask in [*masks, *everywhere] if mask != recipe.mask)
    elif choice == "average":
        yield from (replace(recipe, average=average) for average in AVERAGES if average != recipe.average)
    else:
        layer = int(choice)
        for weight in (0.0, 1.0) if mode == "crossover" else WEIGHTS:
            if weight != recipe.weights[layer]:
                yield replace(recipe, mode=mode, weights=(*recipe.weights[:layer], weight, *recipe.weights[layer + 1 :]))


def simplified(recipe: Recipe) -> Recipe:
    """Interpolation with weights 0 and 1 by its plain name."""
    as_is = recipe.mode == "interpolate" and family_of(recipe) == "layers" and set(recipe.weights) <= {0, 1}
    return replace(recipe, mode="crossover") if as_is else recipe
