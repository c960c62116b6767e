"""The few modules that the networks are built of, over `facegan.ops`, with equalised learning rate (Karras et al. 2018, 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.ops import bias_act, conv2d_layer, linear, setup_filter
from facegan.ops.activation import DEFAULT_GAINS, HOMOGENEOUS


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
        inside, self.gain = _divided_gain(act, gain)
        self.weight_gain = (scale * lr_multiplier if equalized else 1.0) * inside
        self.bias_gain = (lr_multiplier if equalized else 1.0) * inside
        weight = torch.randn(out_channels, in_channels, kernel, kernel)
        self.weight = nn.Parameter(weight / lr_multiplier if equalized else weight * scale)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.act, self.clamp, self.up, self.down, self.padding = act, clamp, up, down, kernel // 2
        resample_filter = setup_filter() if max(up, down) > 1 else None
        self.register_buffer("resample_filter", resample_filter, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = _scaled(self)
        return conv2d_layer(
            x, weight.to(x.dtype), bias, self.resample_filter, up=self.up, down=self.down, padding=self.padding,
            act=self.act, gain=self.gain, clamp=self.clamp,
        )  # fmt: skip

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, {kernel}, act={self.act}, up={self.up}, down={self.down}"


class Linear(nn.Module):
    """Fully connected layer, bias and activation: [..., in_features] -> [..., out_features]; equalised learning rate.

    `gain` multiplies the activation, None for its default.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        act: str = "linear",
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        gain: float | None = None,
    ) -> None:
        super().__init__()
        _check_act("Linear", act)
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier)) if bias else None
        inside, self.gain = _divided_gain(act, gain)
        self.act, self.weight_gain, self.bias_gain = act, lr_multiplier / math.sqrt(in_features) * inside, lr_multiplier * inside

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = _scaled(self)
        weight = weight.to(x.dtype)
        if self.act == "linear" and self.gain == 1:
            return linear(x, weight, bias if bias is None else bias.to(x.dtype))
        return bias_act(linear(x, weight), bias, dim=-1, act=self.act, gain=self.gain)

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


def _divided_gain(act: str, gain: float | None) -> tuple[float, float]:
    """The activation's gain as what may be multiplied into weight and bias, g act(x) = act(g x), and what is left for the result."""
    gain = DEFAULT_GAINS[act] if gain is None else gain
    return (gain, 1.0) if act in HOMOGENEOUS and gain > 0 else (1.0, gain)


# --- weights and biases times their gains

_scaled_layers: ContextVar[dict[nn.Module, tuple[Tensor, Tensor | None]] | None] = ContextVar("facegan_scaled_layers", default=None)


def _scaled(layer: Conv2d | Linear) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias as it applies them."""
    if not torch.compiler.is_compiling():
        done = _scaled_layers.get()
        if done is not None and layer in done:
            return done[layer]
    weight = layer.weight if layer.weight_gain == 1 else layer.weight * layer.weight_gain
    bias = layer.bias if layer.bias is None or layer.bias_gain == 1 else layer.bias * layer.bias_gain
    return weight, bias


@contextmanager
def scaled_once(network: nn.Module) -> Iterator[None]:
    """Inside, the equalised layers of `network` have their weights and biases scaled already: once, and all in one call.

    For whoever uses a network whole: a forward pass is hundreds of small calls, and their number is what a GPU waits for. Over
    several processes each layer scales its own, so that its gradients are exchanged while others are still computed.
    """
    if torch.compiler.is_compiling() or _several_processes():
        yield
        return
    outside = _scaled_layers.get() or {}
    layers = [layer for layer in network.modules() if isinstance(layer, (Conv2d, Linear)) and layer not in outside]
    tensors: list[Tensor] = []
    gains: list[float] = []
    for layer in layers:
        for parameter, gain in ((layer.weight, layer.weight_gain), (layer.bias, layer.bias_gain)):
            if parameter is not None and gain != 1:
                tensors.append(parameter)
                gains.append(gain)
    scaled = iter(_Scale.apply(gains, *tensors)) if tensors else iter(())
    found: dict[nn.Module, tuple[Tensor, Tensor | None]] = {}
    for layer in layers:
        weight = next(scaled) if layer.weight_gain != 1 else layer.weight
        found[layer] = weight, next(scaled) if layer.bias is not None and layer.bias_gain != 1 else layer.bias
    token = _scaled_layers.set({**outside, **found})
    try:
        yield
    finally:
        _scaled_layers.reset(token)


def _several_processes() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Scale(torch.autograd.Function):
    """Each tensor times its gain."""

    @staticmethod
    def forward(ctx: Any, gains: list[float], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.gains = gains
        ctx.set_materialize_grads(False)
        return tuple(torch._foreach_mul(tensors, gains))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        present = [(gradient, gain) for gradient, gain in zip(gradients, ctx.gains, strict=True) if gradient is not None]
        if not present:
            return (None,) * (1 + len(gradients))
        scaled = iter(torch._foreach_mul([gradient for gradient, _ in present], [gain for _, gain in present]))
        return None, *(None if gradient is None else next(scaled) for gradient in gradients)
