"""`facegan tune`: measures, on this GPU, which algorithm suits each layer of a configuration that has a choice, and keeps the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from tqdm import tqdm

from facegan import backend
from facegan.config import TrainConfig
from facegan.errors import FaceganError
from facegan.ops.modulated_conv2d import measured
from facegan.warmup import why_not
from facegan.warmup.launches import every_algorithm, recorded
from facegan.warmup.steps import steps


def tune(config: TrainConfig, device: torch.device) -> dict[str, str]:
    """Runs a step of each kind of a training by `config` on random numbers, and measures what it meets; shape -> algorithm.

    Raises:
        FaceganError: there is nothing that could be measured.
    """
    reason = why_not(device)
    if reason is not None:
        raise FaceganError(f"tune: nothing to measure, as {reason}; name a GPU with `device` cuda")
    shapes = choices(config)
    found: dict[str, str] = {}
    with tqdm(total=len(shapes), desc=f"measuring layers (once; kept in {measured.file()})", unit="layer") as bar:

        def noted(key: Any, device: torch.device, candidates: Mapping[str, Callable[[], torch.Tensor]]) -> str:
            name = measure(key, device, candidates)
            if str(key) not in found:
                found[str(key)] = name
                bar.update()
            return name

        measure = measured.choose
        with _measuring(), mock.patch.object(measured, "choose", noted), backend.use_backend("triton"):
            for name, step in steps(config, device=device) if shapes else ():
                bar.set_postfix_str(name)
                step()
    return found


def choices(config: TrainConfig) -> set[str]:
    """The shapes of a configuration for which there is a choice of algorithms."""
    found: set[str] = set()

    def noted(key: Any, device: Any, candidates: Mapping[str, Callable[[], Any]]) -> str:
        found.add(str(key))
        return every_algorithm(key, device, candidates)

    for name, step in steps(config):
        recorded(step, name, noted)
    return found


@contextmanager
def _measuring() -> Iterator[None]:
    with mock.patch.dict(os.environ, {"FACEGAN_AUTOTUNE": "1"}):
        yield
