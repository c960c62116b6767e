"""How far two faces look apart: squared L2 distance of feature vectors, after LPIPS (Zhang et al. 2018, "The Unreasonable
Effectiveness of Deep Features as a Perceptual Metric", eq. 1): features of a network, scaled to unit length at every place,
averaged over places, summed over layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.checkpoints.critics import Critics
from facegan.errors import FaceganError
from facegan.extras import library
from facegan.graphs import constant
from facegan.models.stylegan2 import Discriminator
from facegan.ops import downsample2d, upsample2d

KEEP = 0.3
LARGEST = 256  # pixels; larger images are averaged down first, as LPIPS is meant for this size (Karras et al. 2020a, appendix D)


class Perceptual(Protocol):
    """A distance of images."""

    description: str  # what it is, for the user

    def features(self, images: Tensor) -> Tensor:
        """[N, 3, R, R] in [-1, 1] -> [N, F]: the squared L2 distance of two rows is the distance of their images."""
        ...


def distance(a: Tensor, b: Tensor) -> Tensor:
    """[N, F], [N, F] -> [N]."""
    return (a - b).square().sum(1)


def perceptual_for(discriminator: Discriminator | None, device: torch.device) -> Perceptual:
    """LPIPS where the package and its weights are on this machine, else the network's own discriminator, else a pyramid."""
    model = _lpips_model()
    if model is not None:
        return Lpips(model.to(device))
    if discriminator is not None:
        return DiscriminatorFeatures(discriminator.to(device))
    return Pyramid()


class Lpips:
    """The distance of the `lpips` package over VGG16."""

    description = "LPIPS (VGG16)"

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.weights = [lin.model[-1].weight.clamp(min=0).sqrt() for lin in model.lins]  # [1, C, 1, 1]
        self.device = self.weights[0].device

    def features(self, images: Tensor) -> Tensor:
        layers = self.model.net.forward(self.model.scaling_layer(_shrunk(images.to(self.device))))
        return torch.cat([_averaged(_unit(x) * weight) for x, weight in zip(layers, self.weights, strict=True)], dim=1)


@torch.random.fork_rng(devices=[])  # first weights are drawn, and replaced
def _lpips_model() -> Any | None:
    """LPIPS over VGG16; None where the package is missing, or would have to download weights."""
    weights = Path(torch.hub.get_dir()) / "checkpoints"
    if not any(weights.glob("vgg16-*.pth")):
        return None
    try:
        return library("lpips").LPIPS(net="vgg", verbose=False)
    except FaceganError:
        return None


class DiscriminatorFeatures:
    """What every block of a discriminator makes of the image, and the pixels themselves.

    Vectors of length 1 forget how strong a colour is: by them alone the colours of a projection to W+ go astray.
    """

    description = "features of the network's discriminator, and pixels"

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator.requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        maps = [x for x in self.discriminator.features(images) if x.shape[2] <= LARGEST // 2]
        return torch.cat([_averaged(_shrunk(images)), *(_averaged(_unit(x.float())) for x in maps)], dim=1)


class Keeping:
    """Another distance, and how far critics' scores are apart: a projection keeps what it is to keep, or pays for it.

    A score, about 1 where an attribute is there and 0 where it is not, that is lost costs the share `KEEP` of the distance of two `faces`
    [N, 3, R, R] of the network.
    """

    def __init__(self, other: Perceptual, critics: Critics, faces: Tensor) -> None:
        self.other, self.critics = other, critics
        with torch.no_grad():
            features = other.features(faces)
            self.gain = (KEEP * distance(features, features.roll(1, 0)).mean()).sqrt().item()
        self.description = f"{other.description}; {KEEP:g} of it for a lost score of {', '.join(critics.attributes)}"

    def features(self, images: Tensor) -> Tensor:
        return torch.cat([self.other.features(images), self.gain * self.critics.scores(images).T], dim=1)


class Pyramid:
    """No network: bands of a Laplacian pyramid (Burt & Adelson 1983) and their differences between neighbours."""

    description = "a Laplacian pyramid of pixels and gradients (no network measures the distance)"

    def features(self, images: Tensor) -> Tensor:
        x = _shrunk(images)
        taps = constant((0.125, 0.375, 0.375, 0.125), x.device)  # of `setup_filter`, which would send them again
        kept: list[Tensor] = []
        while x.shape[2] > 4:
            small = downsample2d(x, taps)
            band = x - upsample2d(small, taps)
            kept += [_averaged(band), _averaged(band[:, :, 1:] - band[:, :, :-1]), _averaged(band[..., 1:] - band[..., :-1])]
            x = small
        return torch.cat([*kept, _averaged(x)], dim=1)


def _shrunk(images: Tensor) -> Tensor:
    return F.interpolate(images, size=(LARGEST, LARGEST), mode="area") if images.shape[2] > LARGEST else images


def _unit(x: Tensor) -> Tensor:
    """[N, C, H, W] with the vector at every place scaled to length 1. The square root never meets 0, where it has no gradient."""
    return x * (x.square().sum(1, keepdim=True) + 1e-10).rsqrt()


def _averaged(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H * W * C], so scaled that squared distances are sums over C and means over places."""
    return x.permute(0, 2, 3, 1).flatten(1) / (x.shape[2] * x.shape[3]) ** 0.5  # in this order channels_last needs no copy
