"""The three cascaded networks of MTCNN: proposals, their refinement, and landmarks (Zhang et al. 2016, figure 2).

Inputs are float32 [N, 3, H, W], RGB in [-1, 1]. Each network returns the probability of a face [N, ...], what its window lacks to be the
face's box, as shares of the window [N, 4, ...] (x0, y0, x1, y1), and the last one five landmarks [N, 5, 2] as shares of the window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

PROPOSAL, REFINEMENT, LANDMARKS = 12, 24, 48  # pixels of the windows that the networks look at
STRIDE = 2  # of the proposals' windows


def _convolutions(*channels: int, kernels: Sequence[int], pools: Sequence[int]) -> list[nn.Module]:
    """Convolutions without padding and PReLU, each followed by a pooling of stride 2 where `pools` has its width; below zero the last
    window must be whole."""
    layers: list[nn.Module] = []
    for inputs, outputs, kernel, pool in zip(channels[:-1], channels[1:], kernels, pools, strict=True):
        layers += [nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs)]
        layers += [nn.MaxPool2d(abs(pool), 2, ceil_mode=pool > 0)] * bool(pool)
    return layers


class Columns(nn.Module):
    """[N, C, H, W] -> [N, W H C]: column by column, as the networks' linear layers were trained."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 3, 2, 1).flatten(1)


class _Network(nn.Module):
    def load(self, arrays: Sequence[np.ndarray]) -> None:
        """Take the weights from arrays in TensorFlow's layout: convolutions [H, W, in, out], linear layers [in, out].

        Raises:
            ValueError: another number of arrays, or other shapes.
        """
        for parameter, array in zip(self.parameters(), arrays, strict=True):
            values = torch.from_numpy(np.ascontiguousarray(array)).float()
            values = values.permute(3, 2, 0, 1) if values.ndim == 4 else values.T if values.ndim == 2 else values.flatten()
            if values.shape != parameter.shape:
                raise ValueError(f"expected {list(parameter.shape)}, got {list(values.shape)}")
            with torch.no_grad():
                parameter.copy_(values)


class ProposalNetwork(_Network):
    """Every 12 x 12 window of a picture [N, 3, H, W]: probabilities [N, h, w] and offsets [N, 4, h, w], one for every second pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(*_convolutions(3, 10, 16, 32, kernels=(3, 3, 3), pools=(2, 0, 0)))
        self.offsets, self.face = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.maps(images)
        return self.face(maps).softmax(1)[:, 1], self.offsets(maps)


class RefinementNetwork(_Network):
    """Windows [N, 3, 24, 24]: probabilities [N] and offsets [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            *_convolutions(3, 28, 48, 64, kernels=(3, 3, 2), pools=(3, -3, 0)), Columns(), nn.Linear(576, 128), nn.PReLU(128)
        )
        self.offsets, self.face = nn.Linear(128, 4), nn.Linear(128, 2)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        features = self.maps(windows)
        return self.face(features).softmax(1)[:, 1], self.offsets(features)


class LandmarkNetwork(_Network):
    """Windows [N, 3, 48, 48]: probabilities [N], offsets [N, 4] and landmarks [N, 5, 2] (x, y): the eye on the left of the picture, the
    one on its right, the nose's tip, the mouth's left and right corner."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            *_convolutions(3, 32, 64, 64, 128, kernels=(3, 3, 3, 2), pools=(3, -3, 2, 0)), Columns(), nn.Linear(1152, 256), nn.PReLU(256)
        )
        self.offsets, self.points, self.face = nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.maps(windows)
        points = self.points(features).unflatten(1, (2, 5)).transpose(1, 2)
        return self.face(features).softmax(1)[:, 1], self.offsets(features), points
