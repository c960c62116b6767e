"""Every kind of step of a training, of whatever method."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from facegan.config import TrainConfig
from facegan.methods import METHODS
from facegan.methods.common.steps import Rig, Step

META = torch.device("meta")


def steps(config: TrainConfig, processes: int = 1, attributes: int = 2, device: torch.device = META) -> Iterator[Step]:
    """(name, what runs it) of every kind of step of a training of so many processes."""
    return METHODS[config.method].steps(config, Rig(device, processes, attributes, config.mixed_precision == "bf16"))
