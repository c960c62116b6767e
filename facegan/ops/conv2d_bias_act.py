"""Convolution, bias and activation as one operation, `bias_act(conv2d(x, weight), bias)`, and the same with FIR resampling before.

oneDNN applies bias and activation to what it has just computed, while that is in the cache; elsewhere two kernels follow each other.
Either way autograd sees one node, which keeps x, weight and the result: the gradient of the activation is a function of its output, but for
those that are not fused (`facegan/ops/activation.py`), which follow as nodes of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.activation import HOMOGENEOUS, Activation, check_activation, fused, keeps_nothing
from facegan.ops.bias_act import bias_act, bias_act_ref
from facegan.ops.conv2d import (
    ConvInputGrad,
    ConvWeightGrad,
    _backward,
    _options,
    by_winograd,
    check_factors,
    conv2d,
    conv2d_ref,
    resampling,
    weight_gradients_wanted,
    without_pixels,
)
from facegan.ops.formats import following
from facegan.ops.registration import Operators, applied, operators
from facegan.ops.upfirdn2d import upfirdn2d

SMALL = 20480  # elements
_ONEDNN_NAMES = {"linear": "none", "relu": "relu", "lrelu": "leaky_relu"}


def conv2d_bias_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    act: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Convolve, then add a bias and activate, as one node of the graph: `clamp(gain * act(conv2d(x, weight) + bias))`.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I, KH, KW] in x's dtype (autocast casts).
        bias: [O]; None for none.
        stride: as in `conv2d`.
        padding: as in `conv2d`.
        act: as in `bias_act`.
        alpha: as in `bias_act`.
        gain: as in `bias_act`.
        clamp: as in `bias_act`.

    Returns:
        [N, O, H', W'] in x's dtype and memory format.

    Raises:
        FaceganError: shapes do not fit together, or an option is out of range.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    activation = check_activation("conv2d_bias_act", act, alpha, gain, clamp)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise FaceganError(
            f"conv2d_bias_act: x has shape {list(x.shape)} and weight {list(weight.shape)}; expected [N, I, H, W] and [O, I, KH, KW]."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise FaceganError(f"conv2d_bias_act: bias has shape {list(bias.shape)}; expected [{weight.shape[0]}], a value per output channel.")
    if bias is None and act == "linear" and activation.gain == 1 and clamp is None:
        return conv2d(x, weight, stride=stride, padding=padding)
    chosen = backend.select("bias_act", x)
    if chosen == "reference" or x.numel() == 0 or torch.compiler.is_compiling() or not fused(activation):
        y = conv2d(x, weight, stride=stride, padding=padding)
        return bias_act(y, bias, 1, *activation)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    bias = bias if bias is None or bias.dtype == x.dtype else bias.to(x.dtype)
    arguments = x, following(weight, x), bias, _options(stride, padding, 1, False), activation, operators(chosen)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        made: Tensor = _apply(*arguments)
        return made
    return _value(*arguments)


def conv2d_layer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    f: Tensor | None = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    act: str = "lrelu",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Compute a whole convolutional layer: `bias_act(conv2d_resample(x, weight, f, up, down, padding), bias, act, gain, clamp)`.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I, K, K] in x's dtype (autocast casts).
        bias: [O]; None for none.
        f: as in `conv2d_resample`.
        up: as in `conv2d_resample`.
        down: as in `conv2d_resample`.
        padding: as in `conv2d_resample`.
        act: as in `bias_act`, where alpha is 0.2.
        gain: as in `bias_act`.
        clamp: as in `bias_act`.

    Returns:
        [N, O, H', W'] in x's dtype and memory format; [N, O, H * up / down, W * up / down] where padding is K // 2.

    Raises:
        FaceganError: a filter is missing, shapes do not fit together, or an option is out of range.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    check_factors("conv2d_layer", up, down)
    if f is None and max(up, down) > 1:
        raise FaceganError(f"conv2d_layer: up is {up} and down is {down}, but f is None; expected a filter.")
    x, up = without_pixels(x, up)
    steps = resampling(weight.shape[2], 1 if f is None else (f.shape[0], f.shape[-1]), up, down, padding)
    if steps.before is not None:
        x = upfirdn2d(x, f, down=steps.down, padding=steps.before)
    if steps.after is None:
        return conv2d_bias_act(x, weight, bias, stride=steps.stride, padding=steps.padding, act=act, gain=gain, clamp=clamp)
    x = conv2d(x, steps.weight(weight), **steps.convolution)
    x = upfirdn2d(x, f, up=steps.up, padding=steps.after, gain=float(up * up))
    return bias_act(x, bias, act=act, gain=gain, clamp=clamp)


def conv2d_bias_act_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    act: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Compute `conv2d_bias_act` in PyTorch; arguments as there, unchecked."""
    y = conv2d_ref(x, weight, stride=stride, padding=padding)
    return bias_act_ref(y, bias, 1, act, alpha, gain, clamp)


def _value(x: Tensor, w: Tensor, b: Tensor | None, options: Any, activation: Activation, ops: Operators) -> Tensor:
    """The layer without a graph."""
    act, alpha, gain, clamp = activation
    made = by_winograd(x, w, options, b=b, activation=activation) if ops.backend == "native" else None
    if made is not None:
        return made
    if ops.backend == "native" and act in HOMOGENEOUS and gain > 0 and clamp is None and _onednn_serves(x):
        if gain != 1:
            w, b = w * gain, None if b is None else b * gain
        b = None if b is None else b.contiguous()  # oneDNN reads it without its stride
        stride, padding, dilation, _, _, groups = options
        numbers = [alpha] if act == "lrelu" else []
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, w, b, padding, stride, dilation, groups, _ONEDNN_NAMES[act], numbers, "")
        return y
    y = torch.convolution(x, w, None, *options)
    return ops.bias_act.kernel(y, b, 1, *activation)


def _onednn_serves(x: Tensor) -> bool:
    """For one small map the call alone takes it longer than PyTorch's own convolution and our kernel after it."""
    from facegan_kernels.native.prepacking import can_prepack

    return can_prepack(x) and (x.shape[0] > 1 or x.numel() > SMALL)


class _ConvBiasAct(torch.autograd.Function):
    """Its second order comes from the operators that the backward is made of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, options: Any, activation: Activation, ops: Operators) -> Tensor:
        y = _value(x, w, b, options, activation, ops)
        ctx.save_for_backward(x, w, None if keeps_nothing(activation) else y)
        ctx.set_materialize_grads(False)  # a second-order graph may meet y without a gradient of its own
        ctx.options, ctx.activation, ctx.ops, ctx.bias = options, activation, ops, b is not None
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 6
        x, w, y = ctx.saved_tensors
        need_x, need_w, need_b = ctx.needs_input_grad[:3]
        if not weight_gradients_wanted():
            need_w = need_b = False
        need_b = need_b and ctx.bias
        g, db = ctx.ops.bias_act_backward(dy, dy if y is None else y, 1, need_b, *ctx.activation)
        own = ctx.ops.backend == "native"
        if torch.is_grad_enabled():
            dx = ConvInputGrad.apply(g, w, x, ctx.options, own) if need_x else None
            dw = ConvWeightGrad.apply(g, x, w, ctx.options, own) if need_w else None
        else:  # nobody will differentiate this
            dx, dw, _ = _backward(g, x, w, None, ctx.options, [need_x, need_w, False], own)
        return dx, dw, db if need_b else None, None, None, None


_apply = applied(_ConvBiasAct)
