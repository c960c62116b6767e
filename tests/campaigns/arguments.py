"""What every campaign is told on its command line."""

from __future__ import annotations

import argparse


def parser_of(description: str | None, *, count: int, seconds: float, seed: int = 0) -> argparse.ArgumentParser:
    """A parser with the limits of a campaign, which are its defaults, and its seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=count, help=f"of what it does (default: {count})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"after which it ends (default: {seconds:g})")
    parser.add_argument("--seed", type=int, default=seed, help=f"of all that is drawn (default: {seed})")
    return parser
