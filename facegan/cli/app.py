"""`facegan app`: the page on which faces are made by eye."""

from __future__ import annotations

from typing import Any

from facegan import options as o
from facegan.cli.command import Command

EXAMPLES = """examples:
  facegan app                                       (the network that comes with the package, at http://127.0.0.1:7860)
  facegan app runs/mine ffhq.pkl --runs runs        (a run, a network, and what else is in the folder of runs)
  facegan app networks/ffhq --device cuda --port 0
Needs pip install 'facegan[app]'; asks nothing of the internet. Ctrl-C ends it."""


def run_app(values: dict[str, Any]) -> None:
    """Serve the page until Ctrl-C."""
    from facegan.app.quiet import no_collection

    with no_collection():
        from facegan.app.server import end, start, wait

        demo, address = start(o.App(**values))
    try:
        wait(address)
    finally:
        end(demo)


COMMANDS = {"app": Command(o.App, run_app, EXAMPLES)}
