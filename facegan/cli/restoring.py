"""`facegan restore`: faces made larger and sharper."""

from __future__ import annotations

from typing import Any

from facegan.cli.options import RAW, add_device
from facegan.networks import RESTORER

EXAMPLES = f"""examples:
  facegan restore old-photos/ --out restored                                   (Lanczos and mild sharpening: no weights, no new detail)
  facegan restore small.png --weights runs/restore --out restored              (a run of `train --method restore`)
  facegan restore faces/ --weights GPEN-BFR-512.pth --out restored             (official weights that you have; none of their code is run)
  facegan restore --from-run runs/demo/method_a --num 64 --weights {RESTORER} --out restored
Every input is one face, cut out and about as wide as high; DIR/NAME.png is written for every NAME.*, and DIR/before-after.png."""


def add_commands(commands: Any) -> None:
    restore = commands.add_parser("restore", help="make faces larger and sharper", epilog=EXAMPLES, formatter_class=RAW)
    restore.add_argument("inputs", nargs="*", metavar="IN", help="images of one face each, or folders of them")
    restore.add_argument("--out", required=True, metavar="DIR", help="folder for the faces, with the sub-folders of the inputs")
    restore.add_argument("--weights", default="", metavar="W", help="a run of `train --method restore`, a folder of `facegan convert`, "
                         f"GPEN's .pth, or {RESTORER}, which comes with the package and knows drawn faces (default: none)")  # fmt: skip
    restore.add_argument("--scale", type=int, default=0, choices=(2, 4), help="how many times larger (default: 2 without --weights; "
                         "with them whatever leads to their size, and only inputs that --scale fits are taken if it is given)")  # fmt: skip
    restore.add_argument("--from-run", default="", metavar="RUN", help="restore the faces of a trained run instead of files")
    restore.add_argument("--num", type=int, default=64, help="--from-run: how many, of seeds 0, 1, ... (default: %(default)s)")
    restore.add_argument("--batch", type=int, default=8, help="faces at once (default: %(default)s)")
    add_device(restore, graphs=True)
    restore.set_defaults(command=run_restore)


def run_restore(arguments: dict) -> None:
    from facegan.restore.restore import Request, restore

    restore(Request(**arguments))
