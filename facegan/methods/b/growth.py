"""Progressive growing (Karras et al. 2018): how far the networks have grown, and the reals as they look at that size."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.methods.b.config import MethodBConfig
from facegan.models.stylegan2_config import Level
from facegan.ops import setup_filter, upsample2d


def level(config: MethodBConfig, images: float) -> float | None:
    """log2 of the size after so many images, fractional while a size fades in; None for networks that do not grow.

    Each size takes `grow_kimg`: it fades in over the first half and settles over the second.
    """
    if not config.growing:
        return None
    first, last = math.log2(config.growing), math.log2(config.resolution)
    past = images / max(1000 * config.grow_kimg, 1) - 0.5  # the first size only settles
    return first if past <= 0 else min(first + math.floor(past) + min(1.0, 2 * (past % 1)), last)


@functools.cache
def _filter(device: torch.device) -> Tensor:
    """On the device, sent there once."""
    return setup_filter(device=device)


def drawn_level(level: float | None) -> Level | None:
    """A level as a step is given it: which sizes take part is the host's to know, the weight that changes is an array."""
    if level is None:
        return None
    side = 2 ** math.ceil(level)
    return Level(side, None if level == math.ceil(level) else np.array(1 - math.ceil(level) + level, dtype=np.float32))


def seen_at(images: Tensor, level: Level | None) -> Tensor:
    """Reals [N, 3, R, R] at the level's side, as blurred as the size that fades in."""
    if level is None:
        return images
    images = F.avg_pool2d(images, images.shape[2] // level.side) if level.side < images.shape[2] else images
    if level.weight is None:
        return images
    # Enlarged as the generator enlarges its fading colours: the discriminator must not tell the two apart by the filter.
    coarse = upsample2d(F.avg_pool2d(images, 2), _filter(images.device))
    return level.faded(coarse, images)
