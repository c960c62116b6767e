"""`torchvision.transforms.functional_tensor`, which torchvision renamed: all that is in the present module, under the old name."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    for present in ("torchvision.transforms._functional_tensor", "torchvision.transforms.functional"):
        try:
            return getattr(import_module(present), name)
        except (ImportError, AttributeError):
            continue
    raise AttributeError(f"torchvision has no {name} among its functions of tensors")
