"""`facegan evaluate`, `demo`, `data`: what there is, and how good it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from facegan.cli.options import RAW, add_device

EVALUATE_EXAMPLES = """examples:
  facegan evaluate runs/demo/method_a                       (joint rate between floor and ceiling, quality, diversity, what else changes)
  facegan evaluate runs/demo/method_a --restore drawn128    (does restoration shave beards?)
  facegan evaluate runs/restore                             (PSNR of restored faces, beside Lanczos and non-local means)
  facegan evaluate GPEN-BFR-512.pth --data faces.zip
  torchrun --nproc_per_node 4 -m facegan.cli evaluate runs/large --samples 50000"""


def add_commands(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a run by the independent judge, or a restorer by faces as they were",
                                   epilog=EVALUATE_EXAMPLES, formatter_class=RAW)  # fmt: skip
    evaluate.add_argument("run", help="folder that `facegan train --out` made, or a restorer's weights")
    evaluate.add_argument("--data", default="", help="data of the reference and the judge (default: the run's own)")
    evaluate.add_argument("--stage", default="", help="a stage of the run, e.g. phase1 (default: its last generator)")
    evaluate.add_argument("--samples", type=int, default=1024, help="faces to rate (default: %(default)s; of a restorer at most 512)")
    evaluate.add_argument("--judge", default="", help="folder with a trained judge (default: train one, or take it from the cache)")
    evaluate.add_argument("--weights", default="", metavar="FILE", help="Inception's weights, for KID and FID (default: go without)")
    evaluate.add_argument("--lpips", default="", metavar="FILE", help="VGG16's weights, for LPIPS (default: torch.hub's, if there)")
    evaluate.add_argument("--restore", default="", metavar="W", help="rate the faces before and after restoration by these weights")
    evaluate.add_argument("--floor", default="", metavar="RUN", help="take the floor from this run's phase 1 (default: the run's own)")
    evaluate.add_argument("--out", default="", help="folder for report.json and pictures (default: RUN/evaluation[-STAGE], or evaluation)")
    add_device(evaluate)
    evaluate.set_defaults(command=run_evaluate)

    add_data_commands(commands.add_parser("data", help="look at a data set, or draw one"))

    demo = commands.add_parser("demo", help="Method A on drawn faces, small, styles mixed, faces restored, and the table that proves it")
    demo.add_argument("--out", default="runs/demo", help="folder (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="of everything (default: %(default)s)")
    add_device(demo)
    demo.set_defaults(command=run_demo)


def add_data_commands(data: argparse.ArgumentParser) -> None:
    commands = data.add_subparsers(required=True, metavar="COMMAND")
    inspect = commands.add_parser("inspect", help="what each selector finds in a data set")
    inspect.add_argument("data", help="folder or .zip of labelled faces (docs/data.md), or 'synthetic'")
    inspect.add_argument("--attributes", default="bald,beard", help="attributes, in order (default: %(default)s)")
    inspect.add_argument("--check-images", action="store_true", help="decode every image, name those that cannot be read")
    inspect.set_defaults(command=run_inspect)

    synth = commands.add_parser("synth", help="draw faces with known attributes, in CelebA's layout")
    synth.add_argument("--num", type=int, default=1000, help="how many (default: %(default)s)")
    synth.add_argument("--resolution", type=int, default=64, help="pixels (default: %(default)s)")
    synth.add_argument("--seed", type=int, default=0, help="which faces (default: %(default)s)")
    synth.add_argument("--out", required=True, help="folder to write")
    synth.set_defaults(command=run_synth)


def run_evaluate(arguments: dict) -> None:
    from facegan.evaluate import evaluate

    evaluate(**arguments)


def run_inspect(arguments: dict) -> None:
    from facegan.data.inspect import inspect

    print(inspect(**arguments))


def run_synth(arguments: dict) -> None:
    from facegan.data.synthetic import write_celeba_layout

    out = Path(arguments.pop("out"))
    write_celeba_layout(out, **arguments)
    print(out)


def run_demo(arguments: dict) -> None:
    from facegan.demo import demo

    demo(**arguments)
