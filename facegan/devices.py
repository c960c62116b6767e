"""Where it is computed: the one place that decides between the CPU and a GPU. PyTorch is imported when a device is asked for."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from facegan import threads
from facegan.errors import FaceganError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
HELP = "where to compute: auto (a GPU if there is one), cpu, cuda, or cuda:N, one of several"


def check_device(name: str) -> int | None:
    """The N of `cuda:N`, None for the others. Raises FaceganError unless it is `auto`, `cpu`, `cuda` or `cuda:N`."""
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,3}))?", name, re.ASCII)
    if not match:
        raise FaceganError(f"`device` is {name[:40]!r}: expected auto, cpu, cuda, or cuda:N")
    return int(match[1]) if match[1] else None


def gpu_here() -> bool:
    """Whether PyTorch can compute on a GPU of this machine."""
    import torch

    return torch.cuda.is_available()


def resolve_device(name: torch.device | str = AUTO) -> torch.device:
    """The device of a name: `auto` is a GPU where one is usable, else the CPU; of several processes each gets a GPU of its own.

    A GPU becomes the current one of this process, as kernels are launched there. A device stays what it is. Raises FaceganError for a
    name of what is not here.
    """
    import torch

    if isinstance(name, torch.device):
        return name
    index = check_device(name)
    if name == "cpu" or (name == AUTO and not gpu_here()):
        threads.settle()
        return torch.device("cpu")
    count = torch.cuda.device_count() if gpu_here() else 0
    if index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise FaceganError(f"`device` is {name}, one GPU for {os.environ['WORLD_SIZE']} processes: ask for cuda, and each gets its own")
    if index is None and count:
        index = int(os.environ.get("LOCAL_RANK", "0")) % count
    if index is None or index >= count:
        raise FaceganError(f"`device` is {name}, but {_found(count)}")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def described(device: torch.device) -> str:
    """For records: `cpu`, or the model of a GPU."""
    import torch

    return "cpu" if device.type == "cpu" else f"cuda ({torch.cuda.get_device_name(device)})"


def _found(count: int) -> str:
    """What is here."""
    import torch

    if count:
        names = ", ".join(f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(count))
        return f"there is {names}, and cpu"
    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch is built without CUDA: there is cpu alone"
    return "PyTorch finds no usable GPU (nvidia-smi says more): there is cpu alone"
