"""Shared by the tests of the ops."""

from __future__ import annotations

import facegan_kernels
import pytest
import torch

from facegan import backend
from facegan.ops import registration


@pytest.fixture(autouse=True)
def guarded(one_thread: None, poisoned_empty: None) -> None:
    torch.manual_seed(0)
    registration.operators("reference")  # torch.ops.facegan_reference


@pytest.fixture(params=["reference", "registered"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Through PyTorch's own graph, or through the registered operators that kernels serve, here by their PyTorch forms."""
    if request.param == "registered":
        monkeypatch.setattr(backend, "_selected", {})
        monkeypatch.setattr(backend, "_found", {})
        monkeypatch.setattr(backend, "_default", "native")
        monkeypatch.setattr(facegan_kernels, "find", lambda op, *_: backend._references[op])
        monkeypatch.setitem(registration._operators, "native", registration.operators("reference"))
    else:
        monkeypatch.setattr(backend, "_default", "reference")
    return str(request.param)
