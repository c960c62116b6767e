"""What rebuilds a StyleGAN2 or StyleGAN1 network: its sizes, widths, dtypes, styles, noise and, when it grows, its levels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from facegan.errors import FaceganError
from facegan.files import quoted
from facegan.ops.activation import FUSED

NoiseMode = Literal["random", "const", "none"]
NOISE_MODES = ("random", "const", "none")
ACTIVATIONS = FUSED
_WORDS = {
    "architecture": ("skip", "resnet", "orig", "stylegan1"),
    "noise": ("add", "concat"),
    "activation": ACTIVATIONS,
    "mapping_activation": ACTIVATIONS,
    "d_architecture": ("resnet", "orig", "skip"),
    "d_activation": ACTIVATIONS,
}

# Beyond any published network; a configuration from a file must not ask for a million layers.
_RANGES = {
    "resolution": (4, 4096),
    "z_dim": (1, 1 << 12),
    "w_dim": (1, 1 << 12),
    "c_dim": (0, 1 << 16),
    "mapping_layers": (1, 64),
    "channel_base": (4, 1 << 28),
    "channel_max": (1, 1 << 16),
    "half_sizes": (0, 11),
    "group": (1, 1 << 16),
    "img_channels": (1, 4),
    "d_mapping_layers": (1, 64),
    "d_channel_base": (4, 1 << 28),
    "d_channel_max": (1, 1 << 16),
    "d_label_dim": (1, 1 << 12),
    "deviation_maps": (0, 1 << 10),
}
_NUMBERS = {"mapping_lr": (1e-6, 1e2), "conv_clamp": (1e-3, 1e9), "d_mapping_lr": (1e-6, 1e2)}


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
    architecture: Literal["skip", "resnet", "orig", "stylegan1"] = "skip"  # of the generator; orig: colours leave at the last size alone
    half_sizes: int = 0  # the largest sizes, so many, run in bfloat16
    conv_clamp: float | None = None  # limit of every layer's output
    group: int = 4  # of the minibatch standard deviation
    noise: Literal["add", "concat"] = "add"  # concat: maps beside the features, as GPEN's prior has them (Yang et al. 2021)
    growing: bool = False  # colours leave and enter at every size, so that both networks run at any level
    img_channels: int = 3  # of the images: 1 grey, 3 RGB, 4 RGBA
    activation: str = "lrelu"  # of the synthesis
    mapping_activation: str = "lrelu"
    d_architecture: Literal["resnet", "orig", "skip"] = "resnet"  # of the discriminator; skip: it sees the image at every size
    d_activation: str = "lrelu"
    d_mapping_layers: int | None = None  # of the discriminator's embedding of a label; these four: as the generator's when None
    d_mapping_lr: float | None = None
    d_channel_base: int | None = None
    d_channel_max: int | None = None
    d_label_dim: int | None = None  # length of that embedding; None: the channels at 4 px
    deviation_maps: int = 1  # of the minibatch standard deviation, each of so many parts of the channels
    d_skip_clamp: bool = True  # conv_clamp limits the residual paths of the discriminator too

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise _unlike(name, getattr(self, name), f"{', '.join(words[:-1])} or {words[-1]}")
        optional = {field.name for field in fields(self) if field.default is None}
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if (type(value) is not int or not least <= value <= most) and not (value is None and name in optional):
                raise _unlike(name, value, f"a whole number from {least} to {most}")
        for name, (low, high) in _NUMBERS.items():
            value = getattr(self, name)
            if (type(value) not in (int, float) or not low <= value <= high) and not (value is None and name in optional):
                raise _unlike(name, value, f"a number from {low:g} to {high:g}")
        for name in ("growing", "d_skip_clamp"):
            if type(getattr(self, name)) is not bool:
                raise _unlike(name, getattr(self, name), "true or false")
        if self.resolution & (self.resolution - 1):
            raise _unlike("resolution", self.resolution, f"a power of two from 4 to {_RANGES['resolution'][1]}")
        if self.img_channels == 2:
            raise _unlike("img_channels", 2, "1 (grey), 3 (RGB) or 4 (RGBA)")
        if self.noise == "concat" and self.architecture != "skip":
            raise _unlike("noise", self.noise, "add, or with architecture skip concat")
        if self.growing and self.d_architecture != "resnet":
            raise _unlike("d_architecture", self.d_architecture, "resnet, as networks grow with that alone")
        for name in ("channel_base", "d_channel_base"):
            if (getattr(self, name) or self.resolution) < self.resolution:
                expected = f"at least the resolution, {self.resolution}, or its layers would have no channels"
                raise _unlike(name, getattr(self, name), expected)
        judge = self.of_discriminator
        if self.deviation_maps and judge.channels(4) % self.deviation_maps:
            raise _unlike("deviation_maps", self.deviation_maps, f"a divisor of the discriminator's {judge.channels(4)} channels at 4 px")

    @property
    def of_discriminator(self) -> StyleGAN2Config:
        """The same with the discriminator's metadata in place of those of the generator that it need not share."""
        own = {name: getattr(self, f"d_{name}") for name in ("mapping_layers", "mapping_lr", "channel_base", "channel_max")}
        own = {name: value for name, value in own.items() if value is not None}
        unset: dict[str, Any] = dict.fromkeys(f"d_{name}" for name in own)
        return replace(self, **own, **unset) if own else self

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

    @property
    def style_channels(self) -> dict[str, int]:
        """Style space (Wu et al. 2021), the scales of all layers: layer, such as `b8.conv0` or `b8.torgb` -> how many, in their order.

        Architecture stylegan1 has a shift for each scale, behind them.
        """
        found: dict[str, int] = {}
        for size in self.sizes:
            own, below = self.channels(size), self.features(size // 2) if size > 4 else 0
            if self.architecture == "stylegan1":
                found |= {f"b{size}.layer0": 2 * own, f"b{size}.layer1": 2 * own}
                continue
            found |= {f"b{size}.conv0": below, f"b{size}.conv1": self.features(size)} if below else {f"b{size}.conv1": own}
            if self.growing or self.architecture == "skip" or size == self.resolution:
                found[f"b{size}.torgb"] = self.features(size)
        return found

    @property
    def num_style_channels(self) -> int:
        """Numbers of a point of style space."""
        return sum(self.style_channels.values())

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

    def to_json(self) -> dict[str, Any]:
        """What differs from the default, and all that files have always told."""
        defaults = {field.name: field.default for field in fields(self)}
        names = list(defaults)
        optional = names[names.index("img_channels") :]
        return {name: value for name, value in asdict(self).items() if name not in optional or value != defaults[name]}

    @classmethod
    def from_json(cls, metadata: Any, where: object) -> StyleGAN2Config:
        """From what a file holds, which `where` names in the message. Raises FaceganError for anything else than a configuration."""
        if not isinstance(metadata, dict):
            raise FaceganError(f"{where} holds {quoted(metadata)} in place of a StyleGAN2 configuration.")
        unknown = metadata.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise FaceganError(f"{where} holds {quoted(min(unknown))}, which no StyleGAN2 configuration of this version has.")
        try:
            return cls(**metadata)
        except FaceganError as error:
            raise FaceganError(f"{where}: {error}") from None


def _unlike(name: str, value: object, expected: str) -> FaceganError:
    return FaceganError(f"StyleGAN2: {name} is {quoted(value)}; expected {expected}.")
