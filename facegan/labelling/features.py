"""What a rater sees of a face: which way its edges run in each cell, and the cell's colour.

Histograms of oriented gradients (Dalal & Triggs 2005), signs left out, in 16 x 16 cells. From some tens or hundreds of aligned faces a
linear function of them learns an attribute better than a network does that has to find its filters first (docs/data.md has the figures).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CELLS, BINS = 16, 9  # cells along a side; directions, of a half turn
FLAT = 0.005  # length of a cell's histogram, of gradients of grey in [0, 1], below which its directions count less


def features(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [n, 3, R, R], R a multiple of 16 -> float32 [n, 12 * 16 * 8]: equal for a face and its mirror image."""
    cells = _cells(torch.from_numpy(np.array(images)).to(device).float() / 255)  # a copy: the images are read-only
    # A mirrored edge runs the other way: of nine directions k becomes 9 - k.
    turned = [*(-k % BINS for k in range(BINS)), *range(BINS, BINS + 3)]
    return ((cells + cells[:, turned].flip(3)) / 2)[..., : CELLS // 2].flatten(1)


def _cells(pixels: Tensor) -> Tensor:
    """float32 [n, 3, R, R] in [0, 1] -> [n, 12, 16, 16]: nine directions, three colours."""
    cell = pixels.shape[-1] // CELLS
    grey = F.pad(pixels.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = (grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]) / 2
    down = (grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]) / 2
    place = torch.remainder(torch.atan2(down, across) / torch.pi, 1.0) * BINS  # in bins; the last is beside the first
    direction = torch.arange(BINS, device=pixels.device)[None, :, None, None]
    apart = torch.remainder(place - direction, BINS)
    share = (1 - torch.minimum(apart, BINS - apart)).clamp(min=0)
    histogram = F.avg_pool2d(share * torch.hypot(across, down), cell)
    histogram = histogram / (histogram.square().sum(1, keepdim=True).sqrt() + FLAT)
    return torch.cat([histogram, 2 * F.avg_pool2d(pixels, cell) - 1], 1)
