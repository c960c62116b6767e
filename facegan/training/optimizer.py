"""Adam as all trainings use it: one fused kernel a step where PyTorch has one, and fit for a CUDA graph; and how its rate falls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

FUSED = ("cpu", "cuda")  # devices on which PyTorch's Adam has a fused kernel, from torch 2.10 on


def adam(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], device: torch.device | str
) -> torch.optim.Adam:
    """Adam for parameters (or groups of them, with rates of their own) that lie on `device`.

    On a GPU its count of steps lies there too, so that a step can be captured in a CUDA graph; `betas` then stay what they are, as
    the graph holds them as constants, and so does `lr` unless `Rates` changes it. Elsewhere than in `FUSED`, Adam runs by `foreach`.
    """
    kind = torch.device(device).type
    how: dict[str, Any] = dict(fused=True) if kind in FUSED else dict(foreach=True)
    if kind == "cuda":
        how["capturable"] = True
    optimizer = torch.optim.Adam(parameters, lr=lr, betas=betas, **how)
    optimizer._warned_capturable_if_run_uncaptured = True  # it also steps eagerly, and rightly
    return optimizer


class Rates:
    """The learning rates of a stage: what its optimisers were made with, and over the last part of its steps a line down to 0.

    Step s (from 0) of S has min(1, (S - s) / (decay S)) of the rate: the step after the last one would have none.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], steps: int, decay: float) -> None:
        """
        Args:
            optimizers: after their state was loaded; nothing has changed their rates yet.
            decay: share of the steps over which the rates fall; 0: never.
        """
        self.optimizers, self.steps, self.decay = optimizers, steps, decay
        self.full = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def share(self, step: int) -> float:
        """What step `step` has of the full rate: 0 to 1."""
        return min(1.0, (self.steps - step) / (self.decay * self.steps)) if self.decay else 1.0

    def set(self, step: int) -> None:
        """Before step `step`; a graph reads them where they lie on its device."""
        if not self.decay:
            return
        for optimizer, rates in zip(self.optimizers, self.full, strict=True):
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                rate = full * self.share(step)
                if not group.get("capturable"):
                    group["lr"] = rate
                elif isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = torch.tensor(rate, device=group["params"][0].device)
