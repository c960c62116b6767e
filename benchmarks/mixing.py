"""Ways of mixing styles beside each other: the joint rate by a judge, and what is kept of the row.

    python benchmarks/mixing.py [--network synthetic64] [--styles DIR] [--judge RUN] [--softness S] [--rows N] [--cols N] [--pictures DIR]
        [--only WAY ...] [--refine STEPS] [--critics RUN]

Every bald face with every bearded one, by the shipped 64 px network or a folder like it, `DIR/bald.npz` and `DIR/beard.npz` or those beside
the network; with `--judge` those of a run's two attributes, by the judge of its data. Prints a table in Markdown; `--pictures` writes a
grid for each way. With `--refine` regional mixes by whole styles are followed by the same, refined by the critics of a run, by default the
network's own. Without `--judge` its first lines are of perfect mixes: synthetic faces drawn twice, without and with a beard.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints.critics import Critics, resized
from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import RunFolder
from facegan.data.attributes import names as attribute_names
from facegan.data.synthetic import FaceParameters, render, sample_parameters
from facegan.errors import FaceganError
from facegan.evaluation.evaluator import Evaluator
from facegan.evaluation.kept import HEADS, Kept, kept_by
from facegan.experiments.demo import settings
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.options import SYNTHETIC, MixOptions
from facegan.pixels import to_float
from facegan.plotting.sheets import save_png
from facegan.plotting.text import interval
from facegan.styles.masks import find_mask
from facegan.styles.mix import Mixing, Renderer, batch_for, chosen_recipe
from facegan.styles.recipe import Mask, Recipe
from facegan.styles.refine import Refiner
from facegan.styles.store import read_styles

DRAWN_SEED = 77
COLUMNS = "columns"  # the second attribute's mask or channels
IN_CHANNELS = dict(channels=COLUMNS, number=80)
WAYS: tuple[dict[str, Any], ...] = (  # as `facegan mix` is told them
    dict(layers="32-64px"),
    dict(mask="lower"),
    dict(mask="mouth"), dict(mask="mouth", layers="4-32px"),
    dict(mask=COLUMNS), dict(mask=COLUMNS, weight=1.5), dict(mode="regional", mask=COLUMNS, weight=1.5, **IN_CHANNELS),
    dict(mode="arithmetic", mask=COLUMNS, weight=2), dict(mode="arithmetic", mask=COLUMNS, weight=2, **IN_CHANNELS),
    dict(mode="arithmetic", mask=COLUMNS, weight=2, average=0.5), dict(mode="arithmetic", mask=COLUMNS, weight=3, average=1),
    dict(mode="arithmetic", mask="mouth", weight=3, average=1), dict(mode="arithmetic", mask=COLUMNS, weight=3, average=1, **IN_CHANNELS),
    dict(mode="stylespace", weight=1.5, **IN_CHANNELS), dict(mode="arithmetic", weight=2, average=1, **IN_CHANNELS),
)  # fmt: skip
DRAWN = "drawn: the same person with another's beard"


def recipes(folder: Path, config: StyleGAN2Config, names: Sequence[str], softness: float | None) -> list[Recipe]:
    """The recipe beside the network, if there is one, and those to compare it with, but for those whose mask or channels it lacks."""
    found: list[Recipe] = []
    for way in (dict(recipe="default"), *WAYS):
        given: dict[str, Any] = {key: names[1] if value == COLUMNS else value for key, value in way.items()}
        if softness is not None and given.get("mask"):
            given["softness"] = softness
        try:
            recipe = chosen_recipe(MixOptions(rows=(names[0],), cols=(names[1],), **given), config, folder)
        except FaceganError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if recipe not in found:
            found.append(recipe)
    return found


def drawn(rows: int, cols: int, resolution: int) -> tuple[Tensor, Tensor]:
    """What a perfect mix is: bald faces [R, 3, H, W], and each of them drawn again with each of the beards, [R * C, 3, H, W]."""
    bald: list[FaceParameters] = []
    bearded: list[FaceParameters] = []
    index = 0
    while len(bald) < rows or len(bearded) < cols:
        face = sample_parameters(DRAWN_SEED, index)
        if face.male and face.bald and face.hat == "none" and face.beard == "none":
            bald.append(face)
        elif not face.bald and face.attributes()["No_Beard"] == 0:
            bearded.append(face)
        index += 1
    faces = bald[:rows]
    mixed = [replace(face, beard=other.beard, beard_rgb=other.beard_rgb) for face in faces for other in bearded[:cols]]
    images, mixes = (np.stack([render(each, resolution) for each in group]).transpose(0, 3, 1, 2) for group in (faces, mixed))
    return to_float(images, torch.device("cpu")), to_float(mixes, torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default=SYNTHETIC)
    parser.add_argument("--styles", default="")
    parser.add_argument("--judge", default="", metavar="RUN")
    parser.add_argument("--softness", type=float)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--cols", type=int, default=24)
    parser.add_argument("--pictures", default="")
    parser.add_argument("--only", nargs="+", default=[], metavar="WAY", help="as the table names them")
    parser.add_argument("--refine", type=int, default=0, metavar="STEPS")
    parser.add_argument("--critics", default="", metavar="RUN")
    options = parser.parse_args()
    config = RunFolder(options.judge).config() if options.judge else settings(Path("demo"), 0, "best", "cpu")
    evaluator, names = Evaluator(config, device="cpu"), attribute_names(config.attributes)
    folder, generator = located(options.network), open_networks(options.network).generator()
    place = Path(options.styles) if options.styles else folder / "styles"
    rows, columns = (
        read_styles(place / f"{name}.npz", generator.config)[:count]
        for name, count in zip(names, (options.rows, options.cols), strict=True)
    )
    draw, resolution = Renderer(generator, batch=batch_for(generator.config.resolution)), generator.config.resolution
    row_of = torch.arange(len(rows)).repeat_interleave(len(columns))
    head = ["way", "joint rate", "normalised", *names, *HEADS]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")

    def show(name: str, images: Tensor, faces: Tensor, mask: Mask | None) -> None:
        small, own = (resized(each, evaluator.judge.resolution, "the judge") for each in (images, faces))
        seen = evaluator.score_samples(small.__getitem__, len(small), what="mixes")
        report = evaluator.measure(seen, own)
        of_row = kept_by(evaluator, seen, images, faces, row_of, mask.at(resolution) if mask else None)
        rates = [f"{report['joint']['rate']:.2f}", interval(report["normalised"]).split(" ")[0]]
        rates += [f"{report['marginals'][attribute]:.2f}" for attribute in report["attributes"]]
        print("| " + " | ".join([name, *rates, *Kept.cells(of_row.to_json())]) + " |", flush=True)

    if not options.judge:
        faces, images = drawn(len(rows), len(columns), resolution)
        for name in ("mouth", "beard"):
            show(f"{DRAWN}, under {name}", images, faces, find_mask(name, [folder / "masks"]))
    refine = Refiner(draw, Critics(options.critics or options.network, device="cpu"), options.refine) if options.refine else None
    found = recipes(folder, generator.config, names, options.softness)
    for recipe in [recipe for recipe in found if not options.only or recipe.describe() in options.only]:
        refined = [refine] if refine and recipe.mode == "regional" and recipe.mask and not recipe.channels else []
        for refiner in (None, *refined):
            mixes = Mixing(draw, rows, columns, recipe, refiner).collect()
            title = recipe.describe() + (f", refined in {options.refine} steps" if refiner else "")
            show(title, mixes.tensors.flatten(0, 1), mixes.rows, recipe.mask)
            if options.pictures:
                name = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in title)
                save_png(mixes.grid(), Path(options.pictures) / f"{name}.png")


if __name__ == "__main__":
    main()
