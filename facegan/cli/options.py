"""Options that several commands have."""

from __future__ import annotations

import argparse

from facegan import devices

RAW = argparse.RawDescriptionHelpFormatter


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=devices.AUTO, help=f"{devices.HELP} (default: %(default)s)")
