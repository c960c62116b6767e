"""`facegan mix`: all pairs of two lists of styles as a picture and images, a walk through styles, or the search for a recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.networks import open_networks
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.generators import random_noise
from facegan.graphs import Graphed
from facegan.memory import out_of_memory
from facegan.models.stylegan2 import Generator, NoiseMode, StyleGAN2Config
from facegan.networks import located
from facegan.styles import video
from facegan.styles.grid import grid
from facegan.styles.recipe import Mode, Recipe, mixed, parse_layers, parse_weights, start_layers, uniform
from facegan.styles.store import Style, resolve
from facegan.training.pictures import save_png, to_pil

log = logging.getLogger("facegan.styles")

MOST_PAIRS = 2500  # of a picture


@dataclass(frozen=True)
class Request:
    """What the command line asks for; the flags are described there."""

    network: str
    rows: Sequence[str]
    cols: Sequence[str] = ()
    out: str = ""
    layers: str = ""
    mode: Mode | None = None
    weight: float | None = None
    weights: str = ""
    recipe: str = ""
    truncation: float = 1.0
    noise_mode: NoiseMode = "const"
    styles: str = ""
    batch: int = 32
    video: str = ""
    frames: int = 30
    fps: float = 24.0
    search: bool = False
    attributes: str = ""
    critics: str = ""
    data: str = ""
    judge: str = ""
    num_random: int = 8
    pairs: int = 128
    seed: int = 0
    device: str = AUTO
    cuda_graphs: str = "auto"


def mix(request: Request) -> None:
    """Do what is asked; everything that can be refused is refused before the first face is made."""
    check(request)
    device = resolve_device(request.device)
    networks = open_networks(request.network)
    generator = networks.generator().to(device)
    recipe = chosen_recipe(request, generator.config)
    libraries = [Path(request.styles)] * bool(request.styles) + [located(request.network) / "styles"]
    rows, columns = (distinct(resolve(tokens, generator, libraries, request.truncation)) for tokens in (request.rows, request.cols))
    draw = Renderer(generator, request.noise_mode, cuda_graphs=request.cuda_graphs)
    if request.video:
        write_walk(request, draw, rows)
    if request.search:
        from facegan.styles.table import search_and_compare

        search_and_compare(request, networks, generator, rows, columns, recipe)
    elif columns:
        write_pairs(Path(request.out), draw, rows, columns, recipe)


def check(request: Request) -> None:
    """The flags against each other."""
    if not request.cols and (request.search or not request.video):
        raise FaceganError("--cols is missing: name the styles to mix the rows with, e.g. --cols 4-7 (only --video goes without)")
    if request.cols and not request.out:
        raise FaceganError("--out is missing: name the folder for grid.png and the images, e.g. --out mixes")
    given = [name for name in ("layers", "mode", "weight", "weights") if getattr(request, name) not in ("", None)]
    if request.recipe and given:
        raise FaceganError(f"--recipe holds mode and weights already: drop --{' and --'.join(given)}")
    if request.weights and {"layers", "weight"} & {*given}:
        raise FaceganError("--weights names its layers and their weights: drop --layers and --weight")
    for name in ("batch", "num_random", "pairs"):
        if getattr(request, name) < 1:
            raise FaceganError(f"--{name.replace('_', '-')} is {getattr(request, name)}: expected at least 1")


def chosen_recipe(request: Request, config: StyleGAN2Config) -> Recipe:
    """The recipe that is asked for; without a word on layers, the one beside the network or else METHOD's start, which is then said."""
    beside = located(request.network) / "recipe.json"
    if request.recipe:
        return Recipe.read(request.recipe, config.num_ws)
    if beside.exists() and not (request.search or request.mode or request.weights or request.layers or request.weight):
        recipe = Recipe.read(beside, config.num_ws)
        log.info("the network's own recipe: %s", recipe.describe())
        return recipe
    mode = request.mode or "crossover"
    if request.weights:
        return Recipe(mode, parse_weights(request.weights, config))
    if request.layers:
        layers = parse_layers(request.layers, config)
    else:
        text, layers = start_layers(config)
        log.info("no --layers: the columns' styles go to those of %s, layers %d-%d of 0-%d", text, layers[0], layers[-1], config.num_ws - 1)
    return uniform(mode, layers, config.num_ws, 1.0 if request.weight is None else request.weight)


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
    """Styles [N, num_ws, w_dim] -> images float32 [N, 3, R, R] on the CPU, by a generator where that is.

    With `batch` 1 a style is the same image to the last bit whatever stands beside it, on a CPU; random noise is the same for all then.
    """

    def __init__(self, generator: Generator, noise_mode: NoiseMode = "const", batch: int = 1, cuda_graphs: str = "auto") -> None:
        self.generator, self.noise_mode, self.batch = generator, noise_mode, batch
        self.w_avg, self.device = generator.mapping.w_avg.cpu(), generator.mapping.w_avg.device
        self.graphed = Graphed(self._synthesis, self.device, cuda_graphs, name="the generator")

    def _synthesis(self, ws: Tensor, noise: Tensor | None) -> Tensor:
        image: Tensor = self.generator.synthesis(ws, self.noise_mode, noise=noise)
        return image

    @torch.no_grad()
    def __call__(self, ws: Tensor) -> Tensor:
        images, config = [], self.generator.config
        for part in ws.split(self.batch):
            try:
                noise = random_noise(config, self.noise_mode, len(part), self.device, seed=0)
                images.append(self.graphed(part, noise).float().cpu())
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                advice = f"name a smaller one, such as --batch {len(part) // 2}" if len(part) > 1 else "this network needs a larger machine"
                raise FaceganError(f"{len(part)} faces of {config.resolution} px at once do not fit into memory: {advice}") from None
        return torch.cat(images)


def render_pairs(draw: Renderer, rows: Sequence[Style], columns: Sequence[Style], recipe: Recipe) -> tuple[Tensor, Tensor, Tensor]:
    """One after the other: the sources' images [R, 3, H, W] and [C, 3, H, W], and the mixes' [R, C, 3, H, W]."""
    count = len(rows) * len(columns)
    if count > MOST_PAIRS:
        raise FaceganError(f"{len(rows)} rows and {len(columns)} columns make {count} faces: expected at most {MOST_PAIRS}")
    row_ws, column_ws = stacked(rows), stacked(columns)
    ws = mixed(row_ws[:, None], column_ws[None], recipe, draw.w_avg)
    everything = tqdm(torch.cat([row_ws, column_ws, ws.flatten(0, 1)]), desc="faces", unit="face")
    images = torch.cat([draw(w[None]) for w in everything])
    row_images, column_images, mixes = images.split([len(rows), len(columns), count])
    return row_images, column_images, mixes.unflatten(0, (len(rows), len(columns)))


def picture(draw: Renderer, rows: Sequence[Style], columns: Sequence[Style], recipe: Recipe) -> Image.Image:
    """The grid of all pairs."""
    images = render_pairs(draw, rows, columns, recipe)
    return grid(*images, [style.name for style in rows], [style.name for style in columns])


def write_pairs(out: Path, draw: Renderer, rows: Sequence[Style], columns: Sequence[Style], recipe: Recipe) -> None:
    """`row-NAME_col-NAME.png` of every pair, `grid.png`, and `recipe.json` to make the same again."""
    row_images, column_images, mixes = render_pairs(draw, rows, columns, recipe)
    for row, images in zip(rows, mixes, strict=True):
        for column, image in zip(columns, images, strict=True):
            save_png(to_pil(image), out / f"row-{row.name}_col-{column.name}.png")
    save_png(grid(row_images, column_images, mixes, [row.name for row in rows], [column.name for column in columns]), out / "grid.png")
    recipe.write(out / "recipe.json")
    print(recipe.describe())
    print(out / "grid.png")


def write_walk(request: Request, draw: Renderer, styles: Sequence[Style]) -> None:
    """The video through the rows."""
    path = Path(request.video)
    video.check_video(path, len(styles), request.frames, request.fps)
    ws = video.walk(stacked(styles), request.frames)

    def pictures() -> Iterator[Image.Image]:
        for w in tqdm(ws, desc="frames", unit="frame"):
            yield to_pil(draw(w[None])[0]).convert("RGB")

    video.write_video(path, pictures(), request.fps)
    print(path)
