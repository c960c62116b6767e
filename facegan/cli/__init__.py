"""The command line: parse, call one function, turn a user's mistake into one sentence and exit status 2.

The modules here build parsers, at once: what a command computes with, PyTorch first of all, is imported as it runs.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from facegan import __version__, threads
from facegan.cli.command import refuse_early
from facegan.cli.messages import FlagFormatter, fields_of, with_flags
from facegan.cli.parser import RAW, add_arguments, name_flags
from facegan.errors import FaceganError, Interrupted
from facegan.memory import keep_memory, out_of_memory

FAMILIES = {
    "data": "align photos, look at a data set, label or make one",
    "styles": "average styles, find directions, masks and channels, list them",
}
COMMANDS = {  # name -> (module with it, one line of help)
    "train": ("facegan.cli.training", "train a generator, or resume one"),
    "generate": ("facegan.cli.faces", "make faces with a trained run or a StyleGAN2 network"),
    "evaluate": ("facegan.cli.faces", "measure a run by the independent judge, or a restorer by faces as they were"),
    "restore": ("facegan.cli.faces", "make faces larger and sharper"),
    "convert": ("facegan.cli.faces", "read a StyleGAN2 checkpoint of another project; none of its code is run"),
    "mix": ("facegan.cli.styles", "mix styles of a StyleGAN2 network"),
    "mix-search": ("facegan.cli.styles", "search for the recipe with which most mixes carry all attributes, by critics"),
    "walk": ("facegan.cli.styles", "a smooth loop through styles, as .gif or .mp4"),
    "project": ("facegan.cli.styles", "photos to styles of a StyleGAN2 network"),
    "edit": ("facegan.cli.styles", "add attributes to a photo, or remove them"),
    "styles average": ("facegan.cli.styles", "the mean of styles: what they have in common"),
    "styles collect": ("facegan.cli.styles", "several styles in one file: a name for all of them"),
    "styles direction": ("facegan.cli.styles", "the direction to an attribute, for `facegan edit`"),
    "styles mask": ("facegan.cli.styles", "where attributes are, for `facegan mix`: a picture of greys for each"),
    "styles channels": ("facegan.cli.styles", "which channels of style space act where attributes are, for `facegan mix`"),
    "styles list": ("facegan.cli.styles", "what a folder of styles holds"),
    "data align": ("facegan.cli.data", "photographs to aligned square faces, ready to train on"),
    "data inspect": ("facegan.cli.data", "what each selector finds in a data set"),
    "data label": ("facegan.cli.data", "attributes for faces without any, learned from some labelled faces"),
    "data pack": ("facegan.cli.data", "write faces of any layout as WebDataset shards"),
    "data synth": ("facegan.cli.data", "make synthetic faces with known attributes, in CelebA's layout"),
    "app": ("facegan.cli.app", "a page to make, mix, edit and judge faces by eye"),
    "demo": ("facegan.cli.studies", "Method A on synthetic faces, small, styles mixed, faces restored, and the table that proves it"),
    "ablate": ("facegan.cli.studies", "what each part of a method adds: a table of rows and seeds"),
    "tune": ("facegan.cli.training", "measure which algorithm suits each layer of a training on this GPU, and keep the answers"),
}
# what writing meets that only its user can mend; any other OSError may be a fault of ours
_FULL = {getattr(errno, name) for name in "ENOSPC EDQUOT EROFS EACCES EPERM EEXIST ENOTDIR EISDIR ENAMETOOLONG EFBIG".split()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. With FACEGAN_DEBUG=1 every error keeps its traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    words = sys.argv[1:] if argv is None else argv
    root = parser(words)
    fields = fields_of(root)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FlagFormatter(fields))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    arguments = vars(root.parse_args(words))
    command, classes = arguments.pop("command"), arguments.pop("classes")
    keep_memory()
    threads.begin()
    try:
        refuse_early(classes, arguments)
        command(arguments)
    except (Exception, KeyboardInterrupt) as error:
        told = explained(error)
        if told is None or os.environ.get("FACEGAN_DEBUG") == "1":
            raise
        sentence, status = told
        print(f"facegan: {with_flags(sentence, fields)}", file=sys.stderr)
        return status
    return 0


def explained(error: BaseException) -> tuple[str, int] | None:
    """The sentence and exit status for an error that is not ours; None for one that may be."""
    if isinstance(error, Interrupted):
        return str(error), 128 + error.signum
    if isinstance(error, FaceganError):
        return str(error), 2
    if isinstance(error, KeyboardInterrupt):
        return "stopped", 130
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"{error.filename or 'a file'}: {error.strerror}; make room, or name a place where you may write", 2
    if isinstance(error, (RuntimeError, MemoryError)) and out_of_memory(error):
        return "there is not enough memory for this; ask for fewer or smaller images at once", 2
    return None


def parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """All commands by name; those that `words` begin with have their arguments too."""
    root = argparse.ArgumentParser(
        prog="facegan",
        allow_abbrev=False,
        description="Faces that carry several chosen attributes at once, learned from faces that carry one each.",
    )
    root.add_argument("--version", action="version", version=__version__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    families: dict[str, Any] = {}
    for name, (module, sentence) in COMMANDS.items():
        family, _, member = name.partition(" ")
        if member and family not in families:
            group = commands.add_parser(family, help=FAMILIES[family])
            families[family] = group.add_subparsers(required=True, metavar="COMMAND")
        short: dict[str, Any] = {"help": sentence, "formatter_class": RAW, "allow_abbrev": False}
        each = families[family].add_parser(member, **short) if member else commands.add_parser(family, **short)
        if list(words[: 1 + bool(member)]) == name.split():
            command = import_module(module).COMMANDS[name]
            each.epilog = command.examples_for(words)
            for options in command.options_for(words):
                add_arguments(each, options)
            name_flags(each)
            each.set_defaults(command=command.run, classes=command.options_for(words))
    return root
