"""The restorer (GPEN; Yang et al. 2021, "GAN Prior Embedded Network for Blind Face Restoration in the Wild", fig. 2).

    face -> encoder: one map a size, R ... 4 px -> the last one through a linear layer: z -> mapping -> styles
            \\_ every map, times a learned scale, beside the features of the decoder's layers of its size: where its noise was

The decoder is a StyleGAN2 generator that was trained with noise concatenated, or one with added noise, lifted to that form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.nn import Conv2d, Linear
from facegan.ops.activation import Activation


class Encoder(nn.Module):
    """face [N, 3, R, R] -> maps [N, C, S, S] of the sizes S = R ... 4, with the decoder's channels."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.dtypes = {size: config.dtype(size) for size in reversed(config.sizes)}
        for size in self.dtypes:
            channels = config.channels(size)
            first = size == config.resolution
            layer = Conv2d(3, channels, 1, act="lrelu") if first else Conv2d(config.channels(2 * size), channels, 3, act="lrelu", down=2)
            setattr(self, f"b{size}", layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        maps = []
        for size, dtype in self.dtypes.items():
            x = getattr(self, f"b{size}")(x.to(dtype))
            maps.append(x)
        return maps


class Restorer(nn.Module):
    """A degraded face [N, 3, R, R] in [-1, 1] -> the restored one, of the same shape."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        if config.noise != "concat" or config.c_dim or config.growing:
            raise FaceganError(
                f"a restorer's decoder has noise concatenated, no labels, and does not grow; got noise={config.noise!r}, "
                f"c_dim={config.c_dim}, growing={config.growing}."
            )
        self.config = config
        self.encoder = Encoder(config)
        self.bottleneck = Linear(config.channels(4) * 16, config.z_dim, act="lrelu")
        self.generator = Generator(config)

    def forward(self, images: Tensor) -> Tensor:
        resolution = self.config.resolution
        if images.shape[1:] != (3, resolution, resolution):
            raise FaceganError(f"images have shape {list(images.shape)}; this restorer expects [N, 3, {resolution}, {resolution}].")
        maps = self.encoder(images)
        ws = self.generator.mapping(self.bottleneck(maps[-1].float().flatten(1)))
        restored: Tensor = self.generator.synthesis(ws, noise=maps[::-1])
        return restored

    def scales(self) -> Iterator[nn.Parameter]:
        """What the maps are multiplied by, one number a layer of the decoder."""
        for block in self.generator.synthesis.blocks:
            for layer in block.layers:
                yield layer.noise_strength


def decoder_config(prior: StyleGAN2Config) -> StyleGAN2Config:
    """Of the restorer that is built on a prior. Raises FaceganError for one that cannot be a decoder."""
    if prior.img_channels != 3:
        raise FaceganError(f"a prior makes RGB images; this one's have {prior.img_channels} channel(s)")
    if prior.c_dim or prior.architecture != "skip":
        raise FaceganError(
            f"a prior is a StyleGAN2 without labels and with skip outputs; this one has {prior.c_dim} label(s) and architecture "
            f"{prior.architecture}"
        )
    return replace(prior, noise="concat", growing=False)


def embed(restorer: Restorer, prior: StyleGAN2Config, state: dict[str, Tensor]) -> None:
    """Put a prior's generator into the decoder, so that at first the maps change nothing.

    A prior with concatenated noise has weights that read it: the maps' scale starts at 0. In a lifted one these weights are 0, and
    the scale is 1, or neither would ever learn.
    """
    restorer.generator.load_state_dict(state if prior.noise == "concat" else lifted(prior, state))
    with torch.no_grad():
        for scale in restorer.scales():
            scale.fill_(0.0 if prior.noise == "concat" else 1.0)


def lifted(config: StyleGAN2Config, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A generator's state with added noise -> one with concatenated noise that makes the same picture of the same styles, noise apart."""
    new = {name: value for name, value in state.items() if not name.endswith("noise_const")}
    for name in list(new):
        if not name.startswith("synthesis.b"):
            continue
        _, block, layer, part = (*name.split(".", 3), "")[:4]  # the constant is no layer with parts
        reads_features = layer in ("conv0", "torgb") or (layer == "conv1" and block != "b4")
        if part == "bias" and layer != "torgb":
            new[name] = torch.cat([new[name], torch.zeros_like(new[name])])
        elif part == "weight" and reads_features:
            # toRGB divides its styles by the root of their number, which doubles.
            gain = math.sqrt(2) if layer == "torgb" else 1.0
            new[name] = torch.cat([new[name] * gain, torch.zeros_like(new[name])], dim=1)
        elif part == "affine.weight" and reads_features:
            new[name] = torch.cat([new[name], torch.zeros_like(new[name])])
        elif part == "affine.bias" and reads_features:
            new[name] = torch.cat([new[name], torch.ones_like(new[name])])
        elif part == "noise_strength":
            new[name] = torch.ones_like(new[name])
    return new


def enlarged(restorer: Restorer, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of a restorer of half the size -> one of `restorer`'s that makes the same picture of the same face, twice as large:
    at first R(x) = upsample2d(R'(downsample2d(x))). In the manner of Karras et al. 2018, whose networks grow by whole sizes.

    The first map holds each colour twice, as lrelu(c) and lrelu(-c), whose difference is 1.2 c; the next layer, which resamples, puts
    them together again and goes on as the smaller restorer's first one. The new last block sends no colours yet.

    Args:
        restorer: whose weights are taken where there were none.
    """
    full, half = restorer.config.resolution, restorer.config.resolution // 2
    new, encoder = dict(restorer.state_dict()), restorer.encoder
    whole, then = encoder.get_submodule(f"b{full}"), encoder.get_submodule(f"b{half}")
    assert isinstance(whole, Conv2d) and isinstance(then, Conv2d)
    before = Conv2d(3, then.weight.shape[0], 1, act="lrelu")  # what the smaller one has in the place of `then`
    if whole.weight.shape[0] < 6:
        raise FaceganError(f"the first map of a {full} px restorer has {whole.weight.shape[0]} channels here, and six hold the colours")
    new |= {name: value for name, value in state.items() if name != f"encoder.b{half}.weight"}
    colours = torch.eye(3)[:, :, None, None] / whole.weight_gain
    first = new[f"encoder.b{full}.weight"].clone()
    first[:6] = torch.cat([colours, -colours])
    weight = torch.zeros_like(then.weight)
    middle = state[f"encoder.b{half}.weight"][:, :, 0, 0] * before.weight_gain / (1 + Activation().alpha)
    weight[:, :6, 1, 1] = torch.cat([middle, -middle], dim=1) / then.weight_gain
    new |= {f"encoder.b{full}.weight": first, f"encoder.b{half}.weight": weight}
    block = f"generator.synthesis.b{full}"
    for layer in ("conv0", "conv1"):
        new[f"{block}.{layer}.noise_strength"] = torch.ones(())
    silent = f"{block}.torgb.weight", f"{block}.torgb.bias", f"encoder.b{full}.bias"
    return new | {name: torch.zeros_like(new[name]) for name in silent}
