"""Existing StyleGAN projects on the operators of facegan, their files unchanged.

    python -m facegan.compat generate.py --network=...

runs a script as `python generate.py` would, with the operator modules that its project carries (NVIDIA's `torch_utils.ops`,
rosinality's `op`, BasicSR's `basicsr.ops`) answered for by modules of facegan: nothing is compiled at first use. In a program of
one's own the first line does the same:

    import facegan.compat; facegan.compat.install()

| file | what |
|---|---|
| `finder.py` | which modules are answered for, and how Python comes to ask |
| `nvidia/`, `rosinality/` | the modules that answer |
| `layers.py`, `modulated.py` | on request, NVIDIA's `modulated_conv2d` and the others' `ModulatedConv2d` |
| `mends.py` | what stops these projects on today's machines besides operators |
| `children/` | how processes that are started by the project get the same |
"""

from __future__ import annotations

import os
import sys

from facegan.compat.finder import Finder

__all__ = ["install", "served", "uninstall"]

ENVIRONMENT_VARIABLE = "FACEGAN_COMPAT"  # what child processes are to install
_CHILDREN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "children")
# that of this module before it was reloaded, if it was
_finder: Finder | None = next((finder for finder in sys.meta_path if isinstance(finder, Finder)), None)


def install(layers: bool = False, mends: bool = True) -> None:
    """Answer for the operator modules of StyleGAN projects that are imported from now on, here and in processes started from here.

    A module is answered for where its name ends in `torch_utils.ops.NAME`, `op.NAME` or `basicsr.ops.NAME.NAME` and, but for BasicSR's,
    the C++ or CUDA sources of that project lie beside the file that would have been imported. Installed twice, the later options count.

    Args:
        layers: run NVIDIA's `modulated_conv2d` on `facegan.ops.modulated_conv2d` too, in modules named `*networks*` and in pickled ones,
            and the modules `ModulatedConv2d` of rosinality and BasicSR, in modules named `*model*` and `*arch*`.
        mends: mend what stops these projects besides operators: `mends.py` has the list, `served()` says which were needed.

    Raises:
        FaceganError: one of the modules has been imported already, so that names taken from it would stay the project's.
    """
    global _finder
    finder = _finder or Finder()
    finder.set_options(layers, mends)
    if _finder is None:
        sys.meta_path.insert(0, finder)
        given = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([_CHILDREN, given] if given else [_CHILDREN])
    _finder = finder
    os.environ[ENVIRONMENT_VARIABLE] = ",".join(["operators", *["layers"] * layers, *["mends"] * mends])


def uninstall() -> None:
    """Undo `install`: what is imported from now on is the project's own. Names taken from a module before stay as they are."""
    global _finder
    if _finder is None:
        return
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    _finder.forget()
    _finder = None
    os.environ.pop(ENVIRONMENT_VARIABLE, None)
    given = os.environ.get("PYTHONPATH", "")
    if given == _CHILDREN:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = given.removeprefix(_CHILDREN + os.pathsep)


def served() -> dict[str, str]:
    """Return what has been answered for in this process: the name of each module, or of what was mended, and what serves it."""
    return {} if _finder is None else dict(_finder.served)
