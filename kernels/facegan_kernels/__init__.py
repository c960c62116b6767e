"""Optional accelerator kernels for facegan: Triton and ahead-of-time compiled C++/CUDA.

Protocol with `facegan.backend` (the whole of it):

* `find(op, backend, device_type)` answers with the kernel, a callable that takes the positional arguments of the registered
  operator `op` and returns the same tensors, or with one clause (a `str`) that says why there is none. It never raises, and the
  caller keeps the answer.
* A kernel is a function named like the operator in a module that `KERNELS` names, or, where that is `COMPILED`, the operator itself
  in the namespace `facegan` of the compiled library. Modules are imported when somebody asks, so `import facegan_kernels` needs
  neither Triton nor a compiled library. `compiled(op)` loads the library and says whether it has that operator.
* `facegan_kernels.<backend>.unavailable(device_type)` says beforehand why no kernel of a backend can run on such tensors.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

COMPILED = "torch.ops.facegan"

# module, below triton/ and below native/ -> (its operators, who has kernels of them: "compiled" is native, in C++ alone)
_TABLE = {
    "adain": ("adain adain_backward adain_affine adain_affine_backward", "triton compiled"),
    "bias_act": ("bias_act bias_act_backward bias_act_double_backward", "triton compiled"),
    "upfirdn2d": ("upfirdn2d", "triton compiled"),
    "filtered_lrelu": ("filtered_lrelu filtered_lrelu_slope", "triton native"),
    "modulated_conv2d.epilogue": (
        "modulate modulate_backward modulated_epilogue modulated_epilogue_backward modulated_epilogue_double_backward regional_epilogue",
        "triton compiled",
    ),
    "modulated_conv2d.pointwise": ("pointwise pointwise_backward", "triton"),
    "modulated_conv2d.fused": ("modulated_conv2d_fused", "triton native"),
    "modulated_conv2d.prepacked": ("prepacked_conv2d prepacked_demodulation", "native"),
}

# (backend, registered operator) -> module
KERNELS: dict[tuple[str, str], str] = {
    ("native" if kind == "compiled" else kind, operator): COMPILED if kind == "compiled" else f"facegan_kernels.{kind}.{module}"
    for module, (operators, kinds) in _TABLE.items()
    for operator in operators.split()
    for kind in kinds.split()
}


def find(op: str, backend: str, device_type: str) -> Callable[..., Any] | str:
    """The kernel of operator `op` for `backend` on `device_type` ("cpu", "cuda"), or the reason why there is none."""
    module = KERNELS.get((backend, op))
    if module is None:
        return f"facegan_kernels ships no {backend} kernel for {op}"
    reason: str | None = importlib.import_module(f"facegan_kernels.{backend}").unavailable(device_type)
    if reason is not None:
        return reason
    try:
        kernel: Callable[..., Any] = _operator(op) if module == COMPILED else getattr(importlib.import_module(module), op)
    except ImportError as error:
        return f"{module} cannot be imported: {error}"
    return kernel


def compiled(op: str) -> bool:
    """Whether the compiled library can be loaded here and has operator `op` of its own."""
    native = importlib.import_module("facegan_kernels.native")
    return KERNELS.get(("native", op)) == COMPILED and native.unavailable("cpu") is None


def _operator(op: str) -> Callable[..., Any]:
    import torch

    operator: Callable[..., Any] = getattr(torch.ops.facegan, op).default
    return operator
