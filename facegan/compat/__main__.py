"""`python -m facegan.compat SCRIPT ARGS...`: run a script of a StyleGAN project on the operators of facegan."""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import sys
import zipfile
from pathlib import Path
from types import ModuleType

from facegan import compat
from facegan.compat.finder import LAYERS, OPERATORS
from facegan.errors import FaceganError
from facegan.memory import keep_memory

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
        "python -m facegan.compat",
        usage="python -m facegan.compat [--layers] [--no-mends] [--report] (SCRIPT | -m MODULE) ARGS...",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", action="store_true", help="run the networks' modulated convolutions on facegan's too")
    parser.add_argument(
        "--no-mends", action="store_true", help="mend nothing but operators (torch's Sampler, torchvision's functional_tensor)"
    )
    parser.add_argument("--report", action="store_true", help="say on stderr, at the end, what was answered for")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module as python -m does; what follows is its own")
    own, script, args = _split(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(own)
    module = given.module is not None
    script = given.module if module else script
    if script is None:
        parser.error("there is no SCRIPT; expected a script of the project, after the options")
    if not module and not _runnable(Path(script)):
        parser.error(f"there is no {script}; expected a script of the project, or a folder with a __main__.py")
    try:
        compat.install(layers=given.layers, mends=not given.no_mends)
        if module and importlib.util.find_spec(script) is None:
            parser.error(f"there is no module {script}; expected one that Python finds from here")
    except (FaceganError, ModuleNotFoundError) as error:
        parser.error(str(error))
    keep_memory()
    sys.argv = [script, *args]
    try:
        if module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        elif Path(script).is_dir() or script.endswith(".pyc") or zipfile.is_zipfile(script):
            runpy.run_path(script, run_name="__main__")
        else:
            _run_script(Path(script))
    finally:
        _report(given.report, given.layers)


def _split(arguments: list[str]) -> tuple[list[str], str | None, list[str]]:
    """Part the options of this command, the script and the script's own arguments, among which "--" stays."""
    for place, argument in enumerate(arguments):
        if argument == "-m":
            return arguments[: place + 2], None, arguments[place + 2 :]
        if argument.startswith("-m"):
            return arguments[: place + 1], None, arguments[place + 1 :]
        if not argument.startswith("-"):
            return arguments[:place], argument, arguments[place + 1 :]
    return arguments, None, []


def _runnable(script: Path) -> bool:
    return (script / "__main__.py").exists() if script.is_dir() else script.exists()


def _run_script(script: Path) -> None:
    """Run a file in a module `__main__` that stays, as processes started by "spawn" and pickles ask for it."""
    file = os.path.abspath(script)
    main_module = ModuleType("__main__")
    main_module.__dict__.update(__file__=file, __builtins__=__builtins__)
    sys.modules["__main__"] = main_module
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = str(script.resolve().parent)  # in place of the folder that `python -m` has put there
    exec(compile(script.read_bytes(), file, "exec", dont_inherit=True), main_module.__dict__)


def _report(asked: bool, layers: bool) -> None:
    answered = compat.served()
    if asked:
        lines = [f"  {name}: {by}" for name, by in answered.items()] or ["  nothing"]
        print("facegan.compat answered for", *lines, sep="\n", file=sys.stderr)
    if not any(by.startswith(OPERATORS) for by in answered.values()):
        print(
            "facegan.compat: no operator module was asked for in this process; docs/compat.md lists the names that are answered for.",
            file=sys.stderr,
        )
    elif layers and not any(by.startswith(LAYERS) for by in answered.values()):
        print("facegan.compat: --layers was given, but no modulated convolution was found that it knows.", file=sys.stderr)


if __name__ == "__main__":
    main()
