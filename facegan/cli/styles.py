"""`facegan mix`, `mix-search`, `walk`, `project`, `edit`, `styles ...`: styles of StyleGAN2 networks."""

from __future__ import annotations

from typing import Any

from facegan import options as o
from facegan.cli.command import Command, network

MIX_EXAMPLES = """examples:
  facegan mix --rows bald --cols beard --out mixes                    (the network's own recipe, or the column's lower half)
  facegan mix --network net --rows 0-3 --cols 4-9 --mask mouth --softness 0.03 --out mixes
  facegan mix --network net --rows 0-3 --cols 4-9 --layers 4-7 --out mixes
  facegan mix --rows bald --cols beard --mode stylespace --number 40 --weight 1.5 --out mixes
  facegan mix --network net --rows styles/bald --cols styles/beard --layers 32-64px --mode interpolate --weight 0.8 --out mixes
  facegan mix --network net --rows 5-9 --cols 0-4 --recipe search/recipe.json --out mixes"""

SEARCH_EXAMPLES = """examples:
  facegan mix-search --network runs/b --rows styles/bald --cols styles/beard --attributes bald,beard --out search
  facegan mix --network runs/b --rows styles/bald --cols styles/beard --recipe search/recipe.json --out mixes"""

WALK_EXAMPLES = """examples:
  facegan walk --rows bald beard --out walk.gif
  facegan walk --network net --rows 0-5 --truncation 0.7 --fps 30 --out walk.mp4"""

PROJECT_EXAMPLES = """examples:
  facegan project --network net --target photo.jpg more-photos/ --out styles
  facegan project --network runs/b --attribute bald --num 32 --out styles/bald
  facegan project --network net --data celeba.zip --attributes bald,beard --attribute beard --num 32 --out styles/beard
The same command again resumes what was stopped, at whatever moment."""

STYLES_EXAMPLES = """examples:
  facegan styles average styles/bald --out styles/bald.npz      (then: facegan edit photo.jpg --styles styles --add bald ...)
  facegan styles collect styles/beard --best 24 --out net/styles/beard.npz             (then: facegan mix --network net --cols beard ...)
  facegan styles direction --positive styles/beard --negative styles/plain --out styles/beard.npz
  facegan styles mask --network runs/b                    (then: facegan mix --network runs/b --mode regional --mask beard ...)
  facegan styles channels --network runs/b --attributes beard   (then: facegan mix --network runs/b --channels beard ...)"""

EDIT_EXAMPLES = """examples:
  facegan edit photo.jpg --network net --styles styles --add beard --out edits
  facegan edit family.jpg --network net --styles styles --add beard --paste --out edits      (the largest face, put back into the photo)
  facegan edit photo.jpg --network runs/b --styles styles --add bald --remove glasses --strength 0.8 --critics runs/b --out edits"""


def run_mix(values: dict[str, Any]) -> None:
    """Mix and write the pictures."""
    options = o.Mix(**values)
    mixing = network(options).mixing(**o.of(options, o.MixOptions))
    print(mixing.recipe.describe() + (f", refined in {options.refine} steps" if options.refine else ""))
    print(mixing.save(options.out))


def run_search(values: dict[str, Any]) -> None:
    """Search for a recipe and write what was found."""
    options = o.MixSearch(**values)
    found = network(options).search_recipe(out=options.out, **o.of(options, o.SearchOptions))
    print(found.text)
    print(found.folder / "table.md")


def run_walk(values: dict[str, Any]) -> None:
    """Write the video of a walk."""
    options = o.Walk(**values)
    walk = network(options).walk(out=options.out, fps=options.fps, **o.of(options, o.WalkOptions))
    print(walk)


def run_project(values: dict[str, Any]) -> None:
    """Project photos into a folder of styles; those that had to be left out are told once the others are written."""
    from facegan.styles.project import left_out

    options = o.Project(**values)
    styles = network(options).project(out=options.out, **o.of(options, o.ProjectOptions))
    print(styles.folder / "projection.png")
    if styles.problems:
        raise left_out(styles.problems, len(styles) + len(styles.problems))


def run_edit(values: dict[str, Any]) -> None:
    """Edit a photo and write what became of it."""
    options = o.Edit(**values)
    edited = network(options).edit(out=options.out, **o.of(options, o.EditOptions))
    print(edited.describe())
    print(edited.folder / "edit.png")


def run_average(values: dict[str, Any]) -> None:
    """Write the mean of styles."""
    from facegan.styles import directions

    options = o.StylesAverage(**values)
    count = directions.average(options.sources, options.out)
    print(f"{options.out}: the mean of {count} styles")


def run_collect(values: dict[str, Any]) -> None:
    """Write several styles into one file."""
    from facegan.styles import directions

    options = o.StylesCollect(**values)
    print(f"{options.out}: {directions.collect(options.sources, options.out, options.best, options.attribute)} styles")


def run_direction(values: dict[str, Any]) -> None:
    """Write the direction to an attribute."""
    from facegan.styles import directions

    options = o.StylesDirection(**values)
    print(f"{options.out}: {directions.direction(options.positive, options.out, options.negative, options.network)}")


def run_mask(values: dict[str, Any]) -> None:
    """Write masks of attributes."""
    from facegan.styles import learned_masks

    options = o.StylesMask(**values)
    for name, path in learned_masks.learn(options).items():
        print(f"{name}: {path}")


def run_channels(values: dict[str, Any]) -> None:
    """Write which channels act where attributes are."""
    from facegan.styles import learned_channels

    options = o.StylesChannels(**values)
    for name, path in learned_channels.learn(options).items():
        print(f"{name}: {path}")


def run_list(values: dict[str, Any]) -> None:
    """Print what a folder of styles holds."""
    from facegan.styles import directions

    options = o.StylesList(**values)
    print(directions.listing(options.folder, options.network))


COMMANDS = {
    "mix": Command(o.Mix, run_mix, MIX_EXAMPLES),
    "mix-search": Command(o.MixSearch, run_search, SEARCH_EXAMPLES),
    "walk": Command(o.Walk, run_walk, WALK_EXAMPLES),
    "project": Command(o.Project, run_project, PROJECT_EXAMPLES),
    "edit": Command(o.Edit, run_edit, EDIT_EXAMPLES),
    "styles average": Command(o.StylesAverage, run_average, STYLES_EXAMPLES),
    "styles collect": Command(o.StylesCollect, run_collect, STYLES_EXAMPLES),
    "styles direction": Command(o.StylesDirection, run_direction, STYLES_EXAMPLES),
    "styles mask": Command(o.StylesMask, run_mask, STYLES_EXAMPLES),
    "styles channels": Command(o.StylesChannels, run_channels, STYLES_EXAMPLES),
    "styles list": Command(o.StylesList, run_list, STYLES_EXAMPLES),
}
