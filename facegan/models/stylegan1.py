"""The blocks of StyleGAN1's synthesis (Karras et al. 2019, "A Style-Based Generator Architecture", fig. 1b), for `Synthesis`.

Styles act through adaptive instance normalisation of the activations. It wipes out what the maps' magnitudes tell of each other,
which the generator circumvents by a spike that dominates the statistics: the droplets that StyleGAN2's demodulation cures
(Karras et al. 2020a, section 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from facegan.models.regions import Areas
from facegan.models.stylegan2_config import StyleGAN2Config
from facegan.nn import Conv2d, Linear
from facegan.ops import adain_affine, bias_act
from facegan.ops.modulated_conv2d.reference import per_pixel


class StyleLayer(nn.Module):
    """x [N, I, H, W], style [N, 2 O] -> [N, O, H * up, W * up]: convolution, noise, bias, activation, and AdaIN by the style (eq. 1).

    The style is `affine` of w [N, w_dim]: scales, then shifts.

    Without `in_channels` there is no convolution: the layer on the constant.
    """

    noise_const: Tensor

    def __init__(self, in_channels: int | None, out_channels: int, size: int, config: StyleGAN2Config, up: int = 1) -> None:
        super().__init__()
        self.size, self.clamp, self.act = size, config.conv_clamp, config.activation
        self.conv = None if in_channels is None else Conv2d(in_channels, out_channels, 3, bias=False, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(out_channels))  # "learned per-channel scaling factors", B in fig. 1b
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = Linear(config.w_dim, 2 * out_channels)
        self.affine.bias = nn.Parameter(torch.cat([torch.ones(out_channels), torch.zeros(out_channels)]))  # scale, shift
        self.register_buffer("noise_const", torch.randn(size, size))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None, areas: Areas | None = None) -> Tensor:
        """`noise`: [N, 1, H', W'] or [H', W'], still to be scaled; `areas`: where the styles [N, 1 + K, 2 O] hold."""
        if self.conv is not None:
            x = self.conv(x)
        if noise is not None:
            x = torch.addcmul(x, noise.to(x.dtype), self.noise_strength.to(x.dtype)[:, None, None])
        x = bias_act(x, self.bias, act=self.act, clamp=self.clamp)
        scale, shift = style.chunk(2, dim=-1)
        if areas is None:
            return adain_affine(x, scale, shift)
        # AdaIN is linear in scale and shift, so that the result is the same whether styles or layers are blended.
        x = adain_affine(x, torch.ones_like(scale[:, 0]), torch.zeros_like(shift[:, 0]))
        return torch.addcmul(per_pixel(shift, areas.masks, x), x, per_pixel(scale, areas.masks, x))


class StyleBlock(nn.Module):
    """One size: the constant or a layer that upsamples, another layer, and where colours leave, a plain 1 x 1 convolution."""

    def __init__(self, size: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.size, self.dtype = size, config.dtype(size)
        channels = config.channels(size)
        if size == 4:
            # Drawn as StyleGAN2's: the paper's ones have no variance to normalise by.
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
            self.layer0 = StyleLayer(None, channels, size, config)
        else:
            self.layer0 = StyleLayer(config.channels(size // 2), channels, size, config, up=2)
        self.layer1 = StyleLayer(channels, channels, size, config)
        leaves = config.growing or size == config.resolution
        self.torgb = Conv2d(channels, config.img_channels, 1, clamp=config.conv_clamp) if leaves else None

    @property
    def layers(self) -> list[StyleLayer]:
        return [self.layer0, self.layer1]

    @property
    def styled(self) -> dict[str, StyleLayer]:
        """What takes a style, in order."""
        return {"layer0": self.layer0, "layer1": self.layer1}

    def forward(self, x: Tensor | None, styles: Sequence[Tensor], noises: Iterator[Tensor | None], areas: Areas | None = None) -> Tensor:
        """`styles`: those of `styled`, [N, 2 C], or [N, 1 + K, 2 C], which hold in `areas`; `noises`: the next of each layer."""
        if x is None:
            x = self.const.expand(styles[0].shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = x.to(self.dtype)
        for layer, style in zip(self.layers, styles, strict=True):
            x = layer(x, style, next(noises), areas)
        return x

    def colours(self, x: Tensor, styles: Sequence[Tensor], areas: Areas | None = None) -> Tensor:
        """[N, img_channels, H, W] float32; neither styles nor regions have a part in them."""
        assert self.torgb is not None
        image: Tensor = self.torgb(x)
        return image.float()
