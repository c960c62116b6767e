"""StyleGAN2's generator and discriminator (Karras et al. 2020a, "Analyzing and Improving the Image Quality of StyleGAN").

Names of modules and parameters are those of the published networks, so that a state dict maps one to one: `mapping.fc0..7`,
`synthesis.b{size}.{const, conv0, conv1, torgb}`, `b{size}.{fromrgb, conv0, conv1, skip}`, `b4.{conv, fc, out}`. One convention
differs: the weight of an up layer is correlated here like every other, and stored there turned by 180 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.nn import Conv2d, Linear, PixelNorm
from facegan.ops import modulated_conv2d, setup_filter, upsample2d

NoiseMode = Literal["random", "const", "none"]
NOISE_MODES = ("random", "const", "none")


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
    architecture: Literal["skip", "resnet"] = "skip"  # the generator's outputs; the discriminator is a resnet
    half_sizes: int = 0  # the largest sizes, so many, run in bfloat16
    conv_clamp: float | None = None  # limit of every layer's output
    group: int = 4  # of the minibatch standard deviation

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise FaceganError(f"StyleGAN2: {name} is {value!r}; expected a whole number from {least} to {most}.")
        if self.resolution & (self.resolution - 1):
            raise FaceganError(f"StyleGAN2: resolution is {self.resolution}; expected a power of two from 4 to {_RANGES['resolution'][1]}.")
        if self.architecture not in ("skip", "resnet"):
            raise FaceganError(f"StyleGAN2: architecture is {self.architecture!r}; expected skip or resnet.")
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

    @property
    def num_ws(self) -> int:
        """Styles of one image: one per layer, and the last toRGB's."""
        return 2 * len(self.sizes)

    @property
    def num_noise(self) -> int:
        """Numbers of noise that one image needs, all layers together."""
        return 2 * sum(size * size for size in self.sizes) - 16  # of 4 px there is one layer

    def channels(self, size: int) -> int:
        return min(self.channel_base // size, self.channel_max)

    def dtype(self, size: int) -> torch.dtype:
        return torch.bfloat16 if size > self.resolution >> self.half_sizes else torch.float32

    def to_json(self) -> dict:
        return asdict(self)


class Mapping(nn.Module):
    """z [N, z_dim] (and a label c [N, c_dim]) -> w [N, num_ws, w_dim]; keeps the running mean of w for truncation.

    Without `num_ws` it yields [N, w_dim] and keeps no mean: the discriminator's embedding of a label.
    """

    w_avg: Tensor

    def __init__(self, config: StyleGAN2Config, z_dim: int, w_dim: int, num_ws: int | None) -> None:
        super().__init__()
        self.c_dim, self.num_layers, self.num_ws = config.c_dim, config.mapping_layers, num_ws
        self.norm = PixelNorm()
        if config.c_dim:
            self.embed = Linear(config.c_dim, w_dim)
        width = z_dim + (w_dim if config.c_dim else 0)
        for index in range(self.num_layers):
            setattr(self, f"fc{index}", Linear(width, w_dim, act="lrelu", lr_multiplier=config.mapping_lr))
            width = w_dim
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, c: Tensor | None = None, *, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """`psi` draws the first `cutoff` styles (None: all) towards the mean style: Karras et al. 2019, appendix B."""
        parts = [] if z is None else [self.norm(z.float())]
        if self.c_dim:
            if c is None or c.shape[-1] != self.c_dim:
                raise FaceganError(f"StyleGAN2 is conditional: expected a label [N, {self.c_dim}], got {_shape(c)}.")
            parts.append(self.norm(self.embed(c.float())))
        x = torch.cat(parts, dim=1)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        if self.num_ws is None:
            return x
        w = x[:, None].repeat(1, self.num_ws, 1)
        return w if psi == 1 else truncate(w, self.w_avg, psi, cutoff)

    @torch.no_grad()
    def track(self, w: Tensor, beta: float = 0.995) -> None:
        """Moves the running mean towards the batch's styles [N, w_dim]."""
        self.w_avg.copy_(w.float().mean(0).lerp(self.w_avg, beta))


def truncate(w: Tensor, w_avg: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
    """w [N, num_ws, w_dim] with its first `cutoff` styles at `psi` of their distance from the mean style."""
    cutoff = w.shape[1] if cutoff is None else cutoff
    return torch.cat([w_avg.lerp(w[:, :cutoff], psi), w[:, cutoff:]], dim=1)


class SynthesisLayer(nn.Module):
    """x [N, I, H, W], w [N, w_dim] -> [N, O, H * up, W * up]: modulated convolution, noise, bias, lrelu."""

    noise_const: Tensor
    resample_filter: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, size: int, config: StyleGAN2Config, up: int = 1) -> None:
        super().__init__()
        self.up, self.size, self.clamp = up, size, config.conv_clamp
        self.affine = Linear(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size, size))
        self.register_buffer("resample_filter", setup_filter() if up > 1 else None, persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode | Tensor = "random", gain: float = 1.0) -> Tensor:
        """`noise`: where it comes from, or the noise itself, [N, size * size]."""
        drawn: Tensor | None = None
        if isinstance(noise, Tensor):
            drawn = noise.unflatten(1, (1, self.size, self.size)) * self.noise_strength
        elif noise == "random":
            drawn = torch.randn(x.shape[0], 1, self.size, self.size, device=x.device) * self.noise_strength
        elif noise == "const":
            drawn = self.noise_const * self.noise_strength
        return modulated_conv2d(
            x, self.weight, self.affine(w), up=self.up, padding=1, resample_filter=self.resample_filter, noise=drawn,
            bias=self.bias, act="lrelu", gain=math.sqrt(2) * gain, clamp=None if self.clamp is None else self.clamp * gain,
        )  # fmt: skip


class ToRGB(nn.Module):
    """x [N, I, H, W], w [N, w_dim] -> colours [N, 3, H, W]: modulated, not demodulated."""

    def __init__(self, in_channels: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.affine = Linear(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.gain, self.clamp = 1 / math.sqrt(in_channels), config.conv_clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return modulated_conv2d(x, self.weight, self.affine(w) * self.gain, demodulate=False, bias=self.bias, clamp=self.clamp)


class SynthesisBlock(nn.Module):
    """One size: the constant or an up layer, a layer, and colours added to those of the smaller sizes."""

    resample_filter: Tensor

    def __init__(self, size: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.size, self.dtype, self.resnet = size, config.dtype(size), config.architecture == "resnet"
        channels, in_channels = config.channels(size), config.channels(max(size // 2, 4))
        if size == 4:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            self.conv0 = SynthesisLayer(in_channels, channels, size, config, up=2)
            if self.resnet:
                self.skip = Conv2d(in_channels, channels, 1, bias=False, up=2, gain=math.sqrt(0.5))
        self.conv1 = SynthesisLayer(channels, channels, size, config)
        self.torgb = ToRGB(channels, config) if not self.resnet or size == config.resolution else None
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    @property
    def layers(self) -> int:
        return 1 if self.size == 4 else 2

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: Sequence[NoiseMode | Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """`ws` [N, layers + 1, w_dim]: one style a layer; toRGB takes the one after, which is the next block's first.

        `noise`: one a layer, as there.
        """
        styles, noises = iter(ws.unbind(1)), iter(noise)
        if x is None:
            x = self.const.to(self.dtype).expand(ws.shape[0], -1, -1, -1)
            x = self.conv1(x.contiguous(memory_format=torch.channels_last), next(styles), next(noises))
        elif self.resnet:
            x = x.to(self.dtype)
            skipped = self.skip(x)
            x = self.conv0(x, next(styles), next(noises))
            x = skipped + self.conv1(x, next(styles), next(noises), gain=math.sqrt(0.5))
        else:
            x = self.conv0(x.to(self.dtype), next(styles), next(noises))
            x = self.conv1(x, next(styles), next(noises))
        if image is not None:
            image = upsample2d(image, self.resample_filter)
        if self.torgb is not None:
            colours = self.torgb(x, next(styles)).float()
            image = colours if image is None else image + colours
        return x, image


class Synthesis(nn.Module):
    """ws [N, num_ws, w_dim] -> image [N, 3, resolution, resolution], float32, about [-1, 1]."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        for size in config.sizes:
            setattr(self, f"b{size}", SynthesisBlock(size, config))

    @property
    def blocks(self) -> list[SynthesisBlock]:
        return [getattr(self, f"b{size}") for size in self.config.sizes]

    def forward(self, ws: Tensor, noise_mode: NoiseMode = "random", *, noise: Tensor | None = None) -> Tensor:
        """`noise` [N, num_noise], normally distributed, layer after layer: instead of that of `noise_mode`, and differentiable."""
        if ws.shape[1:] != (self.config.num_ws, self.config.w_dim):
            raise FaceganError(f"ws have shape {list(ws.shape)}; expected [N, {self.config.num_ws}, {self.config.w_dim}].")
        if noise_mode not in NOISE_MODES:
            raise FaceganError(f"noise_mode is {noise_mode!r}; expected one of {', '.join(NOISE_MODES)}.")
        noises = self._noises(ws.shape[0], noise_mode, noise)
        x: Tensor | None = None
        image: Tensor | None = None
        first = 0
        for block in self.blocks:
            last = first + block.layers
            x, image = block(x, image, ws[:, first : last + 1], noises[first:last])
            first = last
        assert image is not None
        return image

    def _noises(self, n: int, mode: NoiseMode, noise: Tensor | None) -> Sequence[NoiseMode | Tensor]:
        """One for each layer."""
        sizes = [block.size for block in self.blocks for _ in range(block.layers)]
        if noise is None:
            return [mode] * len(sizes)
        if noise.shape != (n, self.config.num_noise):
            raise FaceganError(f"noise has shape {list(noise.shape)}; expected [N, num_noise] = {[n, self.config.num_noise]}.")
        return noise.split([size * size for size in sizes], dim=1)


class Generator(nn.Module):
    """z [N, z_dim] (and c [N, c_dim]) -> image [N, 3, resolution, resolution]."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config, config.z_dim, config.w_dim, config.num_ws)
        self.synthesis = Synthesis(config)

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise_mode: NoiseMode = "random",
        noise: Tensor | None = None,
    ) -> Tensor:
        """`psi` and `cutoff`: the mapping's truncation; `noise_mode` and `noise`: the synthesis's."""
        image: Tensor = self.synthesis(self.mapping(z, c, psi=psi, cutoff=cutoff), noise_mode, noise=noise)
        return image


class DiscriminatorBlock(nn.Module):
    """[N, I, H, W] -> [N, O, H / 2, W / 2]: a residual block, both branches times sqrt 1/2; the first one starts from colours."""

    def __init__(self, size: int, config: StyleGAN2Config) -> None:
        super().__init__()
        channels, out_channels = config.channels(size), config.channels(size // 2)
        self.dtype, clamp = config.dtype(size), config.conv_clamp
        half = None if clamp is None else clamp * math.sqrt(0.5)
        self.fromrgb = Conv2d(3, channels, 1, act="lrelu", clamp=clamp) if size == config.resolution else None
        self.conv0 = Conv2d(channels, channels, 3, act="lrelu", clamp=clamp)
        self.conv1 = Conv2d(channels, out_channels, 3, act="lrelu", down=2, gain=1.0, clamp=half)  # lrelu's sqrt 2 times sqrt 1/2
        self.skip = Conv2d(channels, out_channels, 1, bias=False, down=2, gain=math.sqrt(0.5), clamp=half)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        y: Tensor = self.skip(x) + self.conv1(self.conv0(x))
        return y


class DiscriminatorEpilogue(nn.Module):
    """[N, C, 4, 4] -> scores [N, outputs]: minibatch standard deviation, a convolution, two linear layers."""

    def __init__(self, config: StyleGAN2Config, outputs: int) -> None:
        super().__init__()
        channels = config.channels(4)
        self.group = config.group
        self.conv = Conv2d(channels + 1, channels, 3, act="lrelu", clamp=config.conv_clamp)
        self.fc = Linear(channels * 16, channels, act="lrelu")
        self.out = Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        x = self.conv(torch.cat([x, minibatch_deviation(x, self.group)], dim=1))
        y: Tensor = self.out(self.fc(x.flatten(1)))
        return y


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """[N, 1, H, W]: the standard deviation over groups of images, averaged over channels and pixels (Karras et al. 2018, 3).

    A group holds the images n, n + N / group, ...; N not divisible by `group` takes the largest divisor below it.
    """
    n = x.shape[0]
    group = next(g for g in range(min(group, n), 0, -1) if n % g == 0)
    deviation = (x.unflatten(0, (group, -1)).var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])


class Discriminator(nn.Module):
    """image [N, 3, resolution, resolution] (and c [N, c_dim]) -> scores [N]; conditional by projection of the label."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        for size in reversed(config.sizes[1:]):
            setattr(self, f"b{size}", DiscriminatorBlock(size, config))
        self.b4 = DiscriminatorEpilogue(config, outputs=config.channels(4) if config.c_dim else 1)
        self.mapping = Mapping(config, 0, config.channels(4), None) if config.c_dim else None

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        x = image.contiguous(memory_format=torch.channels_last)
        for size in reversed(self.config.sizes[1:]):
            x = getattr(self, f"b{size}")(x)
        scores: Tensor = self.b4(x)
        if self.mapping is not None:
            label = self.mapping(None, c)
            scores = (scores * label).sum(1, keepdim=True) / math.sqrt(label.shape[1])
        return scores.squeeze(1)


def _shape(x: Tensor | None) -> str:
    return "none" if x is None else str(list(x.shape))
