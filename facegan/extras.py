"""The libraries of the optional extra `facegan[metrics]`: torch-fidelity and lpips, both of which import torchvision; scikit-image."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from facegan.errors import FaceganError

NEEDED = "not measured, needs pip install 'facegan[metrics]'"
_declared: list[torch.library.Library] = []  # an operator lives as long as its library object


def library(name: str) -> Any:
    """The module `name` of torch_fidelity or lpips; a FaceganError where the extra is not installed, or does not import."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FaceganError(f"{name.partition('.')[0]} cannot be imported ({error}): pip install 'facegan[metrics]'") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise FaceganError(f"{name} cannot be imported ({error}): install a torchvision that matches torch") from error
        _declare_torchvision_operators()
        return library(name)


def available() -> bool:
    """Whether quality can be measured here at all."""
    try:
        library("torch_fidelity")
    except FaceganError:
        return False
    return True


def _declare_torchvision_operators() -> None:
    """Let torchvision import without its compiled part, as where PyPI's torchvision, built for CUDA, stands beside a CPU torch.

    It then fails on attaching fake kernels to operators that do not exist. Nothing that is used of it here needs these.
    """
    boxes = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        boxes.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(boxes)
