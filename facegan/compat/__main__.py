"""`python -m facegan.compat SCRIPT ARGS...`: run a script of a StyleGAN project on the operators of facegan."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from types import ModuleType

from facegan import compat
from facegan.errors import FaceganError

_DESCRIPTION = """\
Run a script of a StyleGAN project, its files unchanged, with the operators that it would compile at first use answered for by facegan:
NVIDIA's torch_utils.ops (StyleGAN2-ADA, StyleGAN3, StyleGAN-XL, EG3D, DragGAN ...), rosinality's op (pixel2style2pixel, e4e, GPEN ...)
and basicsr.ops (GFPGAN, CodeFormer ...). Processes that the script starts get the same.
"""
_EXAMPLES = """\
examples:
  python -m facegan.compat gen_images.py --network=stylegan3-t-ffhq-1024x1024.pkl --seeds=0-3 --outdir=out
  python -m facegan.compat --layers train.py --cfg=stylegan2 --data=faces.zip --outdir=runs --gpus=2 --batch=32 --gamma=1
  python -m facegan.compat -m accelerate.commands.launch --num_processes 2 train.py
  accelerate launch -m facegan.compat train.py
"""


def main(arguments: list[str] | None = None) -> None:
    """Install, then run the script as `__main__`."""
    parser = argparse.ArgumentParser(
        "python -m facegan.compat", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", action="store_true", help="run the networks' modulated_conv2d on facegan's too")
    parser.add_argument(
        "--no-mends", action="store_true", help="mend nothing but operators (torch's Sampler, torchvision's functional_tensor)"
    )
    parser.add_argument("--report", action="store_true", help="say on stderr, at the end, what was answered for")
    parser.add_argument("-m", dest="module", action="store_true", help="SCRIPT is the name of a module, as for python -m")
    parser.add_argument("script", metavar="SCRIPT", help="a script, folder or archive that Python can run")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its own arguments")
    given = parser.parse_args(arguments)
    if not given.module and not Path(given.script).exists():
        parser.error(f"there is no {given.script}; expected a script of the project")
    try:
        compat.install(layers=given.layers, mends=not given.no_mends)
    except FaceganError as error:
        parser.error(str(error))
    sys.argv = [given.script, *given.args]
    try:
        if given.module:
            runpy.run_module(given.script, run_name="__main__", alter_sys=True)
        elif Path(given.script).is_file() and not given.script.endswith((".zip", ".pyz", ".pyc")):
            _run_script(given.script)
        else:
            runpy.run_path(given.script, run_name="__main__")
    finally:
        _report(given.report)


def _run_script(script: str) -> None:
    """Run a file in a module `__main__` that stays, as processes started by "spawn" and pickles ask for it."""
    main_module = ModuleType("__main__")
    main_module.__dict__.update(__file__=script, __builtins__=__builtins__)
    sys.modules["__main__"] = main_module
    sys.path[0] = str(Path(script).resolve().parent)
    exec(compile(Path(script).read_bytes(), script, "exec", dont_inherit=True), main_module.__dict__)


def _report(asked: bool) -> None:
    answered = compat.served()
    if asked:
        lines = [f"  {name}: {by}" for name, by in answered.items()] or ["  nothing"]
        print("facegan.compat answered for", *lines, sep="\n", file=sys.stderr)
    elif not answered:
        print(
            "facegan.compat: no operator module was asked for in this process; docs/compat.md lists the names that are answered for.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
