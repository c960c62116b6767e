"""StyleGAN2's generator (Karras et al. 2020a, "Analyzing and Improving the Image Quality of StyleGAN"), and what goes with it.

Names of modules and parameters are those of the published networks, so that a state dict maps one to one: `mapping.fc0..7`,
`synthesis.b{size}.{const, conv0, conv1, torgb}`, `b{size}.{fromrgb, conv0, conv1, skip}`, `b4.{conv, fc, out}`. One convention
differs: the weight of an up layer is correlated here like every other, and stored there turned by 180 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.models.mapping import Mapping, truncate
from facegan.models.regions import Areas, Regions
from facegan.models.stylegan1 import StyleBlock
from facegan.models.stylegan2_config import NOISE_MODES, Level, NoiseMode, StyleGAN2Config
from facegan.models.stylegan2_discriminator import Discriminator, minibatch_deviation
from facegan.nn import Conv2d, Linear, scaled_once
from facegan.ops import bias_act, modulated_conv2d, setup_filter, upsample2d
from facegan.ops.activation import DEFAULT_GAINS

__all__ = [
    "NOISE_MODES",
    "Discriminator",
    "Generator",
    "Mapping",
    "NoiseMode",
    "StyleGAN2Config",
    "Synthesis",
    "minibatch_deviation",
    "truncate",
]


class SynthesisLayer(nn.Module):
    """x [N, I, H, W], style [N, I] -> [N, O, H * up, W * up]: modulated convolution, noise, bias, activation.

    The style is `affine` of w [N, w_dim], a scale for each channel of x.

    Where noise is concatenated: [N, 2 O, H * up, W * up], its maps behind the convolution's, with biases of their own.
    """

    noise_const: Tensor
    resample_filter: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, size: int, config: StyleGAN2Config, up: int = 1) -> None:
        super().__init__()
        self.up, self.size, self.clamp, self.concat = up, size, config.conv_clamp, config.noise == "concat"
        self.act = config.activation
        self.affine = Linear(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(config.features(size)))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        if not self.concat:  # the maps of a size's layers are one, and are the synthesis's
            self.register_buffer("noise_const", torch.randn(size, size))
        self.register_buffer("resample_filter", setup_filter() if up > 1 else None, persistent=False)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None, gain: float = 1.0, areas: Areas | None = None) -> Tensor:
        """`noise`: [N, 1, H', W'] or [H', W'], or concatenated [N, O, H', W']; still to be scaled. None: zeros.

        `areas`: where the styles [N, 1 + K, I] hold.
        """
        regions: dict[str, Any] = {} if areas is None else areas._asdict()
        noise = None if noise is None else noise * self.noise_strength
        channels = self.weight.shape[0]
        act: dict[str, Any] = dict(act=self.act, gain=DEFAULT_GAINS[self.act] * gain, clamp=self.clamp and self.clamp * gain)
        y = modulated_conv2d(
            x, self.weight, style, up=self.up, padding=1, resample_filter=self.resample_filter,
            noise=None if self.concat else noise, bias=self.bias[:channels] if self.concat else self.bias, **act, **regions,
        )  # fmt: skip
        if not self.concat:
            return y
        # In y's memory format: of two, `cat` takes the slower one.
        beside = torch.zeros_like(y) if noise is None else noise.to(y.dtype).contiguous(memory_format=torch.channels_last)
        return torch.cat([y, bias_act(beside, self.bias[channels:], **act)], dim=1)


class ToRGB(nn.Module):
    """x [N, I, H, W], style [N, I] -> colours [N, img_channels, H, W]: modulated, not demodulated."""

    def __init__(self, in_channels: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.affine = Linear(config.w_dim, in_channels, bias_init=1.0, gain=1 / math.sqrt(in_channels))
        self.weight = nn.Parameter(torch.randn(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))
        self.clamp = config.conv_clamp

    def forward(self, x: Tensor, style: Tensor, areas: Areas | None = None) -> Tensor:
        """`areas`: where the styles [N, 1 + K, I] hold; colours are linear in them, so that one pass serves all of them."""
        masks = None if areas is None else areas.masks
        return modulated_conv2d(x, self.weight, style, demodulate=False, bias=self.bias, clamp=self.clamp, masks=masks)


class SynthesisBlock(nn.Module):
    """One size: the constant or an up layer, another layer, and where colours leave, toRGB."""

    def __init__(self, size: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.size, self.dtype, self.resnet = size, config.dtype(size), config.architecture == "resnet"
        channels, features, in_channels = config.channels(size), config.features(size), config.features(size // 2)
        if size == 4:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            self.conv0 = SynthesisLayer(in_channels, channels, size, config, up=2)
            if self.resnet:
                self.skip = Conv2d(in_channels, channels, 1, bias=False, up=2, gain=math.sqrt(0.5))
        self.conv1 = SynthesisLayer(channels if size == 4 else features, channels, size, config)
        leaves = config.growing or config.architecture == "skip" or size == config.resolution
        self.torgb = ToRGB(features, config) if leaves else None

    @property
    def layers(self) -> list[SynthesisLayer]:
        return [self.conv1] if self.size == 4 else [self.conv0, self.conv1]

    @property
    def styled(self) -> dict[str, SynthesisLayer | ToRGB]:
        """What takes a style, in order: `layers`, then toRGB, whose w is that of the next block's first layer."""
        found = {name: getattr(self, name, None) for name in ("conv0", "conv1", "torgb")}
        return {name: layer for name, layer in found.items() if layer is not None}

    def forward(self, x: Tensor | None, styles: Sequence[Tensor], noises: Iterator[Tensor | None], areas: Areas | None = None) -> Tensor:
        """`styles`: those of `styled`, [N, C], or [N, 1 + K, C], which hold in `areas`; `noises`: the next of each layer."""
        if x is None:
            x = self.const.to(self.dtype).expand(styles[0].shape[0], -1, -1, -1)
            return self.conv1(x.contiguous(memory_format=torch.channels_last), styles[0], next(noises), areas=areas)
        x = x.to(self.dtype)
        y = self.conv0(x, styles[0], next(noises), areas=areas)
        if self.resnet:  # both paths times sqrt 1/2
            return self.skip(x) + self.conv1(y, styles[1], next(noises), gain=math.sqrt(0.5), areas=areas)
        return self.conv1(y, styles[1], next(noises), areas=areas)

    def colours(self, x: Tensor, styles: Sequence[Tensor], areas: Areas | None = None) -> Tensor:
        """[N, img_channels, H, W] float32, by the last of `styles`."""
        assert self.torgb is not None
        image: Tensor = self.torgb(x, styles[-1], areas)
        return image.float()


class Synthesis(nn.Module):
    """ws [N, num_ws, w_dim] -> image [N, img_channels, resolution, resolution], float32, about [-1, 1].

    Or from a point of style space [N, num_style_channels] (Wu et al. 2021, "StyleSpace Analysis"): the styles of all layers, as their
    affine maps make them of ws, one after the other.
    """

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        block = StyleBlock if config.architecture == "stylegan1" else SynthesisBlock
        for size in config.sizes:
            setattr(self, f"b{size}", block(size, config))
        self.register_buffer("resample_filter", setup_filter(), persistent=False)
        self._fixed: dict[tuple[tuple[int, int, int], torch.device], Tensor] = {}

    @property
    def blocks(self) -> list[SynthesisBlock | StyleBlock]:
        return [getattr(self, f"b{size}") for size in self.config.sizes]

    def style_space(self, ws: Tensor) -> Tensor:
        """ws [..., num_ws, w_dim] -> the point of style space [..., num_style_channels] of each; which channel is which, the
        configuration's `style_channels` tells.

        Raises:
            FaceganError: ws have another shape.
        """
        if ws.shape[-2:] != (self.config.num_ws, self.config.w_dim):
            raise FaceganError(f"ws have shape {list(ws.shape)}; expected [..., {self.config.num_ws}, {self.config.w_dim}].")
        with scaled_once(self):
            return torch.cat([style for styles in self._styles(ws, self.blocks) for style in styles], dim=-1)

    def _styles(self, ws: Tensor, blocks: Sequence[SynthesisBlock | StyleBlock]) -> list[list[Tensor]]:
        """For each block the styles [..., C] of what takes one there, of ws [..., num_ws, w_dim]."""
        found, each, first = [], ws.unbind(-2), 0
        for block in blocks:
            found.append([layer.affine(w) for layer, w in zip(block.styled.values(), each[first:], strict=False)])
            first += len(block.layers)
        return found

    def _divided_styles(self, points: Tensor) -> list[list[Tensor]]:
        """The same of points of style space [..., num_style_channels]."""
        parts = iter(points.split([*self.config.style_channels.values()], dim=-1))
        return [[next(parts).contiguous() for _ in block.styled] for block in self.blocks]

    def forward(
        self,
        ws: Tensor,
        noise_mode: NoiseMode = "random",
        *,
        noise: Tensor | Sequence[Tensor] | None = None,
        level: float | Level | None = None,
        regions: Regions | None = None,
    ) -> Tensor:
        """The image; of a growing network at a level, see `StyleGAN2Config.at_level`; with other styles in `regions` of it, which are
        points of the same space as `ws`: [N, num_ws, w_dim], or of style space [N, num_style_channels].

        `noise` [N, num_noise], normally distributed, map after map: instead of that of `noise_mode`, and differentiable; or the maps
        themselves, [N, *shape] for each of the configuration's `noise_shapes`, which may be anything.
        """
        if ws.shape[1:] not in ((self.config.num_ws, self.config.w_dim), (self.config.num_style_channels,)):
            expected = f"[N, {self.config.num_ws}, {self.config.w_dim}], or of style space [N, {self.config.num_style_channels}]"
            raise FaceganError(f"ws have shape {list(ws.shape)}; expected {expected}.")
        if noise_mode not in NOISE_MODES:
            raise FaceganError(f"noise_mode is {noise_mode!r}; expected one of {', '.join(NOISE_MODES)}.")
        with scaled_once(self):
            return self._image(ws, noise_mode, noise, self.config.at_level(level), regions)

    def _image(
        self, ws: Tensor, noise_mode: NoiseMode, noise: Tensor | Sequence[Tensor] | None, grown: Level, regions: Regions | None
    ) -> Tensor:
        blocks = [block for block in self.blocks if block.size <= grown.side]
        noises = iter(self._noises(blocks, ws, noise_mode, noise))
        points, areas = ws, dict[int, Areas]()
        if regions is not None:
            regions = regions.checked(ws.shape, self.config.resolution)
            points, areas = regions.joined(ws), regions.areas([block.size for block in blocks])
        all_styles = self._styles(points, blocks) if ws.ndim == 3 else self._divided_styles(points)
        x: Tensor | None = None
        image: Tensor | None = None
        for block, styles in zip(blocks, all_styles, strict=False):
            x = block(x, styles, noises, areas.get(block.size))
            if block.size in self._shown(grown):
                colours = block.colours(x, styles, areas.get(block.size))
                image = colours if image is None else self._joined(image, colours, grown if block.size == grown.side else Level(block.size))
        assert image is not None
        return image

    def _noises(
        self, blocks: Sequence[SynthesisBlock | StyleBlock], ws: Tensor, mode: NoiseMode, noise: Tensor | Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """One for each layer: [N, C, H, W], [H, W], or None."""
        layers = [layer for block in blocks for layer in block.layers]
        concat = self.config.noise == "concat"
        maps: Sequence[Tensor]
        if noise is None and mode == "none":
            return [None] * len(layers)
        if noise is None and mode == "const" and not concat:
            return [layer.noise_const for layer in layers]
        shapes = [shape for shape in self.config.noise_shapes if shape[-1] <= blocks[-1].size]
        if noise is None and mode == "const":
            maps = [self._fixed_noise(shape, ws.device).expand(ws.shape[0], *shape) for shape in shapes]
        elif noise is None or isinstance(noise, Tensor):
            maps = self._divided(noise, ws, shapes)
        else:
            maps = self._checked(noise, ws, shapes)
        return [part for part, block in zip(maps, blocks, strict=True) for _ in block.layers] if concat else maps

    def _divided(self, noise: Tensor | None, ws: Tensor, shapes: Sequence[tuple[int, int, int]]) -> list[Tensor]:
        """The maps that `noise` [N, num_noise] holds; None: it is drawn."""
        numbers = [math.prod(shape) for shape in shapes]
        if noise is None:
            noise = torch.randn(ws.shape[0], sum(numbers), device=ws.device)
        elif noise.shape != (ws.shape[0], self.config.num_noise):
            raise FaceganError(f"noise has shape {list(noise.shape)}; expected [N, num_noise] = {[ws.shape[0], self.config.num_noise]}.")
        return [part.unflatten(1, shape) for part, shape in zip(noise[:, : sum(numbers)].split(numbers, dim=1), shapes, strict=True)]

    def _fixed_noise(self, shape: tuple[int, int, int], device: torch.device) -> Tensor:
        """[C, H, W], the same at every call, and sent to the device once: maps that are concatenated are too many for a checkpoint."""
        if (shape, device) not in self._fixed:
            with torch.inference_mode(False):
                self._fixed[shape, device] = torch.randn(shape, generator=torch.Generator().manual_seed(shape[-1])).to(device)
        return self._fixed[shape, device]

    @staticmethod
    def _checked(maps: Sequence[Tensor], ws: Tensor, shapes: Sequence[tuple[int, int, int]]) -> Sequence[Tensor]:
        found, expected = [tuple(part.shape) for part in maps], [(ws.shape[0], *shape) for shape in shapes]
        if found != expected:
            raise FaceganError(f"noise has maps of shapes {found}; expected {expected}.")
        return maps

    def _shown(self, grown: Level) -> Sequence[int]:
        """The sizes whose colours count: with skip outputs all, otherwise the last, and the one before while the last fades in."""
        if self.config.architecture == "skip":
            return self.config.sizes
        return (grown.side,) if grown.weight is None else (grown.side // 2, grown.side)

    def _joined(self, image: Tensor, colours: Tensor, grown: Level) -> Tensor:
        """The image so far, at half the size, and the next colours: their sum ("skip") or interpolation (Karras et al. 2018, fig. 2)."""
        image = upsample2d(image, self.resample_filter)
        if self.config.architecture == "skip":
            return image + (colours if grown.weight is None else colours * grown.weight)
        return grown.faded(image, colours)


class Generator(nn.Module):
    """z [N, z_dim] (and c [N, c_dim]) -> image [N, img_channels, resolution, resolution]."""

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
        level: float | Level | None = None,
    ) -> Tensor:
        """`psi` and `cutoff`: the mapping's truncation; `noise_mode`, `noise` and `level`: the synthesis's."""
        image: Tensor = self.synthesis(self.mapping(z, c, psi=psi, cutoff=cutoff), noise_mode, noise=noise, level=level)
        return image
