"""`facegan ablate`: what each part adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facegan.ablation.rows import ROWS
from facegan.cli.options import RAW
from facegan.training import config as training_config

EXAMPLES = """examples:
  facegan ablate --data synthetic --resolution 32 --seeds 3 --out runs/ablation
  facegan ablate --data celeba.zip --rows plain,seed,best --seeds 1 --out runs/celeba-rows
  facegan ablate --data celeba.zip --jobs 6 --pairs bald,beard beard,glasses smile,glasses bald,bangs --out runs/pairs
  facegan ablate --data synthetic --attributes bald,beard,glasses --rows plain,best --out runs/three
  facegan ablate --method b --data synthetic --resolution 32 --kimg 100 --augment none --seeds 3 --out runs/mixing
The same command again goes on with what was stopped; --rows, --seeds and --jobs may change on the way. OUT/report.md is written
anew whenever a row has ended. All flags of `facegan train` go to every row, but for those in which rows differ. With `--method b`
the rows are ways of mixing styles.
rows:
"""


def add_commands(commands: Any, argv: Sequence[str]) -> None:
    """`facegan ablate` has the flags of the method that `argv` names."""
    method = training_config.named_method(argv)
    listed = "\n".join(f"  {name:15s} {'on ' + row.on + ': ' if row.on else ''}{row.sentence}" for name, row in ROWS.items())
    ablate = commands.add_parser("ablate", help="what each part of a method adds: a table of rows and seeds", epilog=EXAMPLES + listed,
                                 formatter_class=RAW)  # fmt: skip
    own = ablate.add_argument_group("ablation")
    own.add_argument("--seeds", type=int, default=3, help="seeds of every row, counted from --seed (default: %(default)s)")
    own.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores, or one GPU (default: %(default)s)")
    own.add_argument("--samples", type=int, default=1024, help="faces to rate of each; of B at most (styles / 2)^2 (default: %(default)s)")
    own.add_argument("--rows", default="", metavar="ROW,...", help="some rows only, e.g. plain,seed,best (default: all)")
    own.add_argument("--pairs", nargs="+", default=(), metavar="A,B", help="lists of attributes, a table each, instead of --attributes")
    own.add_argument("--weights", default="", metavar="FILE", help="Inception's weights, for KID and FID (default: the judge's features)")
    own.add_argument("--lpips", default="", metavar="FILE", help="VGG16's weights, for LPIPS (default: torch.hub's, if there)")
    own.add_argument("--styles", type=int, default=32, help="Method B: projected faces of each attribute (default: %(default)s)")
    own.add_argument("--projection-steps", type=int, default=1000, help="Method B: steps of each projection (default: %(default)s)")
    training_config.add_arguments(ablate, method)
    ablate.set_defaults(command=run_ablate, out="")


def run_ablate(arguments: dict) -> None:
    from facegan.ablation.run import ablate

    ablate(arguments)
