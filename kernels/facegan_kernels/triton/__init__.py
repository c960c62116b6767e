"""Triton kernels: one module per op, each with its @triton.jit kernels and launchers."""

from __future__ import annotations

import importlib.util
import os


def unavailable(device_type: str) -> str | None:
    """None where the kernels can run on such tensors, else one clause that says why not."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install facegan[triton]"
    if device_type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the triton kernels run on cuda tensors, not on {device_type}"
    return None
