"""Augmentation and degradation of faces for the judge alone, batched and keyed by an explicit generator.

Generated faces are soft, smudged and noisy, and a classifier that only ever saw photographs takes a smudge on the chin
for a beard. So the judge learns from photographs spoiled in the same ways. What spoiling does to the *labels* is the
point of this file: see :func:`keep_labels` and :func:`blend`. The generator's side has augmentations of its own; they
share no code with these, as a common weakness would let a generator fool critic and judge together.

Images are float [N, 3, H, W] in [-1, 1]; labels are float [N, K], 1 or 0, NaN where there is no label.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.pixels import JPEG_LUMA

CLEAN, MILD, STRONG = 0, 1, 2


def stream(*key: int) -> torch.Generator:
    """A CPU generator that depends on nothing but the non-negative integers of ``key``, e.g. (seed, member, step)."""
    # with the length, as SeedSequence pads with zeros: (1, 2) would equal (1, 2, 0)
    state = np.random.SeedSequence((len(key), *key)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def uniform(generator: torch.Generator, low: float | Tensor, high: float | Tensor, num: int) -> Tensor:
    """[num, 1, 1, 1] values, uniform in [low, high)."""
    return low + (high - low) * torch.rand(num, 1, 1, 1, generator=generator)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own ``sigma`` (pixels, [N] or [1]), as two small matrix products.

    Rows are normalised inside the image, so a flat image stays flat up to its border. A sigma of 0 changes nothing.
    """

    def matrix(size: int) -> Tensor:  # [N, size, size]
        place = torch.arange(size, dtype=images.dtype, device=images.device)
        distance = (place[:, None] - place[None, :]) ** 2
        width = sigma.to(images).clamp(min=1e-3).reshape(-1, 1, 1)
        weight = torch.exp(-distance / (2 * width**2))
        return weight / weight.sum(-1, keepdim=True)

    height, breadth = images.shape[-2:]
    return matrix(height)[:, None] @ images @ matrix(breadth)[:, None].mT


def resample(images: Tensor, size: int, mode: str) -> Tensor:
    """Shrink to ``size`` x ``size`` with antialiasing and enlarge again with ``mode`` (nearest or bilinear)."""
    small = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    shape = images.shape[-2:]
    return (
        F.interpolate(small, size=shape, mode=mode)
        if mode == "nearest"
        else F.interpolate(small, size=shape, mode=mode, align_corners=False)
    )


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """JPEG per channel (8 x 8 cosine transform, rounding by the standard's luma table); quality [N] in 1..100."""
    num, channels, height, width = images.shape
    padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate") * 127.5
    rows, columns = padded.shape[-2] // 8, padded.shape[-1] // 8
    blocks = padded.reshape(num, channels, rows, 8, columns, 8).transpose(3, 4)
    order = torch.arange(8.0, device=images.device)
    cosine = torch.cos(math.pi * order[:, None] * (2 * order[None, :] + 1) / 16) / 2  # [frequency, place]
    cosine[0] /= math.sqrt(2)
    quality = quality.to(images).reshape(-1, 1, 1, 1, 1, 1).clamp(1, 100)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)  # the Independent JPEG Group's rule
    table = torch.floor(torch.tensor(JPEG_LUMA, dtype=images.dtype, device=images.device) * scale + 0.5).clamp(1, 255)
    blocks = cosine.T @ (torch.round(cosine @ blocks @ cosine.T / table) * table) @ cosine
    whole = blocks.transpose(3, 4).reshape(num, channels, rows * 8, columns * 8)
    return whole[..., :height, :width] / 127.5


def smooth_field(generator: torch.Generator, num: int, channels: int, cells: int, shape: tuple[int, int]) -> Tensor:
    """[num, channels, H, W]: a low-frequency random field of about unit variance, ``cells`` bumps across."""
    coarse = torch.randn(num, channels, cells, cells, generator=generator)
    return F.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)


def warp(images: Tensor, generator: torch.Generator, strength: Tensor) -> Tensor:
    """Flip and shift; turn, scale and bend as well where ``strength`` is above :data:`CLEAN`; in one resampling.

    Clean images move by whole pixels only, so that they keep the thin lines (a moustache of one pixel) that
    interpolation would blur away.
    """
    num, _, height, width = images.shape
    spoiled = (strength > CLEAN).reshape(num, 1).float()
    angle, stretch = (spoiled * uniform(generator, -size, size, num).reshape(num, 1) for size in (0.1, 0.07))
    shift = uniform(generator, -0.04, 0.04, 2 * num).reshape(num, 2, 1)
    shift = torch.where(spoiled[:, None] > 0, shift, torch.round(shift * width) / width) * 2  # in half widths
    flip = torch.randint(0, 2, (num, 1), generator=generator) * 2 - 1
    cos, sin = torch.cos(angle) * torch.exp(stretch), torch.sin(angle) * torch.exp(stretch)
    rotation = torch.stack([torch.cat([cos * flip, -sin], 1), torch.cat([sin * flip, cos], 1)], 1)  # [N, 2, 2]
    grid = F.affine_grid(torch.cat([rotation, shift], 2), [num, 3, height, width], align_corners=False)
    bend = smooth_field(generator, num, 2, 5, (height, width)).permute(0, 2, 3, 1)
    most = torch.tensor([0.0, 0.01, 0.06])[strength]  # per level, as a share of half the width
    grid = grid + (most * torch.rand(num, generator=generator)).reshape(num, 1, 1, 1) * bend
    return F.grid_sample(images, grid.to(images), mode="bilinear", padding_mode="reflection", align_corners=False)


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and a slow change of light over the face."""
    num, _, height, width = images.shape
    contrast = torch.exp(uniform(generator, -0.35, 0.35, num)).to(images)
    saturation = uniform(generator, 0.3, 1.5, num).to(images)
    light = smooth_field(generator, num, 1, 3, (height, width)) * uniform(generator, 0, 0.12, num)
    light = (light + uniform(generator, -0.2, 0.2, num)).to(images)
    grey = images.mean(1, keepdim=True)
    return contrast * (grey + saturation * (images - grey)) + light


def erase(images: Tensor, generator: torch.Generator, chance: float = 0.25) -> Tensor:
    """Random erasing (Zhong et al. 2017) with a small grey rectangle: never enough to hide a whole attribute."""
    num, _, height, width = images.shape
    centre = torch.rand(2, num, 1, 1, 1, generator=generator)
    half = 0.04 + 0.08 * torch.rand(2, num, 1, 1, 1, generator=generator)
    half = half * (torch.rand(num, 1, 1, 1, generator=generator) < chance)
    tone = uniform(generator, -1, 1, num).to(images)
    row = ((torch.arange(height) + 0.5) / height).reshape(1, 1, height, 1)
    column = ((torch.arange(width) + 0.5) / width).reshape(1, 1, 1, width)
    inside = ((row - centre[0]).abs() < half[0]) & ((column - centre[1]).abs() < half[1])
    return torch.where(inside.to(images.device), tone, images)


def augment(images: Tensor, generator: torch.Generator, strength: Tensor) -> Tensor:
    """Changes under which every label keeps its truth, and bending as far as ``strength`` ([N] levels) allows."""
    return erase(recolour(warp(images, generator, strength), generator), generator)


def degrade(images: Tensor, generator: torch.Generator, strength: Tensor) -> Tensor:
    """Spoil image i as ``strength[i]`` (:data:`CLEAN`, :data:`MILD`, :data:`STRONG`; int64 [N]) says.

    Each spoiled image gets a random subset of: smudges, resampling, blur, noise, JPEG, stretched contrast.
    Blur and noise scale with the resolution: sigma up to 1.8 % (mild) or 4 to 10 % (strong) of the width.
    """
    num, _, height, width = images.shape

    def amount(mild: tuple[float, float], strong: tuple[float, float], chance: float) -> Tensor:  # [N, 1, 1, 1]
        on = (torch.rand(num, 1, 1, 1, generator=generator) < chance) & (strength > CLEAN).reshape(-1, 1, 1, 1)
        heavy = (strength == STRONG).reshape(-1, 1, 1, 1)
        low, high = (torch.where(heavy, strong[i], mild[i]) for i in (0, 1))
        return torch.where(on, uniform(generator, low, high, num), 0.0)

    smudge = smooth_field(generator, num, 1, max(3, height // 5), (height, width))
    images = images + (amount((0.02, 0.1), (0.1, 0.5), 0.4) * smudge).to(images)
    images = _resample_some(images, generator, strength)
    images = gaussian_blur(images, amount((0, 0.018 * width), (0.04 * width, 0.1 * width), 0.6).flatten())
    stretch = 1 + amount((0, 0.3), (0.3, 1.5), 0.4).to(images)
    images = (images * stretch).clamp(-1, 1)
    grain = torch.randn(num, 3, (height + 1) // 2, (width + 1) // 2, generator=generator)
    coarse = F.interpolate(grain, (height, width))
    images = images + (amount((0, 0.06), (0.05, 0.3), 0.3) * coarse).to(images)
    fine = torch.randn(num, 3, height, width, generator=generator)
    images = images + (amount((0, 0.08), (0.05, 0.4), 0.4) * fine).to(images)
    rate = amount((40, 95), (5, 30), 0.3).flatten()
    chosen = rate.nonzero().flatten().to(images.device)
    return images.index_copy(0, chosen, jpeg(images[chosen], rate[rate > 0])).clamp(-1, 1)


def _resample_some(images: Tensor, generator: torch.Generator, strength: Tensor) -> Tensor:
    num, width = len(images), images.shape[-1]
    draw = torch.rand(num, generator=generator)
    mode = torch.randint(0, 2, (num,), generator=generator)
    for level, factors in ((MILD, (1.2, 1.4)), (STRONG, (2.5, 4.0, 6.0))):
        for i, factor in enumerate(factors):
            share = (i / len(factors) * 0.5, (i + 1) / len(factors) * 0.5)  # half of the images in all
            for kind, name in enumerate(("nearest", "bilinear")):
                hit = (strength == level) & (draw >= share[0]) & (draw < share[1]) & (mode == kind)
                chosen = hit.nonzero().flatten().to(images.device)
                if len(chosen):
                    images = images.index_copy(0, chosen, resample(images[chosen], max(2, round(width / factor)), name))
    return images


def keep_labels(labels: Tensor, strength: Tensor) -> Tensor:
    """A strongly spoiled face without the attribute is still without it; whether one *with* it still shows it, nobody
    knows. So under :data:`STRONG` the zeros stay and the ones become NaN, and mild changes keep everything."""
    lost = (strength == STRONG)[:, None].to(labels.device) & (labels == 1)
    return torch.where(lost, torch.nan, labels)


def blend(images: Tensor, labels: Tensor, partner: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Average face i with face ``partner[i]`` (``weight[i]`` of it), as under-trained generators do.

    Where the two agree about an attribute so does their mean; where they differ, or one is unknown, it has no label.
    A weight of 0 leaves face and labels alone.
    """
    share = weight.to(images).reshape(-1, 1, 1, 1)
    mixed = torch.where(labels == labels[partner], labels, torch.nan)
    alone = (weight == 0).to(labels.device)[:, None]
    return images + share * (images[partner] - images), torch.where(alone, labels, mixed)
