"""Run by Python at the start of every process that one with `facegan.compat` starts: it installs the same there.

This file hides another `sitecustomize`, which it runs first, under its name. It is read by whatever Python is started.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_here = os.path.dirname(os.path.abspath(__file__))


def _run_hidden() -> None:
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        sys.modules["sitecustomize"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["sitecustomize"])


def _install(options: list[str]) -> None:
    parent = os.path.dirname(os.path.dirname(os.path.dirname(_here)))
    if importlib.util.find_spec("facegan") is None:  # not installed: it was found by a path of the parent process
        sys.path.append(parent)
    try:
        from facegan.compat import install

        install(layers="layers" in options, mends="mends" in options)
    except (ImportError, SyntaxError):  # another Python, whose environment or age facegan is not for
        if parent in sys.path:
            sys.path.remove(parent)


sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _here]
try:
    _run_hidden()
finally:
    if "operators" in os.environ.get("FACEGAN_COMPAT", "").split(","):
        _install(os.environ["FACEGAN_COMPAT"].split(","))
