"""The command line: parse, call one function, turn a user's mistake into one sentence and exit status 2.

The modules here build parsers, at once: what a command computes with, PyTorch first of all, is imported as it runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from facegan import __version__
from facegan.cli import ablation, measure, restoring, styles, training, tuning
from facegan.errors import FaceganError, Interrupted
from facegan.memory import keep_memory, out_of_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = vars(parser(sys.argv[1:] if argv is None else argv).parse_args(argv))
    command = arguments.pop("command")
    keep_memory()
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
    training.add_commands(commands, argv)
    measure.add_commands(commands)
    ablation.add_commands(commands, argv)
    styles.add_commands(commands)
    restoring.add_commands(commands)
    tuning.add_commands(commands, argv)
    return root
