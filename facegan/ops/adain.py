"""Adaptive instance normalisation (Huang & Belongie 2017, eq. 8) and StyleGAN1's form of it (Karras et al. 2019, eq. 1).

Statistics are per sample and channel over H x W: `sigma = sqrt(biased variance + eps)`. Normalising is affine in each
channel, so one pass `x * scale + shift` follows the statistics. Statistics and sums are in float32 or wider.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.formats import empty_like_format, upcast
from facegan.ops.registration import by_pytorch, operators, register


def adain(content: Tensor, style: Tensor, alpha: float = 1.0, mask: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Give the content the statistics of the style: adaptive instance normalisation (Huang & Belongie 2017, eq. 8).

    `(1 - alpha m) c + alpha m (sigma(s) (c - mu(c)) / sigma(c) + mu(s))`, with mean and deviation of each sample and channel.

    Args:
        content: c, [N, C, H, W] floating point.
        style: s, [N, C, H', W'] in content's dtype; H' x W' may differ from H x W when there is no mask.
        alpha: strength; 0 leaves the content, 1 replaces its statistics.
        mask: m, [N, 1, H, W], not negative: weights the statistics of both and the blend; a constant without gradient.
        eps: added to the variance.

    Returns:
        [N, C, H, W] in content's dtype and memory format.

    Raises:
        FaceganError: shapes or dtypes do not fit together, the style has no pixels, or the mask requires a gradient.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    _check_maps("adain", content=content, style=style)
    if style.shape[:2] != content.shape[:2] or style.dtype != content.dtype:
        raise FaceganError(
            f"adain: style is {style.dtype} {list(style.shape)}; expected {content.dtype} "
            f"[{content.shape[0]}, {content.shape[1]}, H, W] as the content."
        )
    if mask is not None:
        expected = (content.shape[0], 1, *content.shape[2:])
        if mask.shape != expected or style.shape != content.shape:
            raise FaceganError(
                f"adain: mask has shape {list(mask.shape)} and style {list(style.shape)}; expected a mask {list(expected)} "
                f"and a style {list(content.shape)}, as the content has."
            )
        if mask.requires_grad:
            raise FaceganError("adain: mask requires a gradient, but it is a constant; pass mask.detach().")
    if style.numel() == 0 and content.numel() > 0:
        raise FaceganError(f"adain: style has shape {list(style.shape)}; expected at least one pixel to take statistics of.")
    chosen = backend.select("adain", content)
    if chosen == "reference":
        return adain_ref(content, style, alpha, mask, eps)
    y: Tensor = operators(chosen).adain(content, style, alpha, mask, eps)
    return y


def adain_affine(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each sample and channel, then apply a style's own scale and shift (Karras et al. 2019, eq. 1).

    `scale (x - mu(x)) / sigma(x) + shift`

    Args:
        x: [N, C, H, W] floating point.
        scale: [N, C] of any floating point dtype.
        shift: [N, C] of any floating point dtype.
        eps: added to the variance.

    Returns:
        [N, C, H, W] in x's dtype and memory format.

    Raises:
        FaceganError: x is no floating point map, or scale or shift is not [N, C].
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    _check_maps("adain_affine", x=x)
    for name, value in (("scale", scale), ("shift", shift)):
        if value.shape != x.shape[:2]:
            raise FaceganError(f"adain_affine: {name} has shape {list(value.shape)}; expected [N, C] = {list(x.shape[:2])} as x has.")
    chosen = backend.select("adain_affine", x)
    if chosen == "reference":
        return adain_affine_ref(x, scale, shift, eps)
    y: Tensor = operators(chosen).adain_affine(x, scale, shift, eps)
    return y


def adain_ref(content: Tensor, style: Tensor, alpha: float = 1.0, mask: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Compute `adain` in PyTorch; arguments as there, unchecked."""
    if content.numel() == 0:
        return content.clone()
    c, s = upcast(content), upcast(style)
    mask = None if mask is None else mask.to(c.dtype)
    mean_c, sigma_c = _statistics(c, mask, eps)
    mean_s, sigma_s = _statistics(s, mask, eps)
    ratio = sigma_s / sigma_c
    if mask is None:
        scale, shift = 1 - alpha + alpha * ratio, alpha * (mean_s - ratio * mean_c)
        return torch.addcmul(shift, c, scale).to(content.dtype)
    # m t + (1 - m) c with t = ratio c + shift
    return torch.addcmul(c, torch.addcmul(mean_s - ratio * mean_c, c, ratio - 1), mask, value=alpha).to(content.dtype)


def adain_affine_ref(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """Compute `adain_affine` in PyTorch; arguments as there, unchecked."""
    if x.numel() == 0:
        return x.clone()
    x_acc = upcast(x)
    mean, sigma = _statistics(x_acc, None, eps)
    scale, shift = (t.to(x_acc.dtype).contiguous()[:, :, None, None] for t in (scale, shift))  # whose order the result would have
    ratio = scale / sigma
    return torch.addcmul(shift - ratio * mean, x_acc, ratio).to(x.dtype)


def _statistics(x: Tensor, mask: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and sigma, [N, C, 1, 1], weighted by the mask."""
    if mask is None:
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    else:
        weight = _weights(x, mask)
        mean = (x * weight).sum((2, 3), keepdim=True)
        variance = ((x - mean).square() * weight).sum((2, 3), keepdim=True)
    return mean, (variance + eps).sqrt()


def _weights(x: Tensor, mask: Tensor | None) -> Tensor | float:
    """What each pixel contributes to a mean: the mask over its sum ([N, 1, H, W]), or one over the number of pixels."""
    if mask is None:
        return 1 / max(x.shape[2] * x.shape[3], 1)
    # An empty mask selects nothing: any statistics do, as long as they are finite.
    return mask / mask.sum((2, 3), keepdim=True).clamp_min(torch.finfo(mask.dtype).tiny)


def _normalise_backward(g: Tensor, normalised: Tensor, sigma: Tensor, weight: Tensor | float) -> Tensor:
    """Gradient of `(x - mu) / sigma` by x: `(g - w (sum g + xhat sum g xhat)) / sigma` with pixel weights w."""
    sum_g, sum_gx = g.sum((2, 3), keepdim=True), (g * normalised).sum((2, 3), keepdim=True)
    return (g - (sum_g + normalised * sum_gx) * weight) / sigma


def adain_backward_ref(dy: Tensor, content: Tensor, style: Tensor, alpha: float, mask: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Return the gradients (content, style) of `adain`."""
    dy, c, s = upcast(dy), upcast(content), upcast(style)
    mask = None if mask is None else mask.to(c.dtype)
    (mean_c, sigma_c), (mean_s, sigma_s) = _statistics(c, mask, eps), _statistics(s, mask, eps)
    c_hat, s_hat = (c - mean_c) / sigma_c, (s - mean_s) / sigma_s
    blend: Tensor | float = alpha if mask is None else alpha * mask
    dt = dy * blend
    d_content = dy - dt + _normalise_backward(dt * sigma_s, c_hat, sigma_c, _weights(c, mask))
    # the style acts through mu(s), whose gradient is sum dt, and sigma(s), whose gradient is sum dt c_hat
    d_mean, d_sigma = dt.sum((2, 3), keepdim=True), (dt * c_hat).sum((2, 3), keepdim=True)
    d_style = (d_mean + s_hat * d_sigma) * _weights(s, mask)
    return d_content.to(content.dtype), d_style.to(style.dtype)


def adain_affine_backward_ref(dy: Tensor, x: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients (x, scale, shift) of `adain_affine`, the last two in float32 or wider."""
    dy, x_acc = upcast(dy), upcast(x)
    mean, sigma = _statistics(x_acc, None, eps)
    x_hat = (x_acc - mean) / sigma
    dx = _normalise_backward(dy * scale.to(x_acc.dtype)[:, :, None, None], x_hat, sigma, _weights(x_acc, None))
    return dx.to(x.dtype), (dy * x_hat).sum((2, 3)), dy.sum((2, 3))


def _check_maps(op: str, **maps: Tensor) -> None:
    for name, x in maps.items():
        if x.ndim != 4 or not x.is_floating_point():
            raise FaceganError(f"{op}: {name} is {x.dtype} {list(x.shape)}; expected a floating point [N, C, H, W].")


class _AdaIN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, content: Tensor, style: Tensor, alpha: float, mask: Tensor | None, eps: float, ops: Any) -> Tensor:
        ctx.save_for_backward(content, style, mask)
        ctx.alpha, ctx.eps, ctx.ops = alpha, eps, ops
        y: Tensor = ops.adain.kernel(content, style, alpha, mask, eps)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        content, style, mask = ctx.saved_tensors
        return *ctx.ops.adain_backward(dy, content, style, ctx.alpha, mask, ctx.eps), None, None, None, None


class _AdaINAffine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, ops: Any) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.eps, ctx.ops, ctx.shift_dtype = eps, ops, shift.dtype
        y: Tensor = ops.adain_affine.kernel(x, scale, shift, eps)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, scale = ctx.saved_tensors
        dx, d_scale, d_shift = ctx.ops.adain_affine_backward(dy, x, scale, ctx.eps)
        return dx, d_scale.to(scale.dtype), d_shift.to(ctx.shift_dtype), None, None


register(
    "adain",
    "adain(Tensor content, Tensor style, float alpha, Tensor? mask, float eps) -> Tensor",
    fake=lambda content, *_: empty_like_format(content),
    autograd=_AdaIN,
    reference=adain_ref,
)
register(
    "adain",
    "adain_backward(Tensor dy, Tensor content, Tensor style, float alpha, Tensor? mask, float eps) -> (Tensor, Tensor)",
    fake=lambda dy, content, style, *_: (empty_like_format(content), empty_like_format(style)),
    autograd=by_pytorch(adain_backward_ref),
    reference=adain_backward_ref,
)
register(
    "adain_affine",
    "adain_affine(Tensor x, Tensor scale, Tensor shift, float eps) -> Tensor",
    fake=lambda x, *_: empty_like_format(x),
    autograd=_AdaINAffine,
    reference=adain_affine_ref,
)
register(
    "adain_affine",
    "adain_affine_backward(Tensor dy, Tensor x, Tensor scale, float eps) -> (Tensor, Tensor, Tensor)",
    fake=lambda dy, x, *_: (empty_like_format(x), *(upcast(x).new_empty(x.shape[:2]) for _ in range(2))),
    autograd=by_pytorch(adain_affine_backward_ref),
    reference=adain_affine_backward_ref,
)
