"""The compiled operators: the libraries built from csrc/, for CPU and CUDA tensors alike, and what is left for Python to do.

Loading the CPU library defines the operators of the namespace `facegan` (csrc/ops.cpp) and implements them for CPU tensors; the CUDA
library, loaded with it where torch sees a GPU, implements them there. `unavailable(device)` is the one answer to "may they be used
there?". What keeps weights between calls, or leaves the products to the library's convolution, is here: prepacking.py, modulated_conv2d/.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIBRARIES = Path(__file__).resolve().parent.parent / "lib"
_SUFFIXES = (".so", ".dylib", ".dll", ".pyd")
_BUILD = "build it with a C++ compiler: pip install --no-build-isolation facegan"


@cache
def build_info() -> dict[str, Any]:
    """How the libraries were built, or why they were not (csrc/build_native.py writes it); {} where nothing was ever built."""
    try:
        info: dict[str, Any] = json.loads((LIBRARIES / "_build_info.json").read_text())
    except (OSError, ValueError):
        return {}
    return info


@cache
def unavailable(device_type: str) -> str | None:
    """Loads the library for "cpu" or "cuda" tensors, once; None when it is there, else one clause that says why not."""
    if device_type == "cuda":
        reason = unavailable("cpu")
        if reason is not None:
            return reason
        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
    path = next((p for p in (LIBRARIES / f"libfacegan_{device_type}{s}" for s in _SUFFIXES) if p.is_file()), None)
    if path is None:
        if device_type in build_info().get("reasons", {}):
            return f"the compiled library for {device_type} was not built: {build_info()['reasons'][device_type]}"
        remedy = _BUILD if device_type == "cpu" else f"{_BUILD} where nvcc is installed, with FACEGAN_BUILD=cuda"
        return f"the compiled library for {device_type} was not built; {remedy}"
    needs = build_info().get("libraries", {}).get("cpu", {}).get("needs")
    if needs == "AVX2" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return "this processor has no AVX2, which the library was compiled for"
    try:
        torch.ops.load_library(path)
    except (OSError, RuntimeError) as error:
        return f"{path.name} cannot be loaded by torch {torch.__version__} ({error}); {_BUILD}"
    return None


def require() -> None:
    """Raises ImportError with the reason when the compiled operators cannot work here at all."""
    reason = unavailable("cpu")
    if reason is not None:
        raise ImportError(reason)
    unavailable("cuda")  # loaded where it can be; whether it serves is asked per device


def channels_last(x: Tensor) -> bool:
    """Of x, dense in one of the two formats; where it is in both, because sizes are 1, its strides tell."""
    return x.stride(1) == 1 and x.stride(3) >= x.shape[1] and x.is_contiguous(memory_format=torch.channels_last) and x.shape[1:].numel() > 1


def as_format(x: Tensor, last: bool) -> Tensor:
    """x in the strides of channels_last or of rows, also where those of another are the same order in memory."""
    memory_format = torch.channels_last if last else torch.contiguous_format
    if channels_last(x) == last and x.is_contiguous(memory_format=memory_format):
        return x
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=memory_format).copy_(x)
