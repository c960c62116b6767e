"""`facegan data ...`, `demo`, `ablate`: data sets, and whole studies."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from facegan import options as o
from facegan.cli.command import Command
from facegan.cli.parser import named_method
from facegan.config import Options
from facegan.errors import FaceganError
from facegan.experiments.ablation.rows import ROWS
from facegan.methods import METHODS

log = logging.getLogger("facegan.data")

ALIGN_EXAMPLES = """examples:
  facegan data align photos/ --out faces                             (photos/bald/x.jpg becomes faces/bald/x.png)
  facegan data align photos/ --out faces --attributes-from folders   (the largest face of each photo, and faces/metadata.csv)
  facegan data align photos/ --out faces --size 256 --dry-run        (what would be taken, and what left out, and why)
Needs pip install 'facegan[align]'; works offline. The same command again resumes what was stopped, takes photos that came since, and leaves
out faces that were deleted from --out by hand. DIR/contact-sheet.png shows what was taken and what was left out, DIR/faces.csv says it."""

ABLATE_EXAMPLES = """examples:
  facegan ablate --data synthetic --resolution 32 --seeds 3 --out runs/ablation
  facegan ablate --data celeba.zip --rows plain,thesis,best --seeds 1 --out runs/celeba-rows
  facegan ablate --data celeba.zip --jobs 6 --pairs bald,beard beard,glasses smile,glasses bald,bangs --out runs/pairs
  facegan ablate --data synthetic --attributes bald,beard,glasses --rows plain,best --out runs/three
  facegan ablate --method b --data synthetic --resolution 32 --kimg 100 --augment none --seeds 3 --out runs/mixing
The same command again resumes what was stopped; --rows, --seeds and --jobs may change on the way. OUT/report.md is written again
whenever a row has ended. All flags of `facegan train` go to every row, but for those in which rows differ. With `--method b` the rows
are ways of mixing styles.
rows:
"""


def run_inspect(values: dict[str, Any]) -> None:
    """Print what a data set holds, and write the sheet of its groups."""
    from facegan.data.inspect import inspect

    options = o.DataInspect(**values)
    sheet = _sheet_of(options, "sheet" in values)
    found = inspect(
        options.data,
        options.attributes,
        check_images=options.check_images,
        look=options.look,
        duplicate_distance=options.duplicate_distance,
        shown=sheet is not None,
    )
    print(found.text)
    if sheet and found.faces:
        from facegan.plotting.sections import COLUMNS, Section, sections
        from facegan.plotting.sheets import save_png

        parts = [Section(name, [("", face) for face in faces[:COLUMNS]]) for name, faces in found.faces]
        save_png(sections(parts, options.data), sheet)
        print(f"\nfaces of each group: {sheet}")


def _sheet_of(options: o.DataInspect, named: bool) -> Path | None:
    """Where the sheet goes; None for none, as where the folder that nobody named is the data's own."""
    if not options.sheet:
        return None
    sheet = Path(options.sheet)
    if named and not (options.look or options.check_images):
        raise FaceganError("`sheet` shows images that were looked at, and `look=0` looks at none: leave one of them out")
    if sheet.suffix.lower() != ".png" or sheet.is_dir():
        raise FaceganError(f"`sheet` is {options.sheet!r}; expected a file to write that ends in .png, or '' for none")
    if sheet.resolve().is_relative_to(Path(options.data).expanduser().resolve()):
        if named:
            raise FaceganError(f"`sheet` is {options.sheet!r}, inside the data, where it would pass for a face; expected a file elsewhere")
        log.warning("no sheet is written, as this folder is the data's: `sheet` names a file elsewhere")
        return None
    return sheet


def run_align(values: dict[str, Any]) -> None:
    """Cut faces out of photographs and say what was left out."""
    from facegan.alignment.aligner import align_folder

    options = o.DataAlign(**values)
    aligned = align_folder(options)
    print(aligned.describe())
    print("nothing was written, as `dry_run` is set" if options.dry_run else Path(options.out) / "contact-sheet.png")


def run_synth(values: dict[str, Any]) -> None:
    """Write synthetic faces."""
    from facegan.data.synthetic import write_celeba_layout

    options = o.DataSynth(**values)
    write_celeba_layout(Path(options.out), num=options.num, resolution=options.resolution, seed=options.seed)
    print(options.out)


def run_demo(values: dict[str, Any]) -> None:
    """Run the demo and print its table."""
    from facegan.experiments.demo import demo

    options = o.Demo(**values)
    print(demo(options.out, options.seed, options.device).text)


def ablation_options(words: Sequence[str]) -> list[type[Options]]:
    """The ablation's own, and those of the method that is named, but for names that are the ablation's."""
    return [o.AblateOptions, METHODS[named_method(words)].config]


def ablation_examples(words: Sequence[str]) -> str:
    """With all rows, a line each."""
    lines = (f"  {name:15s} {'on ' + row.on + ': ' if row.on else ''}{row.sentence}" for name, row in ROWS.items())
    return ABLATE_EXAMPLES + "\n".join(lines)


def run_ablate(values: dict[str, Any]) -> None:
    """Run what is missing of an ablation."""
    from facegan.experiments.ablation.run import ablate

    own = {item.name for item in fields(o.AblateOptions)}
    given = {name: value for name, value in values.items() if name not in own}
    print(ablate(o.AblateOptions(**{name: values[name] for name in own & values.keys()}), given))


COMMANDS = {
    "data inspect": Command(o.DataInspect, run_inspect),
    "data align": Command(o.DataAlign, run_align, ALIGN_EXAMPLES),
    "data synth": Command(o.DataSynth, run_synth),
    "demo": Command(o.Demo, run_demo),
    "ablate": Command(ablation_options, run_ablate, ablation_examples),
}
