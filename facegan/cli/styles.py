"""`facegan mix`, `project`, `styles`, `edit`: styles of StyleGAN2 networks."""

from __future__ import annotations

import argparse
from typing import Any

from facegan.cli.options import RAW, add_device
from facegan.networks import DRAWN
from facegan.training.config import finite

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


def add_commands(commands: Any) -> None:
    mix = commands.add_parser("mix", help="mix styles of a StyleGAN2 network, or search how to", epilog=MIX_EXAMPLES, formatter_class=RAW)
    add_mix_arguments(mix)

    project = commands.add_parser("project", help="photos to styles of a StyleGAN2 network", epilog=PROJECT_EXAMPLES, formatter_class=RAW)
    add_project_arguments(project)

    styles = commands.add_parser("styles", help="average styles, make directions of them, list them",
                                 epilog=STYLES_EXAMPLES, formatter_class=RAW)  # fmt: skip
    add_styles_commands(styles)

    edit = commands.add_parser("edit", help="add attributes to a photo, or remove them", epilog=EDIT_EXAMPLES, formatter_class=RAW)
    add_edit_arguments(edit)


def add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", default=DRAWN, help="folder of `facegan convert` or `train --method b`, or a StyleGAN2 .pkl or .pt "
                        "(default: %(default)s, a small one of drawn faces that comes with the package)")  # fmt: skip


def add_mix_arguments(mix: argparse.ArgumentParser) -> None:
    add_network(mix)
    styles = "seeds (3, 0-7), .npz files, folders of them, .npy or .pt of other projects, or names of styles"
    mix.add_argument("--rows", nargs="+", required=True, metavar="STYLE", help=f"what the columns are mixed into: {styles}")
    mix.add_argument("--cols", nargs="+", default=(), metavar="STYLE", help="what is mixed in, named likewise")
    mix.add_argument("--out", default="", help="folder for grid.png, row-NAME_col-NAME.png and recipe.json")
    mix.add_argument("--layers", default="", help="layers that the column joins: 4-7, 4,6, all, or by size (default: 32-64px)")
    mix.add_argument("--mode", choices=("crossover", "interpolate", "arithmetic"),
                     help="crossover: the column's style; interpolate: between both; arithmetic: what the column has beyond "
                     "the mean face is added (default: crossover; --search: whatever is best)")  # fmt: skip
    mix.add_argument("--weight", type=finite, help="of the column in these layers (default: 1)")
    mix.add_argument("--weights", default="", metavar="LAYER:WEIGHT,...", help="a weight per layer, e.g. 4:0.5,5-7:1, instead of --layers")
    mix.add_argument("--recipe", default="", metavar="FILE", help="mode and weights from a recipe.json, e.g. of --search")
    mix.add_argument("--truncation", type=finite, default=1.0, metavar="PSI", help="of seeds (default: %(default)s)")
    mix.add_argument("--noise-mode", choices=("const", "random", "none"), default="const", help="(default: %(default)s)")
    mix.add_argument("--styles", default="", metavar="DIR", help="folder in which styles are looked up by name")
    add_device(mix, graphs=True)
    mix.add_argument("--batch", type=int, default=32, help="faces at once in a search (default: %(default)s)")
    video = mix.add_argument_group("video")
    video.add_argument("--video", default="", metavar="FILE", help="a smooth loop through the rows, .gif or .mp4")
    video.add_argument("--frames", type=int, default=30, help="from each style to the next (default: %(default)s)")
    video.add_argument("--fps", type=finite, default=24.0, help="frames a second (default: %(default)s)")
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
    add_device(project, graphs=True)
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
    files = ".npz files, folders of them, or .npy and .pt of other projects"
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
    edit.add_argument("--strength", type=finite, default=1.0, metavar="S", help="1: all the way, more exaggerates (default: %(default)s)")
    edit.add_argument("--layers", default="", help="layers that are edited: 4-7, 4,6, all, or by size, 32-64px (default: all)")
    edit.add_argument("--styles", default="", metavar="DIR", help="folder in which names are looked up (default: those beside the network)")
    edit.add_argument("--critics", default="", metavar="RUN", help="run whose critics rate the edit (default: --network, if it is a run)")
    edit.add_argument("--out", default="edits", help="folder for the projection, the edit, edit.png and edit.json (default: %(default)s)")
    add_projection_settings(edit)
    add_device(edit, graphs=True)
    edit.set_defaults(command=run_edit)


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
