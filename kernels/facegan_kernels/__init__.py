"""Optional accelerator kernels for facegan: Triton and ahead-of-time compiled C++/CUDA.

No kernel ships yet: `KERNELS` is empty, `find` always answers with a reason, and the PyTorch reference serves every operator.

Protocol with `facegan.backend` (the whole of it):

* `find(op, backend, device_type)` answers with the kernel, a callable that takes the positional arguments of the registered
  operator `facegan::<op>` without its last one (`backend`) and returns the same tensors, or with one clause (a `str`) that
  says why there is none. It never raises, and the caller keeps the answer.
* A kernel is one row of `KERNELS`: the module that holds a function named like the operator. The module is imported when
  somebody asks, so `import facegan_kernels` needs neither Triton nor a compiled library.
* A module that cannot work here raises ImportError with the reason as its message.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

DEVICES: dict[str, tuple[str, ...]] = {"triton": ("cuda",), "native": ("cpu", "cuda")}

# (backend, registered operator) -> module; none yet
KERNELS: dict[tuple[str, str], str] = {}


def find(op: str, backend: str, device_type: str) -> Callable[..., Any] | str:
    """The kernel of operator `op` for `backend` on `device_type` ("cpu", "cuda"), or the reason why there is none."""
    module = KERNELS.get((backend, op))
    if module is None:
        return f"facegan_kernels ships no {backend} kernel for {op}"
    if device_type not in DEVICES[backend]:
        return f"the {backend} kernels run on {' and '.join(DEVICES[backend])} tensors, not on {device_type}"
    try:
        kernel: Callable[..., Any] = getattr(importlib.import_module(module), op)
    except ImportError as error:
        return f"{module} cannot be imported: {error}"
    return kernel
