"""StyleGAN2's discriminator (Karras et al. 2020a, fig. 7), which also looks at the images of a generator that grows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.models.mapping import Mapping
from facegan.models.stylegan2_config import Level, StyleGAN2Config
from facegan.nn import Conv2d, Linear, scaled_once
from facegan.ops import downsample2d, setup_filter
from facegan.ops.activation import DEFAULT_GAINS


def _fromrgb(size: int, config: StyleGAN2Config) -> Conv2d | None:
    """Colours to features, where images enter."""
    if not (config.growing or config.d_architecture == "skip" or size == config.resolution):
        return None
    # NVIDIA's networks, whose discriminators alone are of kind skip, limit no colours at 4 px.
    clamp = None if size == 4 and config.d_architecture == "skip" else config.conv_clamp
    return Conv2d(config.img_channels, config.channels(size), 1, act=config.d_activation, clamp=clamp)


class DiscriminatorBlock(nn.Module):
    """[N, I, H, W] -> [N, O, H / 2, W / 2]: a residual block, both branches times sqrt 1/2; or its two convolutions alone."""

    def __init__(self, size: int, config: StyleGAN2Config) -> None:
        super().__init__()
        channels, out_channels = config.channels(size), config.channels(size // 2)
        self.dtype, clamp, act = config.dtype(size), config.conv_clamp, config.d_activation
        self.fromrgb = _fromrgb(size, config)
        self.conv0 = Conv2d(channels, channels, 3, act=act, clamp=clamp)
        if config.d_architecture != "resnet":
            self.conv1, self.skip = Conv2d(channels, out_channels, 3, act=act, down=2, clamp=clamp), None
            return
        half = None if clamp is None else clamp * math.sqrt(0.5)
        gain = 1.0 if act in ("lrelu", "relu") else DEFAULT_GAINS[act] * math.sqrt(0.5)  # theirs, sqrt 2, times sqrt 1/2
        self.conv1 = Conv2d(channels, out_channels, 3, act=act, down=2, gain=gain, clamp=half)
        self.skip = Conv2d(channels, out_channels, 1, bias=False, down=2, gain=math.sqrt(0.5), clamp=half if config.d_skip_clamp else None)

    @property
    def layers(self) -> list[list[nn.Module]]:
        """As `Discriminator.freeze` counts: the residual path's convolution goes with the second one, which it runs beside."""
        return [[self.conv0], [self.conv1] if self.skip is None else [self.conv1, self.skip]]

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        y: Tensor = self.conv1(self.conv0(x)) if self.skip is None else self.skip(x) + self.conv1(self.conv0(x))
        return y


class DiscriminatorEpilogue(nn.Module):
    """[N, C, 4, 4] -> scores [N, outputs]: minibatch standard deviation, a convolution, two linear layers."""

    def __init__(self, config: StyleGAN2Config, outputs: int) -> None:
        super().__init__()
        channels = config.channels(4)
        self.dtype, self.group, self.maps = config.dtype(4), config.group, config.deviation_maps
        self.fromrgb = _fromrgb(4, config)
        self.conv = Conv2d(channels + self.maps, channels, 3, act=config.d_activation, clamp=config.conv_clamp)
        self.fc = Linear(channels * 16, channels, act=config.d_activation)
        self.out = Linear(channels, outputs)

    @property
    def layers(self) -> list[list[nn.Module]]:
        return [[self.conv], [self.fc], [self.out]]

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        x = x.float()
        if self.maps:
            x = torch.cat([x, torch.cat([minibatch_deviation(batch, self.group, self.maps) for batch in x.chunk(batches)])], dim=1)
        x = self.conv(x.contiguous(memory_format=torch.channels_last))
        y: Tensor = self.out(self.fc(x.flatten(1)))
        return y


def minibatch_deviation(x: Tensor, group: int, maps: int = 1) -> Tensor:
    """[N, maps, H, W]: the standard deviation over groups of images, averaged over pixels and channels (Karras et al. 2018, 3), or for
    several maps over as many parts of the channels.

    A group holds the images n, n + N / group, ...; N not divisible by `group` takes the largest divisor below it.
    """
    n = x.shape[0]
    group = next(g for g in range(min(group, n), 0, -1) if n % g == 0)
    groups = x.unflatten(0, (group, -1))
    variance = (groups - groups.mean(0)).square().mean(0)  # Tensor.var takes ten times as long on a CPU
    if maps == 1:
        deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))[:, None]
    else:
        deviation = (variance + 1e-8).sqrt().unflatten(1, (maps, -1)).mean((2, 3, 4))
    return deviation.repeat(group, 1)[:, :, None, None].expand(-1, -1, *x.shape[2:])


class Discriminator(nn.Module):
    """image [N, img_channels, resolution, resolution] (and c [N, c_dim]) -> scores [N]; conditional by projection of the label."""

    resample_filter: Tensor | None

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config, own = config, config.of_discriminator
        for size in reversed(config.sizes[1:]):
            setattr(self, f"b{size}", DiscriminatorBlock(size, own))
        label = own.d_label_dim or own.channels(4)
        self.b4 = DiscriminatorEpilogue(own, outputs=label if config.c_dim else 1)
        self.mapping = Mapping(own, 0, label, None) if config.c_dim else None
        self.register_buffer("resample_filter", setup_filter() if config.d_architecture == "skip" else None, persistent=False)

    def _blocks(self, side: int) -> list[tuple[int, DiscriminatorBlock | DiscriminatorEpilogue]]:
        """(size, block) of an image's way, largest first."""
        return [(size, getattr(self, f"b{size}")) for size in reversed(self.config.sizes) if size <= side]

    def forward(
        self,
        image: Tensor,
        c: Tensor | None = None,
        *,
        level: float | Level | None = None,
        kept: list[Tensor] | None = None,
        batches: int = 1,
    ) -> Tensor:
        """`kept` takes what every block makes of the image, the scores apart.

        `batches`: so many of equal size lie one after the other, and each is scored as if it were alone.

        `level`: see `StyleGAN2Config.at_level`. While a block fades in, its features and those of the image at half the size are
        interpolated (Karras et al. 2018, fig. 2).
        """
        grown = self.config.at_level(level)
        side = grown.side
        if len(image) % batches:
            raise FaceganError(f"{len(image)} images are to be {batches} batches of equal size; expected a multiple of {batches}.")
        expected = [self.config.img_channels, side, side]
        if list(image.shape[1:]) != expected:
            raise FaceganError(f"images have shape {list(image.shape)}; the discriminator expects [N, {', '.join(map(str, expected))}].")
        with scaled_once(self):
            x = self._features(image.contiguous(memory_format=torch.channels_last), grown, kept, batches)
            if self.mapping is not None:
                label = self.mapping(None, c)
                x = (x * label).sum(1, keepdim=True) / math.sqrt(label.shape[1])
        return x.squeeze(1)

    def features(self, image: Tensor) -> list[Tensor]:
        """What every block but the last makes of images [N, img_channels, resolution, resolution]: [N, C, S, S], largest first."""
        kept: list[Tensor] = []
        self._features(image.contiguous(memory_format=torch.channels_last), self.config.at_level(None), kept, 1)
        return kept

    def _features(self, image: Tensor, grown: Level, kept: list[Tensor] | None, batches: int) -> Tensor:
        """[N, outputs] of the last layer."""
        x = image
        for size, block in self._blocks(grown.side):
            if size == grown.side:
                x = self._entered(block, image)
            elif self.resample_filter is not None:
                image = downsample2d(image, self.resample_filter)
                x = x.to(block.dtype) + self._entered(block, image)
            elif 2 * size == grown.side and grown.weight is not None:
                small = self._entered(block, F.avg_pool2d(image, 2))
                x = grown.faded(small, x.to(small.dtype))
            x = block(x) if isinstance(block, DiscriminatorBlock) else block(x, batches)
            if kept is not None and size > 4:
                kept.append(x)
        return x

    @staticmethod
    def _entered(block: DiscriminatorBlock | DiscriminatorEpilogue, image: Tensor) -> Tensor:
        assert block.fromrgb is not None
        x: Tensor = block.fromrgb(image.to(block.dtype))
        return x

    def freeze(self, count: int) -> None:
        """FreezeD (Mo et al. 2020): the first `count` layers, seen from the image, learn no more when a network is fine-tuned.

        Layers are fromrgb, two of every block, and the three behind the last block, of which the very last always learns.
        """
        blocks = [block for _, block in self._blocks(self.config.resolution)]
        entry = blocks[0].fromrgb
        assert entry is not None
        layers: list[list[nn.Module]] = [[entry], *(layer for block in blocks for layer in block.layers)]
        if self.config.growing and count:
            raise FaceganError(
                f"{count} layers are to be frozen, but a growing discriminator has no first layers that stay so: drop one of the two."
            )
        if not 0 <= count < len(layers):
            raise FaceganError(
                f"{count} layers are to be frozen; expected 0 to {len(layers) - 1}, as this discriminator has {len(layers)}."
            )
        for module in (module for layer in layers[:count] for module in layer):
            module.requires_grad_(False)
