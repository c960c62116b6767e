"""Options of the commands that mix styles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from facegan.config import Options, option
from facegan.options.common import STYLES, Mode, Network, NoiseMode


@dataclass(frozen=True)
class MixOptions(Options):
    """How styles are mixed."""

    rows: tuple[Any, ...] = option((), f"what the columns are mixed into: {STYLES}", nargs="+", metavar="STYLE", required=True)
    cols: tuple[Any, ...] = option((), "what is mixed in, named likewise", nargs="+", metavar="STYLE", required=True)
    recipe: str = option("", "mode and weights from a recipe.json, e.g. of mix-search, or `default`: the one beside the network "
                         "(default: that one, if there is one and no layers are given)", metavar="FILE")  # fmt: skip
    mode: Mode | None = option(
        None, "regional: the column's style where the mask is, so that all else stays the row's; crossover: in these layers; interpolate: "
        "between both; arithmetic: what the column has beyond the mean face is added; stylespace: between both, in some channels of "
        "style space alone (default: regional, with `layers` or `weights` crossover; mix-search: whatever is best)",
    )  # fmt: skip
    mask: str = option(
        "", "where the column goes, in every mode: a mask of the network, lower, upper, mouth, eyes, or a picture whose white takes the "
        "column's style (default, regional: the network's, else lower)", metavar="NAME|PNG",
    )  # fmt: skip
    softness: float | None = option(
        None, "blur of the mask's edges, a share of the face's height (default: as the mask is; lower, upper, mouth and eyes: 0.015)"
    )
    layers: str = option("", "layers that the column joins: 4-7, 4,6, all, or by size (default: all under a mask, else 32-64px)")
    weight: float | None = option(None, "of the column in these layers (default: 1)")
    weights: str = option("", "a weight per layer, e.g. 4:0.5,5-7:1, instead of `layers`", metavar="LAYER:WEIGHT,...")
    average: float | None = option(None, "draw the columns to their mean first: 0 not, 1 entirely, which with `mode` arithmetic is the "
                                   "attribute's direction (default: 0)")  # fmt: skip
    channels: str = option(
        "", "the channels of style space that take the column, in every mode: an attribute whose channels `facegan styles channels` has "
        "found, or such a file (default, stylespace: those of the columns' name)", metavar="NAME|JSON",
    )  # fmt: skip
    number: int | None = option(None, "how many of these channels, the best first (default: 80)", metavar="N")
    refine: int = option(
        0, "steps, such as 30, in which the style under each mix's mask is moved by its gradient, towards the row's skin and all outside "
        "the mask as it was, while critics see what both faces show; a step costs as much as four faces, recipe.json does not hold it",
        metavar="STEPS", shown="0, not",
    )  # fmt: skip
    critics: str = option("", "run whose critics are asked where mixes are refined (default: `network`, if it is a run)", metavar="RUN")
    truncation: float = option(1.0, "of seeds", metavar="PSI")
    noise_mode: NoiseMode = option("const", "noise of the network, one drawn noise for all faces, or none")
    batch: int = option(0, "faces at once; 1, which is slower, gives a style the same bits on a CPU whatever stands beside it", shown="8 "
                        "of up to 256 px, 2 of 512 px, 1 of 1024 px")  # fmt: skip
    styles: str = option("", "folder in which styles are looked up by name", metavar="DIR")


@dataclass(frozen=True)
class Mix(MixOptions, Network):
    """`facegan mix`"""

    out: str = option("", "folder for grid.png, row-NAME_col-NAME.png and recipe.json", required=True)


@dataclass(frozen=True)
class SearchOptions(MixOptions):
    """How the recipe of mixing is searched: rows carry attribute 1, columns attribute 2."""

    attributes: tuple[str, ...] = option((), "those of the critics' run in another order: rows, columns (default: its own)", group="search")
    critics: str = option("", "run whose critics choose (default: `network`, if it is a run)", metavar="RUN", group="search")
    refine: int = option(0, "also rate regional mixes, and those of the recipes given and found that have a mask, refined in so many "
                         "steps, as `facegan mix --refine` does", metavar="STEPS", group="search", shown="0, not")  # fmt: skip
    data: str = option("", "data of the judge (default: those of the critics' run)", group="search")
    judge: str = option("", "folder with a trained judge (default: train one, or take it from the cache)", group="search")
    num_random: int = option(8, "random ranges of layers to compare with", group="search")
    pairs: int = option(128, "most pairs to search with, and to report on", group="search")
    budget: int = option(0, "recipes that are tried, at most, each on `pairs` pairs; 0: as many as the search wants", group="search")
    seed: int = option(0, "of the division of the styles", group="search")
    batch: int = option(32, "faces at once", group="search")


@dataclass(frozen=True)
class MixSearch(SearchOptions, Network):
    """`facegan mix-search`"""

    out: str = option("", "folder for recipe.json, table.md, search.json and pictures", required=True)


@dataclass(frozen=True)
class WalkOptions(Options):
    """A closed walk through styles."""

    rows: tuple[Any, ...] = option((), f"where it leads through: {STYLES}", nargs="+", metavar="STYLE", required=True)
    frames: int = option(30, "from each style to the next")
    truncation: float = option(1.0, "of seeds", metavar="PSI")
    noise_mode: NoiseMode = option("const", "noise of the network, one drawn noise for all faces, or none")
    styles: str = option("", "folder in which styles are looked up by name", metavar="DIR")


@dataclass(frozen=True)
class Walk(WalkOptions, Network):
    """`facegan walk`"""

    fps: float = option(24.0, "frames a second")
    out: str = option("", "the video, .gif or .mp4", required=True, metavar="FILE")
