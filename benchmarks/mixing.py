"""Ways of mixing the styles that come with the package, beside each other: the joint rate by the demo's judge, and what is kept of the row.

    python benchmarks/mixing.py [--network synthetic64] [--rows 24] [--cols 24] [--pictures DIR]

Every bald face with every bearded one, by the shipped 64 px network or a folder like it. Prints a table in Markdown; `--pictures` writes a
grid for each way.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from facegan.checkpoints.critics import resized
from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.pretrained import located
from facegan.evaluation.evaluator import Evaluator
from facegan.evaluation.kept import HEADS, Kept, kept_by
from facegan.experiments.demo import settings
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.options import SYNTHETIC
from facegan.plotting.sheets import save_png
from facegan.plotting.text import interval
from facegan.styles.channels import find_channels
from facegan.styles.masks import find_mask
from facegan.styles.mix import Renderer, batch_for, mix
from facegan.styles.recipe import Mode, Recipe, start_layers, uniform
from facegan.styles.store import read_styles

WAYS: tuple[tuple[Mode, str, int, float, float], ...] = (  # mode, mask, channels of the beard (0: all), weight, average
    ("crossover", "", 0, 1, 0), ("regional", "lower", 0, 1, 0), ("regional", "mouth", 0, 1, 0), ("regional", "beard", 0, 1, 0),
    ("regional", "beard", 0, 1.5, 0), ("regional", "beard", 80, 1.5, 0), ("arithmetic", "beard", 0, 2, 0),
    ("arithmetic", "beard", 80, 2, 0), ("arithmetic", "beard", 0, 2, 0.5), ("arithmetic", "beard", 0, 3, 1),
    ("arithmetic", "mouth", 0, 3, 1), ("arithmetic", "beard", 80, 3, 1), ("stylespace", "", 80, 1.5, 0), ("arithmetic", "", 80, 2, 1),
)  # fmt: skip


def recipes(folder: Path, config: StyleGAN2Config, fixed: list[int]) -> list[Recipe]:
    """The recipe beside the network, and those to compare it with."""
    every, made = range(config.num_ws), []
    for mode, name, number, weight, average in WAYS:
        mask = find_mask(name, [folder / "masks"]) if name else None
        channels = find_channels("beard", [folder / "channels"], config).first(number) if number else ()
        simple = uniform(mode, every if mask or channels else fixed, config.num_ws, weight, mask, channels)
        made.append(replace(simple, average=average))
    beside = Recipe.read(folder / "recipe.json", config.num_ws, config)
    return [*([] if beside in made else [beside]), *made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default=SYNTHETIC)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--cols", type=int, default=24)
    parser.add_argument("--pictures", default="")
    options = parser.parse_args()
    evaluator = Evaluator(settings(Path("demo"), 0, "best", "cpu"), device="cpu")
    folder, generator = located(options.network), open_networks(options.network).generator()
    bald, beard = (read_styles(folder / "styles" / f"{name}.npz", generator.config) for name in ("bald", "beard"))
    rows, columns = bald[: options.rows], beard[: options.cols]
    draw, size = Renderer(generator, batch=batch_for(generator.config.resolution)), evaluator.judge.resolution
    row_of = torch.arange(len(rows)).repeat_interleave(len(columns))
    head = ["way", "joint rate", "normalised", "bald", "beard", *HEADS]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for recipe in recipes(folder, generator.config, start_layers(generator.config)[1]):
        mixes = mix(draw, rows, columns, recipe)
        images = mixes.tensors.flatten(0, 1)
        small = resized(images, size, "the judge")
        seen = evaluator.score_samples(small.__getitem__, len(small), what="mixes")
        report = evaluator.measure(seen, resized(mixes.rows, size, "the judge"))
        mask = recipe.mask.at(generator.config.resolution) if recipe.mask else None
        of_row = kept_by(evaluator, seen, images, mixes.rows, row_of, mask)
        rates = [f"{report['joint']['rate']:.2f}", interval(report["normalised"]).split(" ")[0]]
        rates += [f"{report['marginals'][name]:.2f}" for name in report["attributes"]]
        keeps = Kept.cells(of_row.to_json())
        print("| " + " | ".join([recipe.describe(), *rates, *keeps]) + " |", flush=True)
        if options.pictures:
            name = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in recipe.describe())
            save_png(mixes.grid(), Path(options.pictures) / f"{name}.png")


if __name__ == "__main__":
    main()
