"""The command line: parse, call one function, turn a user's mistake into one sentence and exit status 2."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from facegan import __version__
from facegan.errors import FaceganError
from facegan.memory import keep_memory, out_of_memory
from facegan.networks import DRAWN
from facegan.training import config as training_config

TRAIN_EXAMPLES = """examples:
  facegan train --data synthetic --resolution 32 --phase1-epochs 60 --epochs 60 --out runs/first
  facegan train --data celeba.zip --attributes bald,beard --resolution 64 --out runs/celeba
  accelerate launch train.py --method a --data faces/ --attributes bald,beard,glasses --out runs/three
The same command again resumes a run that was stopped, at whatever moment. `--method b --help` has the flags of Method B."""
TRAIN_B_EXAMPLES = """examples:
  facegan train --method b --data synthetic --resolution 32 --kimg 100 --augment none --out runs/drawn
  facegan train --method b --data celeba.zip --attributes bald,beard --resolution 64 --out runs/styles
  facegan train --method b --data faces/ --resolution 256 --init-from ffhq256.pkl --freeze-d 4 --kimg 200 --out runs/transfer
  facegan train --method b --data faces/ --conditional --out runs/labels      (then: facegan generate runs/labels --label 1,1)
  accelerate launch train.py --method b --data faces/ --resolution 256 --mixed-precision bf16 --out runs/large
The same command again resumes a run; --kimg and --accumulate may change on the way."""
GENERATE_EXAMPLES = """examples:
  facegan generate runs/mine --seeds 0-63 --best 16 --out faces
  facegan generate ffhq.pkl --seeds 85,265,297 --truncation 0.7 --out faces      (the faces that its own code makes of these seeds)"""
CONVERT_EXAMPLES = """examples:
  facegan convert ffhq.pkl networks/ffhq          (then: facegan mix --network networks/ffhq ...)
  facegan convert runs/styles styles.pt           (for programs that read rosinality's checkpoints)
  facegan convert runs/styles shared --slim       (half the size, to pass on)"""


MIX_EXAMPLES = """examples:
  facegan mix --network net --rows 0-3 --cols 4-9 --layers 4-7 --out mixes
  facegan mix --network net --rows styles/bald --cols styles/beard --layers 32-64px --mode interpolate --weight 0.8 --out mixes
  facegan mix --network runs/b --rows styles/bald --cols styles/beard --search --attributes bald,beard --out search
  facegan mix --network net --rows 5-9 --cols 0-4 --recipe search/recipe.json --out mixes
  facegan mix --network net --rows 0-5 --truncation 0.7 --video walk.gif"""


PROJECT_EXAMPLES = """examples:
  facegan project --network net --target photo.jpg more-photos/ --out styles
  facegan project --network runs/b --attribute bald --num 32 --out styles/bald
  facegan project --network net --data celeba.zip --attributes bald,beard --attribute beard --num 32 --out styles/beard
The same command again goes on with what was stopped, at whatever moment."""

STYLES_EXAMPLES = """examples:
  facegan styles average styles/bald --out styles/bald.npz      (then: facegan edit photo.jpg --styles styles --add bald ...)
  facegan styles direction --positive styles/beard --negative styles/plain --out styles/beard.npz"""

EDIT_EXAMPLES = """examples:
  facegan edit photo.jpg --network net --styles styles --add beard --out edits
  facegan edit photo.jpg --network runs/b --styles styles --add bald --remove glasses --strength 0.8 --critics runs/b --out edits"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = vars(parser(sys.argv[1:] if argv is None else argv).parse_args(argv))
    command = arguments.pop("command")
    keep_memory()
    from facegan.training.loop import Interrupted

    try:
        command(arguments)
    except FaceganError as error:
        print(f"facegan: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = error.filename or "a file"
        print(f"facegan: {place}: {error.strerror or error}; make room, or name a place where you may read and write", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        print(f"facegan: {interruption}", file=sys.stderr)
        return 128 + interruption.signum
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        print("facegan: there is not enough memory for this; ask for fewer or smaller images at once", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("facegan: stopped", file=sys.stderr)
        return 130
    return 0


def parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """`facegan train` has the flags of the method that `argv` names."""
    root = argparse.ArgumentParser(
        prog="facegan", description="Faces that carry several chosen attributes at once, learned from faces that carry one each."
    )
    root.add_argument("--version", action="version", version=__version__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter

    method = training_config.named_method(argv)
    examples = {"a": TRAIN_EXAMPLES, "b": TRAIN_B_EXAMPLES}[method]
    train = commands.add_parser("train", help="train a generator, or resume one", epilog=examples, formatter_class=raw)
    training_config.add_arguments(train, method)
    train.set_defaults(command=run_train)

    generate = commands.add_parser("generate", help="make faces with a trained run or a StyleGAN2 network",
                                   epilog=GENERATE_EXAMPLES, formatter_class=raw)  # fmt: skip
    generate.add_argument("run", help="folder of `facegan train --out` or `facegan convert`, or a StyleGAN2 .pkl or .pt file")
    generate.add_argument("--seeds", default="0-15", help="which faces: 0-63, or 1,5,9 (default: %(default)s); one seed, one face")
    generate.add_argument("--out", required=True, help="folder for seed0000.png ... and grid.png")
    generate.add_argument("--stage", default="", help="a stage of the run, e.g. phase1 (default: its last generator)")
    generate.add_argument("--best", type=int, default=0, metavar="N", help="only the N that the run's critics score highest")
    generate.add_argument("--truncation", type=float, default=1.0, metavar="PSI",
                          help="StyleGAN2: below 1 trades variety for quality (default: %(default)s)")  # fmt: skip
    generate.add_argument("--noise-mode", choices=("const", "random", "none"), default="const", help="StyleGAN2 (default: %(default)s)")
    generate.add_argument("--label", default="", help="conditional StyleGAN2: one number a label, e.g. 1,1 (in the order of --attributes)")
    generate.set_defaults(command=run_generate)

    convert = commands.add_parser("convert", help="read a StyleGAN2 checkpoint of NVIDIA's or rosinality's; none of its code is run",
                                  epilog=CONVERT_EXAMPLES, formatter_class=raw)  # fmt: skip
    convert.add_argument("source", metavar="IN", help=".pkl (stylegan2-ada-pytorch, stylegan3 --cfg=stylegan2), .pt, or a folder of ours")
    convert.add_argument("out", metavar="OUT", help="folder for model.safetensors and config.json, or FILE.pt in rosinality's form")
    convert.add_argument("--slim", action="store_true", help="to pass on: averaged generator, discriminator in half precision")
    convert.set_defaults(command=run_convert)

    evaluate = commands.add_parser("evaluate", help="measure a run by the independent judge")
    evaluate.add_argument("run", help="folder that `facegan train --out` made")
    evaluate.add_argument("--data", default="", help="data of the reference and the judge (default: the run's own)")
    evaluate.add_argument("--stage", default="", help="a stage of the run, e.g. phase1 (default: its last generator)")
    evaluate.add_argument("--samples", type=int, default=1024, help="faces to rate (default: %(default)s)")
    evaluate.add_argument("--judge", default="", help="folder with a trained judge (default: train one, or take it from the cache)")
    evaluate.add_argument("--out", default="", help="folder for report.json and report.png (default: RUN/evaluation[-STAGE])")
    evaluate.set_defaults(command=run_evaluate)

    mix = commands.add_parser("mix", help="mix styles of a StyleGAN2 network, or search how to", epilog=MIX_EXAMPLES, formatter_class=raw)
    add_mix_arguments(mix)

    project = commands.add_parser("project", help="photos to styles of a StyleGAN2 network", epilog=PROJECT_EXAMPLES, formatter_class=raw)
    add_project_arguments(project)

    styles = commands.add_parser("styles", help="average styles, make directions of them, list them",
                                 epilog=STYLES_EXAMPLES, formatter_class=raw)  # fmt: skip
    add_styles_commands(styles)

    edit = commands.add_parser("edit", help="add attributes to a photo, or remove them", epilog=EDIT_EXAMPLES, formatter_class=raw)
    add_edit_arguments(edit)

    add_data_commands(commands.add_parser("data", help="look at a data set, or draw one"))

    demo = commands.add_parser("demo", help="Method A on drawn faces, small, and mixed styles, with the table that proves them")
    demo.add_argument("--out", default="runs/demo", help="folder (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="of everything (default: %(default)s)")
    demo.set_defaults(command=run_demo)
    return root


def add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", default=DRAWN, help="folder of `facegan convert` or `train --method b`, or a StyleGAN2 .pkl or .pt "
                        "(default: %(default)s, a small one of drawn faces that comes with the package)")  # fmt: skip


def add_mix_arguments(mix: argparse.ArgumentParser) -> None:
    add_network(mix)
    styles = "seeds (3, 0-7), .npz files, folders of them, or names of styles"
    mix.add_argument("--rows", nargs="+", required=True, metavar="STYLE", help=f"what the columns are mixed into: {styles}")
    mix.add_argument("--cols", nargs="+", default=(), metavar="STYLE", help="what is mixed in, named likewise")
    mix.add_argument("--out", default="", help="folder for grid.png, row-NAME_col-NAME.png and recipe.json")
    mix.add_argument("--layers", default="", help="layers that the column joins: 4-7, 4,6, all, or by size (default: 32-64px)")
    mix.add_argument("--mode", choices=("crossover", "interpolate", "arithmetic"),
                     help="crossover: the column's style; interpolate: between both; arithmetic: what the column has beyond "
                     "the mean face is added (default: crossover; --search: whatever is best)")  # fmt: skip
    mix.add_argument("--weight", type=float, help="of the column in these layers (default: 1)")
    mix.add_argument("--weights", default="", metavar="LAYER:WEIGHT,...", help="a weight per layer, e.g. 4:0.5,5-7:1, instead of --layers")
    mix.add_argument("--recipe", default="", metavar="FILE", help="mode and weights from a recipe.json, e.g. of --search")
    mix.add_argument("--truncation", type=float, default=1.0, metavar="PSI", help="of seeds (default: %(default)s)")
    mix.add_argument("--noise-mode", choices=("const", "random", "none"), default="const", help="(default: %(default)s)")
    mix.add_argument("--styles", default="", metavar="DIR", help="folder in which styles are looked up by name")
    mix.add_argument("--batch", type=int, default=32, help="faces at once in a search (default: %(default)s)")
    video = mix.add_argument_group("video")
    video.add_argument("--video", default="", metavar="FILE", help="a smooth loop through the rows, .gif or .mp4")
    video.add_argument("--frames", type=int, default=30, help="from each style to the next (default: %(default)s)")
    video.add_argument("--fps", type=float, default=24.0, help="frames a second (default: %(default)s)")
    search = mix.add_argument_group("search", "layers and weights with which most mixes carry all attributes, by critics")
    search.add_argument("--search", action="store_true", help="rows carry attribute 1, columns attribute 2; writes recipe.json, table.md")
    search.add_argument("--attributes", default="", help="those of the critics' run in another order: rows, columns (default: its own)")
    search.add_argument("--critics", default="", metavar="RUN", help="run whose critics choose (default: --network, if it is a run)")
    search.add_argument("--data", default="", help="data of the judge (default: those of the critics' run)")
    search.add_argument("--judge", default="", help="folder with a trained judge (default: train one, or take it from the cache)")
    search.add_argument("--num-random", type=int, default=8, help="random ranges of layers to compare with (default: %(default)s)")
    search.add_argument("--pairs", type=int, default=128, help="most pairs to search with, and to report on (default: %(default)s)")
    search.add_argument("--seed", type=int, default=0, help="of the division of the styles (default: %(default)s)")
    mix.set_defaults(command=run_mix)


def add_project_arguments(project: argparse.ArgumentParser) -> None:
    add_network(project)
    project.add_argument("--target", nargs="+", default=(), metavar="PHOTO", help="photos, or folders of them")
    project.add_argument("--out", default="styles", help="folder for NAME.npz, NAME.png and projection.png (default: %(default)s)")
    add_projection_settings(project)
    project.add_argument("--batch", type=int, default=8, help="photos at once, none of which depends on the others (default: %(default)s)")
    labelled = project.add_argument_group("instead of --target", "faces with one attribute and none of the others, never a joint one")
    labelled.add_argument("--attribute", default="", metavar="NAME", help="the attribute")
    labelled.add_argument("--num", type=int, default=16, help="how many faces, picked at random (default: %(default)s)")
    labelled.add_argument("--data", default="", help="folder or .zip of labelled faces, or 'synthetic' (default: the network's own)")
    labelled.add_argument("--attributes", default="", help="all attributes of the task (default: those of the run, else bald,beard)")
    project.set_defaults(command=run_project)


def add_projection_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--space", choices=("w", "w+"), default="w", help="w: one style for all layers, mixes best; "
                        "w+: one for each layer, nearer to the photo (default: %(default)s)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def add_styles_commands(styles: argparse.ArgumentParser) -> None:
    commands = styles.add_subparsers(required=True, metavar="COMMAND")
    files = ".npz files, or folders of them"
    average = commands.add_parser("average", help="the mean of styles: what they have in common")
    average.add_argument("sources", nargs="+", metavar="STYLE", help=files)
    average.add_argument("--out", required=True, metavar="FILE.npz", help="the mean, as key w")
    average.set_defaults(command=run_average)

    collect = commands.add_parser("collect", help="several styles in one file: a name for all of them")
    collect.add_argument("sources", nargs="+", metavar="STYLE", help=files)
    collect.add_argument("--out", required=True, metavar="FILE.npz", help="all of them, as key w")
    collect.set_defaults(command=run_collect)

    direction = commands.add_parser("direction", help="the way to an attribute, for `facegan edit`")
    direction.add_argument("--positive", nargs="+", required=True, metavar="STYLE", help=f"styles with the attribute: {files}")
    direction.add_argument("--negative", nargs="+", default=(), metavar="STYLE", help="styles without it, alike in everything else")
    direction.add_argument("--network", default="", help="instead of --negative: away from this network's mean style")
    direction.add_argument("--out", required=True, metavar="FILE.npz", help="the difference of the means, as key direction")
    direction.set_defaults(command=run_direction)

    listing = commands.add_parser("list", help="what a folder of styles holds")
    listing.add_argument("folder", metavar="DIR")
    listing.add_argument("--network", default="", help="tells the distance of each style to this network's mean style")
    listing.set_defaults(command=run_listing)


def add_edit_arguments(edit: argparse.ArgumentParser) -> None:
    edit.add_argument("photo", metavar="PHOTO")
    add_network(edit)
    names = "a direction or averaged style: a .npz file, or its name in --styles"
    edit.add_argument("--add", nargs="+", default=(), metavar="NAME", help=names)
    edit.add_argument("--remove", nargs="+", default=(), metavar="NAME", help="likewise")
    edit.add_argument("--strength", type=float, default=1.0, metavar="S", help="1: all the way, more exaggerates (default: %(default)s)")
    edit.add_argument("--layers", default="", help="layers that are edited: 4-7, 4,6, all, or by size, 32-64px (default: all)")
    edit.add_argument("--styles", default="", metavar="DIR", help="folder in which names are looked up (default: those beside the network)")
    edit.add_argument("--critics", default="", metavar="RUN", help="run whose critics rate the edit (default: --network, if it is a run)")
    edit.add_argument("--out", default="edits", help="folder for the projection, the edit, edit.png and edit.json (default: %(default)s)")
    add_projection_settings(edit)
    edit.set_defaults(command=run_edit)


def add_data_commands(data: argparse.ArgumentParser) -> None:
    commands = data.add_subparsers(required=True, metavar="COMMAND")
    inspect = commands.add_parser("inspect", help="what each selector finds in a data set")
    inspect.add_argument("data", help="folder or .zip of labelled faces, or 'synthetic'")
    inspect.add_argument("--attributes", default="bald,beard", help="attributes, in order (default: %(default)s)")
    inspect.add_argument("--check-images", action="store_true", help="decode every image and count the unreadable ones")
    inspect.set_defaults(command=run_inspect)

    synth = commands.add_parser("synth", help="draw faces with known attributes, in CelebA's layout")
    synth.add_argument("--num", type=int, default=1000, help="how many (default: %(default)s)")
    synth.add_argument("--resolution", type=int, default=64, help="pixels (default: %(default)s)")
    synth.add_argument("--seed", type=int, default=0, help="which faces (default: %(default)s)")
    synth.add_argument("--out", required=True, help="folder to write")
    synth.set_defaults(command=run_synth)


def run_train(arguments: dict) -> None:
    from facegan.training.session import run

    run(training_config.from_arguments(arguments))


def run_generate(arguments: dict) -> None:
    from facegan.generate import generate

    generate(**arguments)


def run_convert(arguments: dict) -> None:
    from facegan.checkpoints.networks import convert

    convert(**arguments)


def run_evaluate(arguments: dict) -> None:
    from facegan.evaluate import evaluate

    evaluate(**arguments)


def run_mix(arguments: dict) -> None:
    from facegan.styles.mix import Request, mix

    mix(Request(**arguments))


def run_project(arguments: dict) -> None:
    from facegan.styles.project import Request, project

    project(Request(**arguments))


def run_collect(arguments: dict) -> None:
    from facegan.styles.directions import collect

    collect(**arguments)


def run_average(arguments: dict) -> None:
    from facegan.styles.directions import average

    average(**arguments)


def run_direction(arguments: dict) -> None:
    from facegan.styles.directions import direction

    direction(**arguments)


def run_listing(arguments: dict) -> None:
    from facegan.styles.directions import listing

    listing(**arguments)


def run_edit(arguments: dict) -> None:
    from facegan.styles.edit import Request, edit

    edit(Request(**arguments))


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


if __name__ == "__main__":
    sys.exit(main())
