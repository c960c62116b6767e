"""`--compile`: networks through `torch.compile`, for passes that no second derivative is taken of (it refuses those)."""

from __future__ import annotations

import logging
import shutil
from importlib.util import find_spec
from typing import cast

import torch
from torch import nn

log = logging.getLogger("facegan.train")


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """The same network, its weights shared, compiled for `device`; itself, and a sentence in the log, where there is no compiler."""
    reason = unavailable(device)
    if reason is not None:
        log.warning("`compile` is left out: %s", reason)
        return network
    return cast(nn.Module, torch.compile(network))


def unavailable(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device here; None where it can."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "torch.compile needs the package triton on a GPU, and it is not installed"
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++", "cl", "gcc", "cc")):
        return "torch.compile needs a C++ compiler, and there is none on the path"
    return None
