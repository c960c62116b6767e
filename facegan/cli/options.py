"""Options that several commands have."""

from __future__ import annotations

import argparse

from facegan import devices

RAW = argparse.RawDescriptionHelpFormatter


def add_device(parser: argparse.ArgumentParser, graphs: bool = False) -> None:
    """`--device`; with `graphs` also how its work is launched."""
    parser.add_argument("--device", default=devices.AUTO, help=f"{devices.HELP} (default: %(default)s)")
    if graphs:
        parser.add_argument("--cuda-graphs", choices=("auto", "on", "off"), default="auto", help="launch what repeats as CUDA graphs; "
                            "auto: on a GPU (default: %(default)s)")  # fmt: skip
