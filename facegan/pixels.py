"""Images as bytes and as what networks take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_float(images: np.ndarray | Tensor, device: torch.device | str | None = None) -> Tensor:
    """uint8 [N, 3, H, W] -> float32 in [-1, 1], channels_last; on `device`, or where the images are."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    tensor = tensor.to(device).to(memory_format=torch.channels_last)
    return tensor.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8, rounded to nearest and clipped."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
