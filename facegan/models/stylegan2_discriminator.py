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


def _fromrgb(size: int, config: StyleGAN2Config) -> Conv2d | None:
    """Colours to features, where images enter."""
    enters = config.growing or size == config.resolution
    return Conv2d(3, config.channels(size), 1, act="lrelu", clamp=config.conv_clamp) if enters else None


class DiscriminatorBlock(nn.Module):
    """[N, I, H, W] -> [N, O, H / 2, W / 2]: a residual block, both branches times sqrt 1/2."""

    def __init__(self, size: int, config: StyleGAN2Config) -> None:
        super().__init__()
        channels, out_channels = config.channels(size), config.channels(size // 2)
        self.dtype, clamp = config.dtype(size), config.conv_clamp
        half = None if clamp is None else clamp * math.sqrt(0.5)
        self.fromrgb = _fromrgb(size, config)
        self.conv0 = Conv2d(channels, channels, 3, act="lrelu", clamp=clamp)
        self.conv1 = Conv2d(channels, out_channels, 3, act="lrelu", down=2, gain=1.0, clamp=half)  # lrelu's sqrt 2 times sqrt 1/2
        self.skip = Conv2d(channels, out_channels, 1, bias=False, down=2, gain=math.sqrt(0.5), clamp=half)

    @property
    def layers(self) -> list[list[nn.Module]]:
        """As `Discriminator.freeze` counts: the residual path's convolution goes with the second one, which it runs beside."""
        return [[self.conv0], [self.conv1, self.skip]]

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        y: Tensor = self.skip(x) + self.conv1(self.conv0(x))
        return y


class DiscriminatorEpilogue(nn.Module):
    """[N, C, 4, 4] -> scores [N, outputs]: minibatch standard deviation, a convolution, two linear layers."""

    def __init__(self, config: StyleGAN2Config, outputs: int) -> None:
        super().__init__()
        channels = config.channels(4)
        self.dtype, self.group = config.dtype(4), config.group
        self.fromrgb = _fromrgb(4, config)
        self.conv = Conv2d(channels + 1, channels, 3, act="lrelu", clamp=config.conv_clamp)
        self.fc = Linear(channels * 16, channels, act="lrelu")
        self.out = Linear(channels, outputs)

    @property
    def layers(self) -> list[list[nn.Module]]:
        return [[self.conv], [self.fc], [self.out]]

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        x = x.float()
        deviation = torch.cat([minibatch_deviation(batch, self.group) for batch in x.chunk(batches)])
        x = self.conv(torch.cat([x, deviation], dim=1).contiguous(memory_format=torch.channels_last))
        y: Tensor = self.out(self.fc(x.flatten(1)))
        return y


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """[N, 1, H, W]: the standard deviation over groups of images, averaged over channels and pixels (Karras et al. 2018, 3).

    A group holds the images n, n + N / group, ...; N not divisible by `group` takes the largest divisor below it.
    """
    n = x.shape[0]
    group = next(g for g in range(min(group, n), 0, -1) if n % g == 0)
    groups = x.unflatten(0, (group, -1))
    variance = (groups - groups.mean(0)).square().mean(0)  # Tensor.var takes ten times as long on a CPU
    deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))
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
        if image.shape[1:] != (3, side, side):
            raise FaceganError(f"images have shape {list(image.shape)}; the discriminator expects [N, 3, {side}, {side}].")
        with scaled_once(self):
            x = self._features(image.contiguous(memory_format=torch.channels_last), grown, kept, batches)
            if self.mapping is not None:
                label = self.mapping(None, c)
                x = (x * label).sum(1, keepdim=True) / math.sqrt(label.shape[1])
        return x.squeeze(1)

    def _features(self, image: Tensor, grown: Level, kept: list[Tensor] | None, batches: int) -> Tensor:
        """[N, outputs] of the last layer."""
        x = image
        for size, block in self._blocks(grown.side):
            if size == grown.side:
                x = self._entered(block, image)
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
