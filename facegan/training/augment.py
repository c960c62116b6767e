"""Differentiable augmentations; each is a function of given per-image random numbers, never of a global generator.

`diffaugment` is what discriminators see (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training"),
`view` what a frozen critic is averaged over. All are differentiable to any order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from facegan.ops import filter2d

DIFFAUGMENT_NUMBERS = 5
VIEW_NUMBERS = 6


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
    kernel = torch.tensor([1.0, 2.0, 1.0], device=x.device)
    soft = filter2d(shifted, kernel / kernel.sum())
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
    """Blurred, downsampled x2-x8 or noised copies, by u [N, 2] in [0, 1): what a critic must not take for an attribute."""
    size, out = x.shape[2], []
    for image, (kind, strength), grain in zip(x.split(1), u.tolist(), noise.split(1), strict=True):
        if kind < 0.4:
            image = gaussian_blur(image, size / 64 * (1.0 + 4.0 * strength))
        elif kind < 0.7:
            small = F.interpolate(image, size=max(2, round(size / (2.0 + 6.0 * strength))), mode="area")
            image = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
        else:
            image = image + (0.15 + 0.6 * strength) * grain
        out.append(image.clamp(-1, 1))
    return torch.cat(out)


def sharpness(x: Tensor) -> Tensor:
    """Variance of the Laplacian of the luma of each image [N]: small for blur, large for noise."""
    luma = (x * x.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
    kernel = x.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return F.conv2d(luma, kernel).flatten(1).var(dim=1, correction=0)
