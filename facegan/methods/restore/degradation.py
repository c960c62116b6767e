"""How good faces become bad ones for a restorer to learn from: fading, blur, shrinking, noise, JPEG (Yang et al. 2021, eq. 3).

Every image gets values of its own, drawn from ranges, and its own small size; still a batch is one computation on the device:
resampling is a product with a matrix for each image, on a canvas that holds the largest size. All randomness comes in as
numbers, so that the same ones give the same faces whatever the batch or the process.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facegan.graphs import constant
from facegan.methods.restore.jpeg import jpeg
from facegan.methods.restore.ranges import Degradation

NUMBERS = 7  # uniform numbers that an image's values are made of


def degrade(images: Tensor, ranges: Degradation, u: Tensor, noise: Tensor) -> Tensor:
    """[N, 3, R, R] in [-1, 1] -> the same shape: small and degraded, and resampled to the old size as `facegan restore` does.

    u [N, NUMBERS] in [0, 1); noise [N, 3, S, S] of `Degradation.noise_shape`, standard normal.
    """
    resolution, canvas = images.shape[-1], ranges.canvas(images.shape[-1])
    values = iter(u.unbind(1))
    low, high = (math.log(factor) for factor in ranges.downsample)
    small = (resolution / torch.exp(low + (high - low) * next(values))).round().clamp(2, canvas)  # [N]
    rows, columns = (_shrinking(resolution, canvas, small, _between(ranges.blur, next(values))) for _ in range(2))
    sigma, quality, *faded = (_between(pair, next(values)) for pair in (ranges.noise, ranges.jpeg, ranges.fade, ranges.fade))
    y = rows[:, None] @ fade(images, *faded) @ columns[:, None].mT
    y = (y + sigma.view(-1, 1, 1, 1) / 127.5 * noise).clamp(-1, 1)
    enlarging = lanczos_matrix(canvas, resolution, small)[:, None]
    wide = rounded(rounded(jpeg(y, quality)) @ enlarging.mT)  # Pillow too comes to whole levels in between
    return rounded(enlarging @ wide)


def _between(pair: tuple[float, float], u: Tensor) -> Tensor:
    return pair[0] + (pair[1] - pair[0]) * u


def fade(images: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Towards grey, and then towards the image's mean, by shares [N]."""
    luma = torch.einsum("c,nchw->nhw", constant((0.299, 0.587, 0.114), images.device, images.dtype), images)[:, None]
    grey = images.lerp(luma.expand_as(images), saturation.view(-1, 1, 1, 1))
    return grey.lerp(grey.mean((1, 2, 3), keepdim=True).expand_as(grey), contrast.view(-1, 1, 1, 1))


def rounded(images: Tensor) -> Tensor:
    """To the 256 levels of a picture's pixels."""
    return ((images * 127.5 + 127.5).round().clamp(0, 255) - 127.5) / 127.5


def _shrinking(size: int, canvas: int, small: Tensor, sigma: Tensor) -> Tensor:
    """[N, canvas, size]: blur, then the small image; beyond it the last row again, as JPEG's encoder fills its blocks."""
    return lanczos_matrix(size, size, small, onto=canvas) @ gaussian(size, sigma)


def gaussian(size: int, sigma: Tensor) -> Tensor:
    """[N, size, size]: a blur of sigma [N] pixels, normalised inside the image; 0 is the identity."""
    place = torch.arange(size, dtype=torch.float32, device=sigma.device)
    weight = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma.clamp(min=1e-3).view(-1, 1, 1) ** 2))
    return weight / weight.sum(2, keepdim=True)


def lanczos_matrix(size: int, target: int, small: Tensor, onto: int = 0) -> Tensor:
    """Lanczos resampling with three lobes, widened when it shrinks, as Pillow's.

    With `onto`: from `size` to `small` [N], on `onto` rows, [N, onto, size]; without: from `small`, the first rows of `size`, to
    `target`, [N, target, size].
    """
    small = small.view(-1, 1, 1)
    origin, result = (torch.full_like(small, size), small) if onto else (small, torch.full_like(small, target))
    row = torch.arange(onto or target, dtype=torch.float32, device=small.device)[:, None]
    column = torch.arange(size, dtype=torch.float32, device=small.device)
    ratio = origin / result
    centre = (torch.minimum(row, result - 1) + 0.5) * ratio - 0.5
    x = (column - centre) / ratio.clamp(min=1)
    weight = torch.sinc(x) * torch.sinc(x / 3) * (x.abs() < 3) * (column < origin)
    return weight / weight.sum(2, keepdim=True)
