"""NVIDIA's `modulated_conv2d`, in network modules and in pickled ones, on `facegan.ops.modulated_conv2d`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NETWORKS = re.compile(r"(?:.+\.)?[^.]*(?:networks|model|arch)[^.]*")
PERSISTENCE = re.compile(r"(?:.+\.)?torch_utils\.persistence")
FUNCTION = "modulated_conv2d"
_ARGUMENTS = "x weight styles noise up down padding resample_filter demodulate flip_weight fused_modconv".split()
_THEIRS = "_facegan_compat_theirs"  # where a module keeps what was its own
_MAKES_MODULES = "_src_to_module"  # of `persistence`: from a source to a module


def is_served(names: dict[str, Any]) -> bool:
    """Whether a module has the function, and takes it as StyleGAN2's networks do."""
    function = names.get(FUNCTION)
    if not callable(function) or function is modulated_conv2d:
        return False
    # a decorator that says nothing of the function inside hides its arguments: they are where the decorator keeps it
    return any(_arguments(f) == _ARGUMENTS for f in (function, *_enclosed(function)))


def _enclosed(function: Any) -> Iterator[Any]:
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # a cell that is still empty
            yield cell.cell_contents


def _arguments(function: Any) -> list[str] | None:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # no function, or one that tells nothing of itself
        return None


def serve(names: dict[str, Any], module: str, served: dict[str, str]) -> None:
    """Put our function into a module's names."""
    if is_served(names):
        names[_THEIRS], names[FUNCTION] = names[FUNCTION], modulated_conv2d
        served[module] = f"facegan.compat.layers: {FUNCTION}"


def withdraw(names: dict[str, Any]) -> bool:
    """Give a module its own function back; return whether it had another."""
    if _THEIRS not in names:
        return False
    names[_MAKES_MODULES if _MAKES_MODULES in names else FUNCTION] = names.pop(_THEIRS)
    return True


def serve_pickled(persistence: ModuleType, served: dict[str, str]) -> None:
    """Have the modules served that unpickling makes of the sources which networks carry; the sources themselves stay as they are."""
    make = getattr(persistence, _MAKES_MODULES, None)
    if make is None:
        return

    def make_served(source: str) -> ModuleType:
        module: ModuleType = make(source)
        serve(vars(module), module.__name__, served)
        return module

    setattr(persistence, _MAKES_MODULES, make_served)
    vars(persistence)[_THEIRS] = make
    served[persistence.__name__] = f"facegan.compat.layers: {FUNCTION} of pickled networks"


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    noise: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Any = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = True,
) -> Tensor:
    """Compute `facegan.ops.modulated_conv2d`, whose form is that of neither value of `fused_modconv`."""
    import torch

    from facegan import ops
    from facegan.compat.arguments import paddings

    pads = set(paddings(padding))
    if len(pads) > 1:
        from facegan.errors import FaceganError

        raise FaceganError(f"modulated_conv2d: padding is {padding}; expected one number for all sides.")
    if demodulate and x.device.type == "cpu":  # whose kernels take maps in channels_last; what follows in the layer keeps the format
        x = x.contiguous(memory_format=torch.channels_last)
    return ops.modulated_conv2d(
        x,
        weight,
        styles,
        demodulate=demodulate,
        up=up,
        down=down,
        padding=pads.pop(),
        resample_filter=resample_filter,
        noise=noise,
        flip_weight=flip_weight,
    )
