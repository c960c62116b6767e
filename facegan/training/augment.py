"""Differentiable augmentations; each is a function of given per-image random numbers, never of a global generator.

`diffaugment` is what discriminators see (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training"),
`view` what a frozen critic is averaged over. All are differentiable to any order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from facegan.graphs import constant
from facegan.ops import filter2d
from facegan.ops.registration import uncast

DIFFAUGMENT_NUMBERS = 5
VIEW_NUMBERS = 6
LUMA = (0.299, 0.587, 0.114)
LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def colour(x: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Per-image shifts and scales ([N, 1, 1, 1]) of brightness (added), saturation and contrast (factors)."""
    x = x + brightness
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * contrast


def translate(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Shift image i down by rows[i] and right by columns[i] whole pixels, the border repeated."""
    n, _, height, width = x.shape
    ys = (torch.arange(height, device=x.device)[None] - rows[:, None]).clamp(0, height - 1)
    xs = (torch.arange(width, device=x.device)[None] - columns[:, None]).clamp(0, width - 1)
    batch = torch.arange(n, device=x.device)[:, None, None]
    shifted = x.permute(0, 2, 3, 1)[batch, ys[:, :, None], xs[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def whole_pixels(u: Tensor, most: int) -> Tensor:
    """u in [0, 1) -> integers -most .. most, all equally likely."""
    return (u * (2 * most + 1)).floor().long() - most


def diffaugment(x: Tensor, u: Tensor, shift: float = 0.0625) -> Tensor:
    """Colour and translation with random numbers u [N, 5] in [0, 1).

    The shift is at most `shift` of the side: half of the paper's, as a regional discriminator must not see its
    neighbour's region.
    """
    u = u[:, :, None, None, None]
    x = colour(x, (u[:, 0] - 0.5) * 0.6, u[:, 1] * 1.0 + 0.5, u[:, 2] + 0.5)
    most = max(1, round(x.shape[2] * shift))
    return translate(x, whole_pixels(u[:, 3].flatten(), most), whole_pixels(u[:, 4].flatten(), most))


def view(x: Tensor, u: Tensor) -> Tensor:
    """One random view: flip, shift, slight blur, colour; u [N, 6] in [0, 1)."""
    flipped = torch.where((u[:, 5] < 0.5)[:, None, None, None], x, x.flip(3))
    shifted = diffaugment(flipped, u)
    soft = filter2d(shifted, constant((0.25, 0.5, 0.25), x.device))
    strength = u[:, 0, None, None, None]  # the colour number again: views need variety, not independence
    return shifted + strength * (soft - shifted)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of `sigma` pixels, the border reflected."""
    radius = min(max(1, round(3 * sigma)), min(x.shape[2:]) - 1)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="reflect"), taps, groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="reflect"), taps.transpose(2, 3), groups=x.shape[1])


def degrade(x: Tensor, u: Tensor, noise: Tensor) -> Tensor:
    """Blurred, downsampled x2-x8 or noised copies, by u [N, 2] in [0, 1): what a critic must not take for an attribute.

    Each image [R, R] is changed in a way of its own, and all by one computation: M X M^T with a matrix each.
    """
    size = x.shape[2]
    kind, strength = u[:, 0, None, None], u[:, 1, None, None]
    blurred = blur_matrix(size, size / 64 * (1.0 + 4.0 * strength))
    coarse = coarse_matrix(size, (size / (2.0 + 6.0 * strength)).round().clamp(min=2))
    matrix = torch.where(kind < 0.4, blurred, coarse)[:, None]
    noised = x + (0.15 + 0.6 * strength[:, None]) * noise
    with uncast(x):
        softened = matrix @ x @ matrix.mT
    return torch.where(kind[:, None] < 0.7, softened, noised).clamp(-1, 1)


def blur_matrix(size: int, sigma: Tensor) -> Tensor:
    """[N, size, size]: `gaussian_blur` of rows by sigma [N, 1, 1] pixels; where the taps are reflected at the border they add up."""
    radius = (3 * sigma).round().clamp(1, size - 1)
    place = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    row, column = place[:, None], place

    def weight(offset: Tensor) -> Tensor:
        return torch.exp(-0.5 * (offset / sigma) ** 2) * (offset.abs() <= radius)

    reflected = weight(row + column) * (column > 0) + weight(2 * (size - 1) - row - column) * (column < size - 1)
    matrix = weight(row - column) + reflected
    return matrix / matrix.sum(2, keepdim=True)


def coarse_matrix(size: int, small: Tensor) -> Tensor:
    """[N, size, size]: rows to `small` [N, 1, 1] ones by the mean of those that each covers, and back by linear interpolation."""
    canvas = size // 2  # no image becomes larger
    row = torch.arange(canvas, device=small.device, dtype=small.dtype)[:, None]
    place = torch.arange(size, device=small.device, dtype=small.dtype)
    first, last = (row * size / small).floor(), ((row + 1) * size / small).ceil()
    covered = ((place >= first) & (place < last) & (row < small)).to(small.dtype)
    down = covered / covered.sum(2, keepdim=True).clamp(min=1)  # [N, canvas, size]
    source = ((place[:, None] + 0.5) * small / size - 0.5).clamp(min=0)  # [N, size, 1], in the small image
    source = torch.minimum(source, small - 1)
    up = (1 - (source - row.mT).abs()).clamp(min=0)  # [N, size, canvas]
    with uncast(small):
        return up @ down


def sharpness(x: Tensor) -> Tensor:
    """Variance of the Laplacian of the luma of each image [N]: small for blur, large for noise."""
    luma = (x * constant(LUMA, x.device, x.dtype)[None, :, None, None]).sum(1, keepdim=True)
    kernel = constant(LAPLACE, x.device, x.dtype)[None, None]
    return F.conv2d(luma, kernel).flatten(1).var(dim=1, correction=0)
