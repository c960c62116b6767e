"""Measuring with several processes: each takes its batches, all get the whole. One process goes its plain way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

BATCH = 64  # rows a process takes at once


_accelerator: Accelerator | None = None


def join(device: torch.device) -> None:
    """Meets the other processes of this command, which compute on devices of the same kind; the first call counts.

    Nothing where nobody else is there: Accelerate's state, once made, would bind a training that follows.
    """
    global _accelerator
    if _accelerator is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _accelerator = Accelerator(cpu=device.type == "cpu")


def is_main() -> bool:
    """Whether this process prints and writes."""
    return _accelerator is None or _accelerator.is_main_process


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes ahead and fills the cache; the others find it there."""
    if _accelerator is None:
        yield
    else:
        with _accelerator.main_process_first():
            yield


def distributed_map(function: Callable[[Tensor], Tensor], rows: Tensor, what: str = "") -> Tensor:
    """`function(rows)`, where each row of the result [N, ...] depends on its own row alone: on the CPU, and the same in every
    process, all of which must call. `what` names a bar."""
    accelerator = _accelerator
    if accelerator is None and not what or not len(rows):
        return function(rows)
    # A range is a data set; a generator of its own leaves the global random state alone.
    loader: Any = DataLoader(range(len(rows)), batch_size=BATCH, generator=torch.Generator())  # type: ignore[arg-type]
    if accelerator is not None:
        loader = accelerator.prepare(loader)
    found = []
    for index in tqdm(loader, desc=what, unit="batch", disable=not (what and is_main()) or None):
        part = function(rows[index.cpu()])
        if accelerator is not None:  # drops the rows by which the last batch was filled up
            part = accelerator.gather_for_metrics(part.to(accelerator.device).contiguous())
        found.append(part.cpu())
    return torch.cat(found)
