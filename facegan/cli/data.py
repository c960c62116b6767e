"""`facegan data ...`: photos aligned, data sets looked at, labelled and made."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

from facegan import options as o
from facegan.cli.command import Command
from facegan.cli.messages import with_flags
from facegan.errors import FaceganError

log = logging.getLogger("facegan.data")

ALIGN_EXAMPLES = """examples:
  facegan data align photos/ --out faces                             (photos/bald/x.jpg becomes faces/bald/x.png)
  facegan data align photos/ --out faces --attributes-from folders   (the largest face of each photo, and faces/metadata.csv)
  facegan data align photos/ --out faces --size 256 --dry-run        (what would be taken, and what left out, and why)
Needs pip install 'facegan[align]'; works offline. The same command again resumes what was stopped, takes photos that came since, and leaves
out faces that were deleted from --out by hand. DIR/contact-sheet.png shows what was taken and what was left out, DIR/faces.csv says it."""

LABEL_EXAMPLES = """examples:
  facegan data label faces/ --attributes bald,beard --from labelled/
  facegan data label faces.zip --attributes "bald=Bald & !Blurry/!Bald" --from celeba.zip --out bald.csv --yes 0.95 --no 0.05
FACES/metadata.csv has the most uncertain faces first. Correct values there, write 1 into `checked` of the rows that you have looked at, and
give the same command again: it keeps them and learns from them too.
"""

PACK_EXAMPLES = """examples:
  facegan data pack faces/ --out shards --shard-size 500MB
  facegan train --data "shards/faces-{000000..000041}.tar" --stream --out runs/large
Files are copied as they are, each with its labels in a .json beside it; those that cannot be decoded are left out and named."""


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
    print(with_flags(aligned.describe(), (item.name for item in fields(options))))
    print("nothing was written: --dry-run" if options.dry_run else Path(options.out) / "contact-sheet.png")


def run_label(values: dict[str, Any]) -> None:
    """Rate faces, write the list and the sheet, print what may be expected of them."""
    from facegan.labelling.label import label

    labels = label(o.DataLabel(**values))
    sheet = labels.save()
    print(f"{labels.describe()}\n\n{labels.out}\n{sheet}")


def run_synth(values: dict[str, Any]) -> None:
    """Write synthetic faces."""
    from facegan.data.synthetic import write_celeba_layout

    options = o.DataSynth(**values)
    write_celeba_layout(Path(options.out), num=options.num, resolution=options.resolution, seed=options.seed)
    print(options.out)


def run_pack(values: dict[str, Any]) -> None:
    """Write a data set as shards."""
    from facegan.data.packing import pack

    print(pack(o.DataPack(**values)).describe())


COMMANDS = {
    "data inspect": Command(o.DataInspect, run_inspect),
    "data align": Command(o.DataAlign, run_align, ALIGN_EXAMPLES),
    "data label": Command(o.DataLabel, run_label, LABEL_EXAMPLES),
    "data pack": Command(o.DataPack, run_pack, PACK_EXAMPLES),
    "data synth": Command(o.DataSynth, run_synth),
}
