"""Styles mixed, and what draws them: all pairs of two lists of them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.trained import random_noise
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.memory import give_back, out_of_memory
from facegan.models.regions import Regions
from facegan.models.stylegan2 import Generator, NoiseMode, StyleGAN2Config
from facegan.options import MixOptions, Mode
from facegan.plotting.grid import Grid, grid
from facegan.plotting.sheets import save_png, to_pil
from facegan.styles.masks import find_mask, mask_folders, own_masks
from facegan.styles.recipe import (
    Channels,
    Mask,
    Mixture,
    Recipe,
    channel_gains,
    mixture,
    parse_layers,
    parse_weights,
    start_layers,
    uniform,
)
from facegan.styles.store import Style

log = logging.getLogger("facegan.styles")

AT_ONCE, AT_ONCE_PIXELS = 8, 1 << 19  # faces of a batch where none is asked for, and their pixels: what they need grows with them
GIVES_BACK = 1 << 20  # pixels made, after which free memory is given back
MOST_BYTES = 4 << 30  # of mixes that are kept as float32

Pair = tuple[int, int, Tensor]  # row, column, image [3, H, W] in [-1, 1]; -1 for the sources' own faces


@dataclass(frozen=True, eq=False)
class Mixes:
    """Every row's style mixed with every column's, beside the faces of both."""

    rows: Tensor  # float32 [R, 3, H, W] in [-1, 1]
    cols: Tensor  # [C, 3, H, W]
    tensors: Tensor  # [R, C, 3, H, W]
    row_names: tuple[str, ...]
    col_names: tuple[str, ...]
    recipe: Recipe

    @property
    def images(self) -> list[list[Image.Image]]:
        """The mixes as pictures, a list for each row."""
        return [[to_pil(image) for image in images] for images in self.tensors]

    def grid(self) -> Image.Image:
        """The picture of all pairs, sources above and beside."""
        return grid(self.rows, self.cols, self.tensors, self.row_names, self.col_names)

    def save(self, folder: str | Path) -> Path:
        """Write `row-NAME_col-NAME.png` of every pair, `recipe.json` to make the same again (refined mixes: with the same `refine`), and
        `grid.png`, whose path is returned."""
        return write_pairs(self._pairs(), self.row_names, self.col_names, self.recipe, Path(folder))

    def _pairs(self) -> Iterator[Pair]:
        yield from ((row, -1, image) for row, image in enumerate(self.rows))
        yield from ((-1, column, image) for column, image in enumerate(self.cols))
        yield from ((row, column, image) for row, images in enumerate(self.tensors) for column, image in enumerate(images))


@dataclass(frozen=True, eq=False)
class Mixing:
    """The same, made when it is asked for and not kept: of as many styles as there are, in the memory of a batch of faces."""

    draw: Renderer
    rows: Sequence[Style]
    cols: Sequence[Style]
    recipe: Recipe
    refine: Callable[[Mixture, Tensor], Mixture] | None = None  # mixes and their columns' styles -> mixes

    @property
    def row_names(self) -> tuple[str, ...]:
        """What the rows' styles are called."""
        return tuple(style.name for style in self.rows)

    @property
    def col_names(self) -> tuple[str, ...]:
        """What the columns' styles are called."""
        return tuple(style.name for style in self.cols)

    def __len__(self) -> int:
        """How many faces it makes: the mixes and the sources."""
        return (len(self.rows) + 1) * (len(self.cols) + 1) - 1

    def __iter__(self) -> Iterator[Pair]:
        """(row, column, image float32 [3, H, W] in [-1, 1]), made as it is asked for: the rows' own faces, where the column is -1, the
        columns', where the row is -1, then the mixes, row by row."""
        with tqdm(total=len(self), desc="faces", unit="face", disable=None) as bar:
            for part in self._parts():
                images = self.draw(self._styles(part))
                bar.update(len(part))
                yield from ((row, column, image) for (row, column), image in zip(part, images, strict=True))

    def _parts(self) -> Iterator[list[tuple[int, int]]]:
        """(row, column) of each batch, which holds sources or mixes, not both."""
        rows, columns = range(len(self.rows)), range(len(self.cols))
        sources = itertools.chain(((row, -1) for row in rows), ((-1, column) for column in columns))
        for places in (sources, itertools.product(rows, columns)):
            while part := list(itertools.islice(places, self.draw.batch)):
                yield part

    @cached_property
    def _mean(self) -> Tensor | None:
        """Of the columns, [num_ws, w_dim], where the recipe asks for it."""
        return stacked(self.cols).mean(0) if self.recipe.average else None

    def _styles(self, part: Sequence[tuple[int, int]]) -> Mixture:
        rows, columns = zip(*part, strict=True)
        if min(*rows, *columns) < 0:  # sources
            return Mixture(stacked([self.rows[row] if row >= 0 else self.cols[column] for row, column in part]))
        row_ws, column_ws = stacked([self.rows[row] for row in rows]), stacked([self.cols[column] for column in columns])
        mixes = mixture(row_ws, column_ws, self.recipe, self.draw.w_avg, self.draw.generator.config.resolution, self._mean)
        return self.refine(mixes, column_ws) if self.refine else mixes

    def grid(self) -> Image.Image:
        """The picture of all pairs, sources above and beside, of thumbnails."""
        found = Grid(self.row_names, self.col_names, self.draw.generator.config.resolution)
        for row, column, image in self:
            found.put(to_pil(image), row, column)
        return found.picture

    def save(self, folder: str | Path) -> Path:
        """Write what `Mixes.save` writes, `recipe.json` first and each face as it is made; returns the path of `grid.png`."""
        return write_pairs(self, self.row_names, self.col_names, self.recipe, Path(folder))

    def collect(self) -> Mixes:
        """All of them, kept as tensors.

        Raises:
            FaceganError: that takes more than 4 GiB.
        """
        config, rows, columns = self.draw.generator.config, len(self.rows), len(self.cols)
        size = 4 * len(self) * config.img_channels * config.resolution**2
        if size > MOST_BYTES:
            raise FaceganError(
                f"{rows} rows and {columns} columns of {config.resolution} px take {size / 2**30:.1f} GiB as tensors: mix fewer, or use "
                "`StyleGAN.mixing`, which keeps none: its `save` writes each as it is made"
            )
        images = torch.stack([image for _, _, image in self])
        row_images, column_images, mixes = images.split([rows, columns, rows * columns])
        return Mixes(row_images, column_images, mixes.unflatten(0, (rows, columns)), self.row_names, self.col_names, self.recipe)


def write_pairs(pairs: Iterable[Pair], row_names: Sequence[str], col_names: Sequence[str], recipe: Recipe, out: Path) -> Path:
    """What a folder of mixes holds; whatever interrupts it, the faces made before are there, and recipe.json to go on by."""
    recipe.write(out / "recipe.json")
    found: Grid | None = None
    for row, column, image in pairs:
        picture = to_pil(image)
        found = found or Grid(row_names, col_names, picture.width)
        found.put(picture, row, column)
        if row >= 0 and column >= 0:
            save_png(picture, out / f"row-{row_names[row]}_col-{col_names[column]}.png")
    assert found is not None
    if found.shown != (len(row_names), len(col_names)):
        log.warning("grid.png shows the first %d rows and %d columns: all of them would be too large a picture", *found.shown)
    save_png(found.picture, out / "grid.png")
    return out / "grid.png"


def chosen_recipe(options: MixOptions, config: StyleGAN2Config, network: Path, searching: bool = False) -> Recipe:
    """The recipe that is asked for; without any choice the one beside the network, in `recipe.json`, or, for a search or where there is
    none, the columns' styles under the network's mask or in the lower half, which is logged."""
    beside = network / "recipe.json"
    choices = ("layers", "mode", "weight", "weights", "mask", "softness", "average", "channels", "number")
    given = [f"`{name}`" for name in choices if getattr(options, name) not in ("", None)]
    if options.recipe and given:
        raise FaceganError(f"`recipe` holds mode, weights and mask already: drop {' and '.join(given)}")
    if options.weights and {"`layers`", "`weight`"} & {*given}:
        raise FaceganError("`weights` names its layers and their weights: drop `layers` and `weight`")
    if options.recipe == "default" and not beside.exists():
        raise FaceganError(f"`recipe` is default, but {beside} does not exist: name a recipe.json, or `layers`")
    if options.recipe == "default" or (not options.recipe and not given and not searching and beside.exists()):
        recipe = Recipe.read(beside, config.num_ws, config)
        log.info("the network's own recipe: %s", recipe.describe())
        return recipe
    if options.recipe:
        return Recipe.read(options.recipe, config.num_ws, config)
    plain = searching or {"`layers`", "`weights`"} & {*given}
    usual: Mode = "stylespace" if options.channels else "regional" if options.mask or not plain else "crossover"
    mode = options.mode or usual
    mask = chosen_mask(options, network) if options.mask or mode == "regional" else None
    channels = chosen_channels(options, config, network) if options.channels or mode == "stylespace" else ()
    if options.number is not None and not channels:
        raise FaceganError("`number` is that of channels: name some by `channels`, or take `mode` stylespace")
    if options.softness is not None and mask is None:
        raise FaceganError("`softness` is that of a mask: name one by `mask`, or take `mode` regional")
    if options.weights:
        recipe = Recipe(mode, parse_weights(options.weights, config), mask, channels=channels)
    else:
        if options.layers or mask or channels:
            layers = parse_layers(options.layers or "all", config)
        else:
            text, layers = start_layers(config)
            last = config.num_ws - 1
            log.info("no `layers`: the columns' styles go to those of %s, layers %d-%d of 0-%d", text, layers[0], layers[-1], last)
        recipe = uniform(mode, layers, config.num_ws, 1.0 if options.weight is None else options.weight, mask, channels)
    return replace(recipe, average=options.average or 0.0)


def chosen_mask(options: MixOptions, network: Path) -> Mask:
    """The mask that is named, or that of the columns' name, or the network's if it has a single one, else the lower half; logged where
    it is not named."""
    folders = mask_folders(options.styles, network)
    if options.mask:
        return find_mask(options.mask, folders, options.softness)
    found = own_masks(folders)
    name = called_alike(options.cols, found) or (found[0] if len(found) == 1 else "lower")
    offer = f" (`mask` names another: {', '.join(found)})" if len(found) > 1 else ""
    log.info("no `mask`: the columns' styles go to %s%s", "the lower half" if name == "lower" else f"the network's mask {name}", offer)
    return find_mask(name, folders, options.softness)


def chosen_channels(options: MixOptions, config: StyleGAN2Config, network: Path) -> Channels:
    """The first `number` channels of the file that is named, or of that of the columns' name, or of the network's only one; logged where it
    is not named."""
    from facegan.styles.channels import NUMBER, channel_folders, find_channels, own_channels

    number = NUMBER if options.number is None else options.number
    if number < 1:
        raise FaceganError(f"`number` is {number}: expected at least 1 channel")
    folders = channel_folders(options.styles, network)
    if options.channels:
        return find_channels(options.channels, folders, config).first(number)
    found = own_channels(folders)
    name = called_alike(options.cols, found) or (found[0] if len(found) == 1 else "")
    if not name:
        held = f"those of {', '.join(found)}" if found else "none"
        raise FaceganError(f"`channels` is missing: this network has {held}; name one, or find some by `facegan styles channels`")
    log.info("no `channels`: the columns' scales go to the network's channels of %s", name)
    return find_channels(name, folders, config).first(number)


def called_alike(columns: Sequence[Any], found: Sequence[str]) -> str:
    """The name among `found` that the columns have, by which they, their file or their folder is called; "" where there is none."""
    names = {Path(column).stem for column in columns if isinstance(column, (str, Path))} if len(columns) == 1 else set[str]()
    return next((name for name in found if name in names), "")


def distinct(styles: list[Style]) -> list[Style]:
    """The same styles, whose names then tell them apart in file names and tables."""
    names = [style.name for style in styles]
    for name in names:
        if names.count(name) > 1:
            raise FaceganError(f"style {name} is named {names.count(name)} times: name each once, and rename files that share a name")
    return styles


def stacked(styles: Sequence[Style]) -> Tensor:
    """[N, num_ws, w_dim]"""
    return torch.stack([style.w for style in styles])


class Renderer:
    """Styles [N, num_ws, w_dim], or mixtures -> images float32 [N, 3, R, R] on the CPU, by a generator where that is.

    With `batch` 1 a style is the same image to the last bit whatever stands beside it, on a CPU; random noise is the same for all then.
    """

    def __init__(self, generator: Generator, noise_mode: NoiseMode = "const", batch: int = 1, cuda_graphs: str = "auto") -> None:
        self.generator, self.noise_mode, self.batch = generator, noise_mode, batch
        self.w_avg, self.device = generator.mapping.w_avg.cpu(), generator.mapping.w_avg.device
        self._made = 0  # pixels since memory was given back
        self.graphed = Graphed(self._synthesis, self.device, cuda_graphs, name="the generator")

    def _synthesis(
        self, ws: Tensor, noise: Tensor | None, others: Tensor | None = None, mask: Tensor | None = None, gains: Tensor | None = None
    ) -> Tensor:
        synthesis = self.generator.synthesis
        if others is not None and gains is not None:  # exact where a gain is 0 or 1
            ws = synthesis.style_space(ws)
            others = torch.lerp(ws, synthesis.style_space(others), gains)
        if others is not None and mask is None:
            ws, others = others, None
        regions = None if others is None or mask is None else Regions(others[:, None], mask)
        image: Tensor = synthesis(ws, self.noise_mode, noise=noise, regions=regions)
        return image

    @torch.no_grad()
    def __call__(self, styles: Tensor | Mixture) -> Tensor:
        images = []
        for part in (Mixture(styles) if isinstance(styles, Tensor) else styles).split(self.batch):
            with self.fitting(len(part)):
                images.append(self.graphed(*self._drawn(part)).float().cpu())
            self._count(len(part))
        return torch.cat(images)

    def _count(self, faces: int) -> None:
        """A process that keeps what is freed grows by some MiB with each large face, and with each batch of another size."""
        self._made += faces * self.generator.config.resolution**2
        if self._made >= GIVES_BACK:
            give_back()
            self._made = 0

    def differentiable(self, part: Mixture) -> Tensor:
        """The images of one batch, on the generator's device, with a gradient for its styles."""
        self._count(len(part))
        ws, noise, others, mask, gains = self._drawn(part)
        on = [None if x is None else x.to(self.device) for x in (ws, noise, others, mask, gains)]
        return self._synthesis(*on).float()  # type: ignore[arg-type]

    def _drawn(self, part: Mixture) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        config = self.generator.config
        noise = random_noise(config, self.noise_mode, len(part), self.device, seed=0)
        return part.ws, noise, part.others, part.mask, channel_gains(part.channels, config) if part.channels else None

    @contextmanager
    def fitting(self, count: int) -> Iterator[None]:
        """Says what to do where so many faces at once do not fit into memory."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            advice = f"name a smaller one, such as `batch` {count // 2}" if count > 1 else "this network needs a larger machine"
            size = self.generator.config.resolution
            raise FaceganError(f"{count} faces of {size} px at once do not fit into memory: {advice}") from None


def batch_for(resolution: int) -> int:
    """Faces at once where nobody says: on two cores 8 of 64 px are four times as fast as one after the other."""
    return max(1, min(AT_ONCE, AT_ONCE_PIXELS // resolution**2))


def mix(draw: Renderer, rows: Sequence[Style], columns: Sequence[Style], recipe: Recipe) -> Mixes:
    """All pairs, as many at once as `draw` makes."""
    return Mixing(draw, rows, columns, recipe).collect()
