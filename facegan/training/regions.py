"""Where each attribute lives in an aligned face: soft masks, learned from labels or from critics, or fixed halves.

A mask's only hard duty is to be exactly zero where another attribute dominates: there a regional discriminator for this one
would learn "faces of X_k lack the other" and take it away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from facegan.data.attributes import Attribute
from facegan.data.faces import FaceData
from facegan.errors import FaceganError
from facegan.pixels import to_float
from facegan.training.augment import gaussian_blur

# Rows of an aligned face, as fractions of its height, for `--masks halves`; they overlap by a few rows.
HALVES = {"bald": (0.0, 0.55), "bangs": (0.0, 0.5), "hat": (0.0, 0.5), "glasses": (0.3, 0.6), "beard": (0.5, 1.0),
          "goatee": (0.55, 1.0), "mustache": (0.55, 0.85), "smile": (0.6, 0.9)}  # fmt: skip
CONTROLS = ("Male", "Young", "Smiling")  # columns held fixed by the regression, where the table has them
MOST_IMAGES = 20_000


def halves(attributes: Sequence[Attribute], resolution: int) -> Tensor:
    """[K, 1, R, R] masks of ones over fixed rows."""
    masks = torch.zeros(len(attributes), 1, resolution, resolution)
    for mask, attribute in zip(masks, attributes, strict=True):
        if attribute.name not in HALVES:
            known = ", ".join(HALVES)
            raise FaceganError(f"`masks=halves` knows no region for {attribute.name!r} (known: {known}): use `masks=regression`")
        top, bottom = HALVES[attribute.name]
        mask[:, round(top * resolution) : round(bottom * resolution)] = 1.0
    return masks


def regression(data: FaceData, attributes: Sequence[Attribute], index: np.ndarray) -> Tensor:
    """[K, 1, R, R] masks from the labels, see `effects`."""
    return compete(effects(data, attributes, index))


def effects(data: FaceData, attributes: Sequence[Attribute], index: np.ndarray) -> Tensor:
    """[K, 1, R, R] energies from the labels: per pixel, colour is regressed on the attributes (and on `CONTROLS`) together.

    The energy of attribute k at a pixel is beta_k^2 / residual variance, a squared effect size in which what the attributes
    merely share (most bald and all bearded faces are men's) cancels: ordinary least squares, in closed form, one pass.
    """
    design, index = design_matrix(data, attributes, index)
    size = data.images.shape[2]
    pixels = 3 * size * size
    xx, xy, yy = np.zeros((design.shape[1],) * 2), np.zeros((design.shape[1], pixels)), np.zeros(pixels)
    for start in range(0, len(index), 512):
        rows = design[start : start + 512]
        images = to_float(np.ascontiguousarray(data.images[index[start : start + 512]]))
        images = (images + images.flip(3)) / 2  # training flips: masks are symmetric
        y = images.contiguous().flatten(1).double().numpy()
        xx, xy, yy = xx + rows.T @ rows, xy + rows.T @ y, yy + (y * y).sum(0)
    beta = np.linalg.lstsq(xx, xy, rcond=None)[0]
    residual = (yy - 2 * (beta * xy).sum(0) + (beta * (xx @ beta)).sum(0)) / len(index)
    energy = beta[1 : 1 + len(attributes)] ** 2 / (residual + 1e-4)
    return torch.from_numpy(energy).float().view(len(attributes), 3, size, size).mean(1, keepdim=True)


def design_matrix(data: FaceData, attributes: Sequence[Attribute], index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (1, attribute_1 .., controls) of the images whose attributes are all known to be strictly there or not."""
    columns, known = [], np.ones(len(data.table.ids), dtype=bool)
    for attribute in attributes:
        positive, negative = data.table.select(attribute.positive), data.table.select(attribute.negative)
        known &= positive | negative
        columns.append(positive.astype(np.float64))
    for name in CONTROLS:
        if name in data.table.columns:
            columns.append(np.nan_to_num(data.table.column(name), nan=0.5).astype(np.float64))
    index = index[known[index]]
    index = index[:: max(1, len(index) // MOST_IMAGES)]
    return np.stack([np.ones(len(index)), *(column[index] for column in columns)], axis=1), index


def saliency(critics: Sequence[Callable[[Tensor], Tensor]], positives: Sequence[Tensor]) -> Tensor:
    """[K, 1, R, R] masks from where the critics look: gradient energy over their own positives [N, 3, R, R]."""
    energies = []
    for critic, images in zip(critics, positives, strict=True):
        leaf = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(leaf).sum(), leaf)
        energy = gradient.square().mean(dim=(0, 1), keepdim=True)
        energies.append((energy + energy.flip(3)) / (2 * energy.mean()))
    return compete(torch.cat(energies).float().cpu())


def compete(energy: Tensor) -> Tensor:
    """Energies [K, 1, R, R] -> masks: each pixel goes to the attributes in proportion, and under a quarter is exactly zero.

    A floor of 2 % of the peak leaves pixels that concern no attribute (the background) to all of them.
    """
    size = energy.shape[2]
    smooth = gaussian_blur(energy.transpose(0, 1), size / 24).transpose(0, 1)
    smooth = smooth + 0.02 * smooth.amax(dim=(1, 2, 3), keepdim=True)
    share = smooth / smooth.sum(dim=0, keepdim=True)
    fair = 1.0 / len(energy)
    return ((share - 0.5 * fair) / fair).clamp(0, 1)
