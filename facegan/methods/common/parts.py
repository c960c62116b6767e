"""A batch in parts: over processes, and one after the other where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from facegan.errors import FaceganError


def pieces(x: Tensor | None, count: int) -> Sequence[Tensor | None]:
    return [None] * count if x is None else x.chunk(count)


def check_parts(batch: int, accumulate: int, processes: int, group: int) -> int:
    """Images of a part of the batch on one process: whole groups of the minibatch deviation, or the parts would not be the batch."""
    parts = processes * accumulate
    if batch % (parts * group):
        raise FaceganError(
            f"`accumulate` is {accumulate}: with {processes} process(es) `batch` must be a multiple of {parts * group}, so that "
            f"every part holds whole groups of {group}; it is {batch}"
        )
    return batch // parts


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Its parameters want no gradients for a while; those that wanted none before want none afterwards."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def update(
    accelerator: Accelerator, wrapped: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Any], Tensor], parts: Sequence[Any]
) -> Tensor:
    """One step of an optimiser by the mean of `loss` over the parts of a batch; processes are synchronised with the last."""
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=accelerator.device)
    for index, part in enumerate(parts):
        with accelerator.no_sync(wrapped) if index + 1 < len(parts) else nullcontext():
            value = loss(part) / len(parts)
            accelerator.backward(value)
        total += value.detach()
    optimizer.step()
    return total
