"""Run by Python at the start of every process that one with `facegan.compat` starts: it installs the same there.

This file hides another `sitecustomize`, which it runs first.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _here]
_hidden = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
if _hidden is not None and _hidden.loader is not None:
    _hidden.loader.exec_module(importlib.util.module_from_spec(_hidden))
_options = os.environ.get("FACEGAN_COMPAT", "").split(",")
if "operators" in _options:
    try:
        from facegan.compat import install
    except ImportError:  # another Python, whose environment has no facegan
        pass
    else:
        install(layers="layers" in _options, mends="mends" in _options)
