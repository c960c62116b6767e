"""Faces that carry several chosen attributes at once, learned from faces that carry one each.

    gan = facegan.train("faces/", attributes=["bald", "beard"], resolution=64, out="runs/mine")
    net = facegan.load("synthetic64")

Names are imported when they are first used, PyTorch with them.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facegan.api import AttributeGAN, Restorer, StyleGAN, align, label, load, load_restorer, train
    from facegan.errors import FaceganError

__version__ = "0.1.0"
__all__ = ["AttributeGAN", "FaceganError", "Restorer", "StyleGAN", "__version__", "align", "label", "load", "load_restorer", "ops", "train"]
logging.getLogger(__name__).addHandler(logging.NullHandler())  # the program that imports it decides what is shown


def __getattr__(name: str) -> Any:
    if name == "ops":
        return import_module("facegan.ops")
    if name in __all__:
        return getattr(import_module("facegan.errors" if name == "FaceganError" else "facegan.api"), name)
    raise AttributeError(f"module 'facegan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
