"""`torch_utils.ops.grid_sample_gradfix`: PyTorch's own operator, which differentiates twice by now."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

enabled = False  # training loops set it


def grid_sample(input: Tensor, grid: Tensor) -> Tensor:
    """Sample [N, C, H, W] bilinearly at grid [N, H', W', 2]; zero outside."""
    return F.grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
