"""Images as bytes and as what networks take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# The luma table of JPEG's standard at quality 50 (ITU-T T.81, annex K).
JPEG_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def to_float(images: np.ndarray | Tensor, device: torch.device | str | None = None) -> Tensor:
    """uint8 [N, 3, H, W] -> float32 in [-1, 1], channels_last; on `device`, or where the images are."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    tensor = tensor.to(device).to(memory_format=torch.channels_last)
    return tensor.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8, rounded to nearest and clipped."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
