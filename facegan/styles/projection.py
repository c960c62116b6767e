"""Projection of images into the latent space of a generator (Karras et al. 2020a, appendix D), several at once.

Minimised over w and the noise maps n, for each image on its own:
`L = |features(G(w + 0.05 sigma_w t^2 e, n)) - features(target)|^2 + 1e5 sum (autocorrelation of n)^2 + prior d_0 |v(w)|^2 / w_dim`,
`e ~ N(0, I)`. v is Zhu et al. 2020's space P_N ("Improved StyleGAN Embedding: Where are the Good Latents?"), in which the network's own
styles are about N(0, I), and d_0 the distance of the mean face. The start is the nearest of some of the network's own faces [ours]:
from the mean style the way into a beard or glasses is seldom found. Without the prior w ends where no face of the network is, in smears.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import randomness
from facegan.checkpoints import checkpoint
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.options import Projecting
from facegan.styles.perceptual import Perceptual, distance

SAMPLES = 10_000  # of the mean style and its spread
RATE, RAMP_UP, RAMP_DOWN = 0.1, 0.05, 0.25  # Adam's learning rate, and the shares of the steps in which it rises and falls
W_NOISE, W_NOISE_SHARE = 0.05, 0.75  # of sigma_w at the first step, and the share of the steps in which it falls to 0
AUTOCORRELATION = 1e5
TRIED = 4  # so many steps for each of the network's own faces that is looked at for the start
# `latent_distance` above which a photo is flagged: more than any of 64 synthetic and 64 photographed faces had that were projected
# into W of their own 64 px networks (synthetic at most 2.9, photos 3.7; in W+ five photos had at most 2.0). It finds only what lies
# far out: faces turned by 90 degrees or half out of the picture had 2.6 to 3.4, and plain areas are imitated too well to be found.
MOST_DISTANT = {"w": 4.0, "w+": 3.0}


@dataclass(frozen=True)
class Settings:
    space: Literal["w", "w+"] = "w"  # one style for all layers, or one for each
    steps: int = 1000
    seed: int = 0
    prior: float = 0.0003  # weight of the distance from the network's own styles

    @classmethod
    def of(cls, options: Projecting) -> Settings:
        """What the options of a command say."""
        return cls(options.space, options.steps, options.seed, options.prior)

    def __post_init__(self) -> None:
        if not 0 <= self.prior < math.inf:
            raise FaceganError(f"`prior` is {self.prior:g}: expected 0 or more, such as 0.0003")


@torch.no_grad()
def own_styles(generator: Generator) -> Tensor:
    """[SAMPLES, w_dim] of always the same z; a conditional network's labels take turns."""
    config, mean = generator.config, generator.mapping.w_avg
    z = randomness.generator(0, "styles/w").standard_normal((SAMPLES, config.z_dim), dtype=np.float32)
    c = F.one_hot(torch.arange(SAMPLES) % config.c_dim, config.c_dim).float() if config.c_dim else None
    parts = []
    for start in range(0, SAMPLES, 1000):
        rows = slice(start, start + 1000)
        label = None if c is None else c[rows].to(mean.device)
        parts.append(generator.mapping(torch.from_numpy(z[rows]).to(mean.device), label)[:, 0])
    return torch.cat(parts)


def w_statistics(generator: Generator, styles: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean style [w_dim] and sigma_w = sqrt(E |w - mean|^2) of `own_styles`."""
    w = (own_styles(generator) if styles is None else styles).double()
    mean = w.mean(0)
    return mean.float(), (w - mean).square().sum(1).mean().sqrt().float()


class Whitened:
    """Zhu et al. 2020's P_N: styles with the mapping's last leaky ReLU undone (slope 0.2), rotated and scaled so that the network's own
    `styles` [S, w_dim] have mean 0 and variance 1 in every direction; where they have hardly any, as if it were 1e-4 of the largest."""

    def __init__(self, styles: Tensor) -> None:
        undone = F.leaky_relu(styles.double(), 5.0)
        mean = undone.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((undone - mean).T))
        self.mean = mean.float()
        self.matrix = (vectors * values.clamp(min=1e-4 * values[-1]).rsqrt()).float()

    def __call__(self, ws: Tensor) -> Tensor:
        """[..., w_dim] -> the same shape."""
        return (F.leaky_relu(ws, 5.0) - self.mean) @ self.matrix


def latent_distance(generator: Generator, ws: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """[N, num_ws, w_dim] -> [N]: root mean square distance of the layers' styles from the mean style, in sigma_w. It is about 1 for
    the network's own styles, and more for what it has no such faces of: W reaches far enough to imitate much else."""
    mean, sigma = statistics or w_statistics(generator)
    return (ws - mean).square().sum(2).mean(1).sqrt() / sigma


def learning_rate(step: int, steps: int) -> float:
    """Linear up from 0, cosine down to 0."""
    t = step / steps
    down = min(1.0, (1 - t) / RAMP_DOWN)
    return RATE * min(1.0, t / RAMP_UP) * (0.5 - 0.5 * math.cos(math.pi * down))


def noise_maps(noise: Tensor, config: StyleGAN2Config) -> list[Tensor]:
    """[N, num_noise] -> one view [N, maps, size, size] for each size."""
    shapes = [(sum(maps for maps, side, _ in config.noise_shapes if side == size), size, size) for size in config.sizes]
    parts = noise.split([math.prod(shape) for shape in shapes], dim=1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


def autocorrelation(noise: Tensor, config: StyleGAN2Config) -> Tensor:
    """[N, num_noise] -> [N]: squared correlation of each map with itself one pixel to the side and one down (edges wrap),
    for all maps and their averages of 2x2 pixels, times 2 to keep the variance, down to 8 px.

    All maps of a size, and the averages of larger ones, are one tensor.
    """
    total = noise.new_zeros(len(noise))
    above: Tensor | None = None
    for maps in reversed(noise_maps(noise, config)):
        if above is not None and above.shape[3] > 8:
            maps = torch.cat([maps, F.avg_pool2d(above, 2) * 2], dim=1)
        for dim in (2, 3):
            total = total + (maps * maps.roll(1, dim)).mean((2, 3)).square().sum(1)
        above = maps
    return total


@torch.no_grad()
def standardize(noise: Tensor, config: StyleGAN2Config) -> None:
    """Every map to mean 0 and variance 1, in place."""
    for maps in noise_maps(noise, config):
        maps -= maps.mean((2, 3), keepdim=True)
        maps *= maps.square().mean((2, 3), keepdim=True).rsqrt()


def adam(parameters: list[Tensor], recorded: bool) -> torch.optim.Adam:
    """For tensors of one device; `recorded`: the learning rate and the count of steps lie there too, so that a step can be a graph."""
    if not recorded:
        return torch.optim.Adam(parameters, lr=RATE)
    device = parameters[0].device
    optimizer = torch.optim.Adam(parameters, lr=torch.tensor(RATE, device=device), fused=True, capturable=device.type == "cuda")
    optimizer._warned_capturable_if_run_uncaptured = True  # it also steps as it is, and rightly
    return optimizer


class Projection:
    """A batch of images on their way into W; the images share nothing, so none depends on the others.

    `targets` [N, 3, R, R] in [-1, 1]; `keys`: a text for each that its random numbers follow from, with the seed; `cuda_graphs`: see
    `facegan.graphs`.
    """

    def __init__(
        self, generator: Generator, perceptual: Perceptual, targets: Tensor, keys: Sequence[str], settings: Settings,
        cuda_graphs: str = "auto",
    ) -> None:  # fmt: skip
        self.generator, self.perceptual, self.keys, self.settings = generator, perceptual, keys, settings
        self.device = targets.device
        with torch.no_grad():
            self.wanted = perceptual.features(targets)
        styles = own_styles(generator)
        mean, self.sigma = w_statistics(generator, styles)
        self.whitened = Whitened(styles)
        layers = 1 if settings.space == "w" else generator.config.num_ws
        self.w = mean.repeat(len(keys), layers, 1).requires_grad_()
        self.noise = torch.from_numpy(self._normal("noise", 0, (generator.config.num_noise,))).to(self.device)
        standardize(self.noise, self.generator.config)
        self.noise.requires_grad_()
        self.graphed = Graphed(self._step, self.device, cuda_graphs, state=self._changing, name="a step of the projection")
        self.optimizer = adam([self.w, self.noise], recorded=self.graphed.record is not None)
        self.step = 0
        self.start = self.distances()
        with torch.no_grad():
            self.w.copy_(self._nearest(torch.cat([mean[None], styles[: settings.steps // TRIED]]))[:, None])

    @torch.no_grad()
    def _nearest(self, styles: Tensor) -> Tensor:
        """Of styles [S, w_dim] the one whose face is nearest to each target, [N, w_dim]."""
        count, num_ws = len(self.keys), self.generator.config.num_ws
        least, found = self.start.new_full((count,), torch.inf), styles[:1].repeat(count, 1)
        for part in styles.split(count):
            features = self.perceptual.features(self.generator.synthesis(part[:, None].expand(-1, num_ws, -1), "const"))
            apart = torch.stack([distance(features, wanted[None]) for wanted in self.wanted])  # [N, S]
            nearest, index = apart.min(1)
            found = torch.where((nearest < least)[:, None], part[index], found)
            least = torch.minimum(nearest, least)
        return found

    def _normal(self, stream: str, step: int, shape: tuple[int, ...]) -> np.ndarray:
        """float32 [N, *shape], standard normal, each row of its own image."""
        rows = [randomness.generator(self.settings.seed, f"project/{stream}/{key}", step) for key in self.keys]
        return np.stack([row.standard_normal(shape, dtype=np.float32) for row in rows])

    def advance(self) -> Tensor:
        """One step; returns the distances [N] before it, w noise included. A GPU is not waited for."""
        t, rate = self.step / self.settings.steps, learning_rate(self.step, self.settings.steps)
        spread = noise = None
        if t < W_NOISE_SHARE:
            spread = np.float32((1 - t / W_NOISE_SHARE) ** 2)
            noise = self._normal("w", self.step, tuple(self.w.shape[1:]))
        [group] = self.optimizer.param_groups
        if not isinstance(group["lr"], Tensor):
            group["lr"] = rate
        self.step += 1
        distances: Tensor = self.graphed(np.float32(rate), spread, noise)
        return distances

    def _step(self, rate: Tensor, spread: Tensor | None, noise: Tensor | None) -> Tensor:
        """What is computed of a step's numbers: the learning rate, the strength of the noise on w as a share of its first, and that
        noise [N, 1 or num_ws, w_dim]; without the latter two there is none."""
        w = self.w
        if spread is not None and noise is not None:
            w = w + W_NOISE * self.sigma * spread * noise
        distances = distance(self.perceptual.features(self._image(w)), self.wanted)
        loss = distances.sum() + AUTOCORRELATION * autocorrelation(self.noise, self.generator.config).sum()
        loss = loss + self.settings.prior * (self.start * self.whitened(self.w).square().mean((1, 2))).sum()
        [group] = self.optimizer.param_groups
        if isinstance(group["lr"], Tensor):
            group["lr"].copy_(rate)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        standardize(self.noise, self.generator.config)
        return distances.detach()

    def _changing(self) -> list[Tensor]:
        """All that a step changes in place."""
        averages = [value for state in self.optimizer.state.values() for value in state.values()]
        return [self.w, self.noise, *averages]

    def _image(self, w: Tensor) -> Tensor:
        image: Tensor = self.generator.synthesis(w.expand(-1, self.generator.config.num_ws, -1), noise=self.noise)
        return image

    @torch.no_grad()
    def images(self) -> Tensor:
        """What the network makes of the styles and the noise so far, [N, 3, R, R]."""
        return self._image(self.w)

    @torch.no_grad()
    def distances(self) -> Tensor:
        return distance(self.perceptual.features(self.images()), self.wanted)

    def styles(self) -> Tensor:
        """[N, num_ws, w_dim]"""
        return self.w.detach().expand(-1, self.generator.config.num_ws, -1)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What an interrupted projection goes on from: tensors and metadata."""
        tensors = {"w": self.w, "noise": self.noise, "start": self.start, **checkpoint.pack_optimizer("adam", self.optimizer)}
        return tensors, {"step": self.step}

    def load_state(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        with torch.no_grad():
            self.w.copy_(tensors["w"])
            self.noise.copy_(tensors["noise"])
        self.start.copy_(tensors["start"])
        checkpoint.unpack_optimizer("adam", tensors, self.optimizer)
        self.step = metadata["step"]
