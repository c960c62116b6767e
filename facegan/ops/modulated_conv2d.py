"""The synthesis layer of StyleGAN2 (Karras et al. 2020, eqs. 1 and 3): modulate, convolve, demodulate, noise, bias, activation.

Scaling the input channels by the style and the output channels by the demodulation coefficients equals convolving with
modulated weights, with one weight for the whole batch and without the [N, O, I, K, K] tensor of the grouped form. Between
the convolution (any backend: oneDNN, cuDNN) and the next layer everything elementwise is one registered operator:
`modulated_epilogue: y = clamp(gain * act(x * d + noise + b))`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.bias_act import activation_slope, bias_act_ref, check_activation
from facegan.ops.conv2d import conv2d_resample
from facegan.ops.registration import register
from facegan.ops.upfirdn2d import setup_filter


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool = True,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """One synthesis layer, [N, I, H, W] -> [N, O, H', W'] in x's dtype and memory format.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I, K, K], correlated with x (on `up` layers with x upsampled); cast to x's dtype.
        styles: [N, I], factors of the input channels.
        demodulate: divides by the norm of the modulated weights, `sqrt(sum_{i,k} (s_i w)^2 + 1e-8)`.
        up, down: resampling factor, by `resample_filter`, [KF]; None for [1, 3, 3, 1].
        padding: of the convolution; K // 2 yields H * up or H / down.
        noise: [H', W'], [1, 1, H', W'] or [N, 1, H', W'], already multiplied by its strength; None for none.
        bias: [O]; act, gain, clamp: as in `bias_act`, where alpha is 0.2.
    """
    gain = check_activation("modulated_conv2d", act, _ALPHA, gain, clamp)
    _check(x, weight, styles, bias)
    x, d = _modulated(x, weight, styles, demodulate, up, down, padding, resample_filter)
    noise = _checked_noise(noise, x)
    chosen = backend.select("modulated_conv2d", x.device.type)
    if chosen == "reference":
        return modulated_epilogue_ref(x, d, noise, bias, act, _ALPHA, gain, clamp)
    bias = None if bias is None else bias.to(x.dtype)
    y: Tensor = torch.ops.facegan.modulated_epilogue(x, d, noise, bias, act, _ALPHA, gain, clamp, chosen)
    return y


def modulated_conv2d_ref(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool = True,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`modulated_conv2d` in PyTorch, the non-grouped form; arguments as there, unchecked."""
    with backend.use_backend("reference"):
        x, d = _modulated(x, weight, styles, demodulate, up, down, padding, resample_filter)
    return modulated_epilogue_ref(x, d, noise, bias, act, _ALPHA, gain, clamp)


_ALPHA = 0.2  # slope of lrelu below zero


def _modulated(
    x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool, up: int, down: int, padding: int, f: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The convolution of the modulated input, and the demodulation coefficients [N, O] still to be applied."""
    d = demodulation(weight, styles).to(x.dtype) if demodulate else None
    if f is None and max(up, down) > 1:
        f = setup_filter(device=x.device)
    x = x * styles.to(x.dtype)[:, :, None, None]
    return conv2d_resample(x, weight.to(x.dtype), f, up=up, down=down, padding=padding), d


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """`1 / sqrt(sum_{i,k} (s_i w_{oik})^2 + 1e-8)`, [N, O], in float32 or wider: eq. 3 without the weights per sample."""
    if styles.dtype in (torch.float16, torch.bfloat16):
        styles = styles.float()
    return torch.rsqrt(styles.square() @ weight.to(styles.dtype).square().sum((2, 3)).T + 1e-8)


def modulated_epilogue_ref(
    x: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    act: str,
    alpha: float,
    gain: float | None,
    clamp: float | None,
) -> Tensor:
    """`clamp(gain * act(x * d + noise + b))`: x [N, O, H, W], d [N, O], noise broadcast to [N, 1, H, W], b [O]."""
    if noise is not None:
        noise = noise.to(x.dtype)
        x = noise + x if d is None else torch.addcmul(noise, x, d[:, :, None, None])
    elif d is not None:
        x = x * d[:, :, None, None]
    return bias_act_ref(x, b, 1, act, alpha, gain, clamp)


def modulated_epilogue_backward_ref(
    dy: Tensor,
    y: Tensor,
    x: Tensor,
    d: Tensor | None,
    noise_batch: int,
    bias: bool,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients (x, d, noise [noise_batch, 1, H, W], b); what is not wanted (d None, noise_batch 0, not bias) is empty."""
    dz = dy * activation_slope(y, act, alpha, gain, clamp)
    empty = dz.new_empty(0)
    dx = dz if d is None else dz * d[:, :, None, None]
    dd = empty if d is None else (dz * x).sum((2, 3))
    dn = empty
    if noise_batch:
        dn = dz.sum((0, 1) if noise_batch == 1 else 1, keepdim=True)
    return dx, dd, dn, dz.sum((0, 2, 3)) if bias else empty


def _check(x: Tensor, weight: Tensor, styles: Tensor, bias: Tensor | None) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise FaceganError(f"modulated_conv2d: x is {x.dtype} {list(x.shape)}; expected a floating point [N, I, H, W].")
    if weight.ndim != 4 or weight.shape[1] != x.shape[1] or weight.shape[2] != weight.shape[3]:
        raise FaceganError(
            f"modulated_conv2d: weight has shape {list(weight.shape)}; expected [O, {x.shape[1]}, K, K]."
        )
    if styles.shape != x.shape[:2]:
        raise FaceganError(
            f"modulated_conv2d: styles have shape {list(styles.shape)}; expected [N, I] = {list(x.shape[:2])} as x has."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise FaceganError(f"modulated_conv2d: bias has shape {list(bias.shape)}; expected [{weight.shape[0]}].")


def _checked_noise(noise: Tensor | None, y: Tensor) -> Tensor | None:
    """The noise as [1 or N, 1, H', W'] in y's dtype."""
    if noise is None:
        return None
    shaped = noise[None, None] if noise.ndim == 2 else noise
    if shaped.shape not in ((1, 1, *y.shape[2:]), (y.shape[0], 1, *y.shape[2:])):
        raise FaceganError(
            f"modulated_conv2d: noise has shape {list(noise.shape)}; expected [H, W] or [N, 1, H, W] with N 1 or "
            f"{y.shape[0]} and H, W = {y.shape[2]}, {y.shape[3]}, the size of the layer's output."
        )
    return shaped.to(y.dtype)


class _ModulatedEpilogue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor | None, noise: Tensor | None, b: Tensor | None, *options: Any) -> Tensor:
        y: Tensor = _modulated_epilogue(x, d, noise, b, *options)
        ctx.save_for_backward(y, x if d is not None else None, d)  # x is needed for d's gradient alone
        noise_batch = noise.shape[0] if noise is not None and ctx.needs_input_grad[2] else 0
        ctx.options = (noise_batch, b is not None and ctx.needs_input_grad[3], *options)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        y, x, d = ctx.saved_tensors
        noise_batch, bias, *_ = ctx.options
        dx, dd, dn, db = torch.ops.facegan.modulated_epilogue_backward(dy, y, y if x is None else x, d, *ctx.options)
        return dx, None if d is None else dd, dn if noise_batch else None, db if bias else None, *(None,) * 5


def _modulated_epilogue_kernel(x: Tensor, *args: Any) -> Tensor:
    y = modulated_epilogue_ref(x, *args)
    return y.clone() if y is x else y  # an operator must not return its argument


def _fake_backward(
    dy: Tensor, y: Tensor, x: Tensor, d: Tensor | None, noise_batch: int, bias: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    noise = (noise_batch, 1, *y.shape[2:]) if noise_batch else (0,)
    dd = (0,) if d is None else d.shape
    return torch.empty_like(dy), dy.new_empty(dd), dy.new_empty(noise), dy.new_empty(y.shape[1] if bias else 0)


_modulated_epilogue = register(
    "modulated_conv2d",
    "modulated_epilogue(Tensor x, Tensor? d, Tensor? noise, Tensor? b, str act, float alpha, float gain, float? clamp,"
    " str backend) -> Tensor",
    fake=lambda x, *_: torch.empty_like(x),
    autograd=_ModulatedEpilogue.apply,
    reference=_modulated_epilogue_kernel,
)
register(
    "modulated_conv2d",
    "modulated_epilogue_backward(Tensor dy, Tensor y, Tensor x, Tensor? d, int noise_batch, bool bias, str act, float alpha,"
    " float gain, float? clamp, str backend) -> (Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_backward,
    autograd=lambda *args: modulated_epilogue_backward_ref(*args[:-1]),
    reference=modulated_epilogue_backward_ref,
)
