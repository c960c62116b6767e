"""Method A's convolutional generator and discriminator (Radford et al. 2016, with Karras et al. 2018's equalised rates).

One family serves every phase, 16-512 px. There is no batch normalisation: its running statistics differ between
ranks, between a network and its average, and they are what AdaIN would overwrite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.files import quoted
from facegan.nn import Conv2d, Linear, PixelNorm, scaled_once
from facegan.ops import adain, adain_affine, setup_filter, upsample2d

M = TypeVar("M", bound=nn.Module)

MERGE_RESOLUTIONS = (8, 16, 32)  # Method A merges after the blocks of these sizes
GROWN_FROM = 16  # G3's extra layers sit at this size and above
MODULATION_GAIN = 0.5
RGB_GAIN = 0.25  # the sum over all sizes starts at the contrast of a photograph, not at several times it
MOST_NUMBERS = 1 << 20  # of z
CHANNELS = {4: 128, 8: 128, 16: 64, 32: 32, 64: 16, 128: 8, 256: 8, 512: 8}  # at width 1


def channels(resolution: int, width: float) -> int:
    """Feature maps of a block at `resolution` px: a multiple of eight, which is what vector units like."""
    return max(8, int(round(CHANNELS[resolution] * width / 8)) * 8)


def _refuse_sizes(what: str, resolution: int, width: float, num_attributes: int) -> None:
    """FaceganError for sizes that no network here has: a configuration may come from a file."""
    if resolution not in CHANNELS or not 0 < width <= 64 or not 0 <= num_attributes <= 1024:
        raise FaceganError(
            f"{what}: resolution {quoted(resolution)}, width {quoted(width)} and {quoted(num_attributes)} attributes; expected a power of "
            f"two from 4 to {max(CHANNELS)}, a width up to 64 and at most 1024 attributes."
        )


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that rebuilds a generator; stored beside its weights."""

    resolution: int = 64
    z_shape: tuple[int, ...] = (128,)  # (C,) or a "noise image" (C, H, W)
    width: float = 1.0
    num_attributes: int = 0  # > 0: conditional on y, joined to z (Mirza & Osindero 2014, fig. 1)
    grown: bool = False  # with G3's extra residual blocks
    modulated: bool = True  # z scales and shifts the maps of every size

    def __post_init__(self) -> None:
        _refuse_sizes("generator", self.resolution, self.width, self.num_attributes)
        if not 1 <= len(self.z_shape) <= 3 or min(self.z_shape) < 1 or math.prod(self.z_shape) > MOST_NUMBERS:
            raise FaceganError(
                f"generator: z_shape is {quoted(str(self.z_shape[:4]))}; expected C or C,H,W, at most {MOST_NUMBERS} numbers."
            )

    @property
    def z_dim(self) -> int:
        return math.prod(self.z_shape)

    def to_json(self) -> dict:
        return asdict(self)


def block_sizes(resolution: int) -> list[int]:
    """4, 8, ... resolution."""
    return [4 << i for i in range((resolution // 4).bit_length())]


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), its last convolution zero at the start, so that a grown network equals the one it came from."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = Conv2d(width, width, 3, act="lrelu")
        self.conv1 = Conv2d(width, width, 3)
        nn.init.zeros_(self.conv1.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv1(self.conv0(x))


class GeneratorBlock(nn.Module):
    """Convolve to the block's width, upsample, convolve, modulate by z; with `grown`, G3's extra residual block behind it.

    The first convolution runs before the upsampling, where it costs a quarter. With `modulated`, z also scales and shifts the
    maps of every size (Chen et al. 2019, "On Self Modulation for Generative Adversarial StyleGAN2Checkpoint"), against collapse; they are
    normalised as a StyleGAN's are (Karras et al. 2019, eq. 1). Divided by each pixel's norm they draw faces as contour lines.
    """

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, latent: int, up: int, grown: bool, modulated: bool) -> None:
        super().__init__()
        self.up = up
        self.conv0 = Conv2d(in_channels, out_channels, 3, act="lrelu")
        self.conv1 = Conv2d(out_channels, out_channels, 3, act="lrelu")
        self.modulation = Linear(latent, 2 * out_channels, gain=MODULATION_GAIN) if modulated else None
        self.extra = ResidualBlock(out_channels) if grown else None
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        x = self.conv0(x)
        if self.up > 1:
            x = upsample2d(x, self.resample_filter, self.up)
        x = self.conv1(x)
        if self.modulation is not None:
            scale, shift = self.modulation(latent).chunk(2, dim=1)
            x = adain_affine(x, 1 + scale, shift)
        return x if self.extra is None else self.extra(x)


class Generator(nn.Module):
    """z [N, *z_shape] (and y [N, K] when conditional) -> image [N, 3, R, R], about [-1, 1]: linear, as a saturated
    output has no gradient; clipped where it becomes a picture."""

    resample_filter: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        sizes = block_sizes(config.resolution)
        widths = [channels(size, config.width) for size in sizes]
        self.norm = PixelNorm()
        self.stem = Linear(config.z_dim + config.num_attributes, widths[0] * 16, act="lrelu")
        self.blocks = nn.ModuleDict()
        for index, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            previous = widths[max(index - 1, 0)]
            grown = config.grown and size >= GROWN_FROM
            inputs = config.z_dim + config.num_attributes
            self.blocks[str(size)] = GeneratorBlock(previous, width, inputs, up=2 if index else 1, grown=grown, modulated=config.modulated)
        # Every size adds its own picture ("skip" outputs, Karras et al. 2020, fig. 7): the coarse ones are right within minutes.
        self.to_rgb = nn.ModuleDict({str(size): Conv2d(width, 3, 1, gain=RGB_GAIN) for size, width in zip(sizes, widths, strict=True)})
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def forward(
        self,
        z: Tensor,
        y: Tensor | None = None,
        style: Sequence[Tensor] | None = None,
        alpha: float | Tensor = 0.0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """With `style` (features of the frozen snapshot for the same z) its statistics are merged in, eq. (8) of the source:
        x <- (1 - alpha) x + alpha AdaIN(x, style), within `mask` [1, 1, R, R] if given."""
        return self.run(z, y, style, alpha, mask)[0]

    def features(self, z: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """The maps behind the merging blocks, smallest first."""
        return self.run(z, y)[1]

    def run(
        self,
        z: Tensor,
        y: Tensor | None = None,
        style: Sequence[Tensor] | None = None,
        alpha: float | Tensor = 0.0,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        with scaled_once(self):
            return self._run(z, y, style, alpha, mask)

    def _run(
        self, z: Tensor, y: Tensor | None, style: Sequence[Tensor] | None, alpha: float | Tensor, mask: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        latent = self.norm(z.flatten(1))
        if self.config.num_attributes:
            if y is None:
                raise ValueError("y is missing: this generator is conditional and expects attributes [N, K]")
            latent = torch.cat([latent, y.to(latent.dtype)], dim=1)
        x = self.stem(latent).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        features: list[Tensor] = []
        image: Tensor | None = None
        for size, block in self.blocks.items():
            x = block(x, latent)
            if int(size) in MERGE_RESOLUTIONS:
                if style is not None:
                    x = merged(x, style[len(features)], alpha, resized_mask(mask, x))
                features.append(x)
            colours = self.to_rgb[size](x)
            image = colours if image is None else upsample2d(image, self.resample_filter) + colours
        assert image is not None
        return image, features

    def extra_parameters(self) -> list[nn.Parameter]:
        """The layers that G3 has and G1 has not."""
        return [p for name, p in self.named_parameters() if ".extra." in name]


def channels_last(module: M) -> M:
    """The same module with NHWC weights: the faster layout for convolutions, here and on tensor cores."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def merged(x: Tensor, style: Tensor, alpha: float | Tensor, mask: Tensor | None = None) -> Tensor:
    """`adain`, whose strength may also be a tensor of no dimensions: one that changes while training, which no host waits for."""
    if isinstance(alpha, Tensor):
        return torch.lerp(x, adain(x, style, mask=mask), alpha.to(x.dtype))
    return adain(x, style, alpha=alpha, mask=mask)


def resized_mask(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask [1, 1, R, R] at the size, batch and dtype of a feature map."""
    if mask is None:
        return None
    small = nn.functional.interpolate(mask, size=like.shape[2:], mode="area")
    return small.to(like.dtype).expand(like.shape[0], -1, -1, -1)


def grow(generator: Generator) -> Generator:
    """G3 from G1: the same layers plus zero-initialised residual blocks, so that G3(z) == G1(z) at the first step."""
    config = GeneratorConfig(**{**asdict(generator.config), "grown": True})
    grown = Generator(config)
    missing, unexpected = grown.load_state_dict(generator.state_dict(), strict=False)
    if unexpected or any(".extra." not in name for name in missing):
        raise ValueError(f"the generator does not fit its grown form: missing {missing}, unexpected {unexpected}")
    return grown


def minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """[N, C, H, W] -> one map [N, 1, H, W]: how much neighbours in the batch differ (Karras et al. 2018, section 3).

    Groups are consecutive images, so that a batch sharded over processes keeps the groups it has on one. A batch that
    does not divide into groups is one group.
    """
    count = len(x)
    groups = x.reshape(-1, group if count % group == 0 else count, *x.shape[1:])
    groups = groups.float()
    variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)  # Tensor.var takes ten times as long on a CPU
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N / group]
    maps = deviation[:, None].expand(-1, groups.shape[1]).reshape(-1).to(x.dtype)
    return maps[:, None, None, None].expand(-1, 1, *x.shape[2:])


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Everything that rebuilds a discriminator."""

    height: int = 64
    width_px: int = 64
    width: float = 1.0
    num_attributes: int = 0  # > 0: y enters as extra constant maps (Mirza & Osindero 2014)
    deviation: bool = True  # sees how much neighbours in the batch differ; not for a critic, whose score is one image's

    def __post_init__(self) -> None:
        _refuse_sizes("discriminator", self.width_px, self.width, self.num_attributes)
        if not 1 <= self.height <= self.width_px:
            raise FaceganError(f"discriminator: height is {quoted(self.height)}; expected 1 to {self.width_px}.")


class Discriminator(nn.Module):
    """image [N, 3, H, W] (and y [N, K]) -> score [N], linear (LSGAN wants no sigmoid).

    H may be smaller than W: a regional discriminator sees only the rows that its mask covers.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        sizes = block_sizes(config.width_px)[::-1]
        widths = [channels(size, config.width) for size in sizes]
        self.from_rgb = Conv2d(3 + config.num_attributes, widths[0], 1, act="lrelu")
        # Fine detail is looked at once, at full size; a convolution there costs more than all the rest together.
        self.detail = Conv2d(widths[0], widths[0], 3, act="lrelu")
        self.blocks = nn.Sequential(
            *(Conv2d(narrow, wide, 3, act="lrelu", down=2) for narrow, wide in zip(widths, widths[1:], strict=False))
        )
        shrink = config.width_px // 4
        rows = config.height // shrink  # each halving drops an odd row, which its filters still see
        self.final = Conv2d(widths[-1] + config.deviation, widths[-1], 3, act="lrelu")
        self.hidden = Linear(widths[-1] * rows * 4, widths[-1], act="lrelu")
        self.score = Linear(widths[-1], 1)

    def forward(self, image: Tensor, y: Tensor | None = None) -> Tensor:
        if self.config.num_attributes:
            if y is None:
                raise ValueError("y is missing: this discriminator is conditional and expects attributes [N, K]")
            maps = y.to(image.dtype)[:, :, None, None].expand(-1, -1, *image.shape[2:])
            image = torch.cat([image, maps], dim=1)
        with scaled_once(self):
            x = self.from_rgb(image.contiguous(memory_format=torch.channels_last))
            x = self.blocks(self.detail(x))
            if self.config.deviation:
                x = torch.cat([x, minibatch_deviation(x)], dim=1).contiguous(memory_format=torch.channels_last)
            return self.score(self.hidden(self.final(x).flatten(1))).squeeze(1)
