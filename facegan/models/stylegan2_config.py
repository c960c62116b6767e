"""What rebuilds a StyleGAN2 or StyleGAN1 network: its sizes, widths, dtypes, styles, noise and, when it grows, its levels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from facegan.errors import FaceganError

NoiseMode = Literal["random", "const", "none"]
NOISE_MODES = ("random", "const", "none")
ARCHITECTURES = ("skip", "resnet", "stylegan1")
NOISES = ("add", "concat")

# Beyond any published network; a configuration from a file must not ask for a million layers.
_RANGES = {
    "resolution": (4, 4096),
    "z_dim": (1, 1 << 16),
    "w_dim": (1, 1 << 16),
    "c_dim": (0, 1 << 16),
    "mapping_layers": (1, 64),
    "channel_base": (4, 1 << 28),
    "channel_max": (1, 1 << 16),
    "half_sizes": (0, 11),
    "group": (1, 1 << 16),
}


class Level(NamedTuple):
    """How far a network has grown (Karras et al. 2018)."""

    side: int  # of the image
    weight: Any = None  # of that size's block while it fades in, below 1: a float, or a tensor of no dimensions; None: it counts fully

    def faded(self, before: Tensor, new: Tensor) -> Tensor:
        """Between what was there and what the block makes, both of one shape and dtype."""
        if self.weight is None:
            return new
        return before.lerp(new, self.weight.to(new.dtype) if isinstance(self.weight, Tensor) else self.weight)


@dataclass(frozen=True)
class StyleGAN2Config:
    """Everything that rebuilds the two networks; stored beside their weights."""

    resolution: int = 256
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # length of the label, multi-hot too; 0 for none
    mapping_layers: int = 8
    mapping_lr: float = 0.01  # learning-rate multiplier of the mapping
    channel_base: int = 16384  # channels of a size: min(channel_base / size, channel_max)
    channel_max: int = 512
    architecture: Literal["skip", "resnet", "stylegan1"] = "skip"  # of the generator; the discriminator is a resnet
    half_sizes: int = 0  # the largest sizes, so many, run in bfloat16
    conv_clamp: float | None = None  # limit of every layer's output
    group: int = 4  # of the minibatch standard deviation
    noise: Literal["add", "concat"] = "add"  # concat: maps beside the features, as GPEN's prior has them (Yang et al. 2021)
    growing: bool = False  # colours leave and enter at every size, so that both networks run at any level

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise FaceganError(f"StyleGAN2: {name} is {value!r}; expected a whole number from {least} to {most}.")
        if self.resolution & (self.resolution - 1):
            raise FaceganError(f"StyleGAN2: resolution is {self.resolution}; expected a power of two from 4 to {_RANGES['resolution'][1]}.")
        if self.architecture not in ARCHITECTURES:
            raise FaceganError(f"StyleGAN2: architecture is {self.architecture!r}; expected {', '.join(ARCHITECTURES[:-1])} or stylegan1.")
        if self.noise not in NOISES or (self.noise == "concat" and self.architecture != "skip"):
            raise FaceganError(f"StyleGAN2: noise is {self.noise!r}; expected add, or with architecture skip concat.")
        if type(self.growing) is not bool:
            raise FaceganError(f"StyleGAN2: growing is {self.growing!r}; expected true or false.")
        for name, number in (("mapping_lr", self.mapping_lr), ("conv_clamp", self.conv_clamp)):
            if number is not None and not (isinstance(number, (int, float)) and 0 < number < math.inf):
                raise FaceganError(f"StyleGAN2: {name} is {number!r}; expected a positive number.")
        if self.channel_base < self.resolution:
            raise FaceganError(
                f"StyleGAN2: channel_base is {self.channel_base}; expected at least the resolution, {self.resolution}, "
                "or its layers would have no channels."
            )

    @property
    def sizes(self) -> list[int]:
        """4, 8, ... resolution."""
        return [4 << i for i in range(self.resolution.bit_length() - 2)]

    def layers(self, size: int) -> int:
        """Layers of the generator's block, each with a style and noise of its own; StyleGAN2 left out the one on the constant."""
        return 1 if size == 4 and self.architecture != "stylegan1" else 2

    @property
    def num_ws(self) -> int:
        """Styles of one image: one per layer, and in StyleGAN2 the last toRGB's."""
        return 2 * len(self.sizes)

    @property
    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """[channels, size, size] of each noise map of an image: one a layer; of concatenated noise one a size, for its layers alike."""
        if self.noise == "concat":
            return [(self.channels(size), size, size) for size in self.sizes]
        return [(1, size, size) for size in self.sizes for _ in range(self.layers(size))]

    @property
    def num_noise(self) -> int:
        """Numbers of noise that one image needs, all maps together."""
        return sum(math.prod(shape) for shape in self.noise_shapes)

    def channels(self, size: int) -> int:
        return min(self.channel_base // size, self.channel_max)

    def features(self, size: int) -> int:
        """Channels that leave a layer of the generator: the convolution's, and the noise's where that is concatenated."""
        return self.channels(size) * (2 if self.noise == "concat" else 1)

    def dtype(self, size: int) -> torch.dtype:
        return torch.bfloat16 if size > self.resolution >> self.half_sizes else torch.float32

    def at_level(self, level: float | Level | None) -> Level:
        """How far a progressively growing network has grown; None is the whole network.

        As a number the level is log2 of the side while no block is fading in: 4.3 is 16 px, with the block of 32 px at weight 0.3
        and so an image of 32 px.
        """
        most = self.resolution.bit_length() - 1
        if level is None:
            return Level(self.resolution)
        if not self.growing:
            raise FaceganError(f"level is {level}, but these networks do not grow: make them with growing=True, or leave it out.")
        if isinstance(level, Level):
            return level
        if not 2 <= level <= most:
            raise FaceganError(f"level is {level}; expected log2 of a size, from 2 (4 px) to {most} ({self.resolution} px).")
        whole = math.ceil(level)
        return Level(1 << whole, None if level == whole else 1.0 - whole + level)

    def to_json(self) -> dict:
        return asdict(self)
