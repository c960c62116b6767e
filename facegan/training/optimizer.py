"""Adam as all trainings use it: one fused kernel a step where PyTorch has one, and fit for a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

FUSED = ("cpu", "cuda")  # devices on which PyTorch's Adam has a fused kernel, from torch 2.10 on


def adam(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], device: torch.device | str
) -> torch.optim.Adam:
    """Adam for parameters (or groups of them, with rates of their own) that lie on `device`.

    On a GPU its count of steps lies there too, so that a step can be captured in a CUDA graph; `lr` and `betas` then stay what they
    are, as the graph holds them as constants. Elsewhere than in `FUSED`, Adam runs by `foreach`.
    """
    kind = torch.device(device).type
    how: dict[str, Any] = dict(fused=True) if kind in FUSED else dict(foreach=True)
    if kind == "cuda":
        how["capturable"] = True
    optimizer = torch.optim.Adam(parameters, lr=lr, betas=betas, **how)
    optimizer._warned_capturable_if_run_uncaptured = True  # it also steps eagerly, and rightly
    return optimizer
