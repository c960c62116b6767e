"""The benchmarks' own functions, on tensors of any device: what is measured there is what is checked here."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks import contest
from benchmarks.cases import Case
from facegan.ops import setup_filter

FAMILIES = ("bias_act", "adain", "upfirdn2d", "filtered_lrelu", "modulated_conv2d")


def run(case: Case, device: str) -> None:
    """One step of `case` with random inputs on `device`: the public op, and the gradients that its order asks for."""

    def draw(*shape: int, dtype: torch.dtype | None = None) -> Tensor:
        x = torch.randn(shape, device=device).to(dtype or case.dtype)
        return (x.contiguous(memory_format=case.memory_format) if x.ndim == 4 else x).requires_grad_()

    def measure(function: Callable[..., Tensor], inputs: Sequence[Tensor], *_: Any, **__: Any) -> None:
        if case.order == "fwd":
            with torch.no_grad():
                function(*inputs)
            return
        y = function(*inputs)
        cotangent = torch.randn_like(y, requires_grad=case.order == "double")
        if case.order == "double":
            del y
            contest.penalty(function, inputs, cotangent, torch.randn_like(inputs[0], requires_grad=False))
        else:
            torch.autograd.grad(y, inputs, cotangent)

    benchmark = _benchmark(case.op)
    fixtures = {"case": case, "draw": draw, "measure": measure, "peer": None, "f": setup_filter(device=device)}
    benchmark(**{name: fixtures[name] for name in inspect.signature(benchmark).parameters})


def _benchmark(op: str) -> Callable[..., None]:
    modules = (importlib.import_module(f"benchmarks.test_{family}") for family in FAMILIES)
    found: Callable[..., None] = next(getattr(module, f"test_{op}") for module in modules if hasattr(module, f"test_{op}"))
    return found
