"""The few modules that the networks are built of, over `facegan.ops`, with equalised learning rate (Karras et al. 2018, 4.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.ops import bias_act, conv2d_resample, setup_filter
from facegan.ops.bias_act import DEFAULT_GAINS


class Conv2d(nn.Module):
    """Convolution, bias and activation: [N, in_channels, H, W] -> [N, out_channels, H * up / down, W * up / down].

    `equalized`: weights are stored as N(0, 1) and scaled by lr_multiplier / sqrt(fan-in) at run time, so that Adam's steps,
    which ignore the gradient's size, are the same share of every layer's weights. Otherwise they are stored at that scale.
    `up` or `down` resample by the FIR filter [1, 3, 3, 1]. `gain` multiplies the activation, None for its default; `clamp` limits
    the result.
    """

    resample_filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        bias: bool = True,
        act: str = "linear",
        gain: float | None = None,
        clamp: float | None = None,
        up: int = 1,
        down: int = 1,
        equalized: bool = True,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        _check_act("Conv2d", act)
        if kernel % 2 == 0:
            raise FaceganError(f"Conv2d: kernel is {kernel}; expected an odd size, which keeps the image's.")
        scale = 1 / math.sqrt(in_channels * kernel * kernel)
        self.weight_gain = scale * lr_multiplier if equalized else 1.0
        self.bias_gain = lr_multiplier if equalized else 1.0
        weight = torch.randn(out_channels, in_channels, kernel, kernel)
        self.weight = nn.Parameter(weight / lr_multiplier if equalized else weight * scale)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.act, self.gain, self.clamp, self.up, self.down, self.padding = act, gain, clamp, up, down, kernel // 2
        resample_filter = setup_filter() if max(up, down) > 1 else None
        self.register_buffer("resample_filter", resample_filter, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        x = conv2d_resample(x, weight, self.resample_filter, up=self.up, down=self.down, padding=self.padding)
        return bias_act(x, _scaled_bias(self), act=self.act, gain=self.gain, clamp=self.clamp)

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, {kernel}, act={self.act}, up={self.up}, down={self.down}"


class Linear(nn.Module):
    """Fully connected layer, bias and activation: [..., in_features] -> [..., out_features]; equalised learning rate."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        act: str = "linear",
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        _check_act("Linear", act)
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier)) if bias else None
        self.act, self.weight_gain, self.bias_gain = act, lr_multiplier / math.sqrt(in_features), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        return bias_act(F.linear(x, weight), _scaled_bias(self), dim=-1, act=self.act)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, act={self.act}"


class PixelNorm(nn.Module):
    """Divides by the root mean square over `dim`: z's second-moment normalisation and progressive GAN's pixel norm."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(self.dim, keepdim=True) + self.eps).rsqrt()


def _check_act(module: str, act: str) -> None:
    if act not in DEFAULT_GAINS:
        raise FaceganError(f"{module}: act is {act!r}; expected one of {', '.join(DEFAULT_GAINS)}.")


def _scaled_bias(layer: Conv2d | Linear) -> Tensor | None:
    return layer.bias if layer.bias is None or layer.bias_gain == 1 else layer.bias * layer.bias_gain
