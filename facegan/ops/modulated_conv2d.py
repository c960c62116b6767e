"""The synthesis layer of StyleGAN2 (Karras et al. 2020, eqs. 1 and 3): modulate, convolve, demodulate, noise, bias, activation.

Scaling the input channels by the style and the output channels by the demodulation coefficients equals convolving with
modulated weights, with one weight for the whole batch and without the [N, O, I, K, K] tensor of the grouped form. The library
(oneDNN, cuDNN) convolves; what is before and after it are the operators of `facegan.ops.modulation`. Few channels at high
resolution may go through one kernel of our own instead; `facegan.ops.plans` measures which is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops import (
    plans,
    pointwise,  # noqa: F401  (registers the toRGB operators)
)
from facegan.ops.activation import ACTIVATION_SCHEMA, LINEAR, Activation, check_activation, filled_activation
from facegan.ops.bias_act import bias_act
from facegan.ops.conv2d import (
    ConvInputGrad,
    ConvWeightGrad,
    Resampling,
    conv2d,
    conv2d_resample,
    resampling,
    weight_gradients_wanted,
)
from facegan.ops.formats import empty, following, kept, like
from facegan.ops.modulation import epilogue_gradients, modulated_epilogue_ref, wide
from facegan.ops.registration import Operators, applied, by_pytorch, operators, register, uncast
from facegan.ops.upfirdn2d import setup_filter, upfirdn2d


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
    activation = check_activation("modulated_conv2d", act, LINEAR.alpha, gain, clamp)
    _check(x, weight, styles, bias)
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    chosen = backend.select("modulated_conv2d", x)
    f = _filter(resample_filter, up, down, x.device)
    noise = _checked_noise(noise, x, *((side * up + 2 * padding - weight.shape[2] + 1) // down for side in x.shape[2:]))
    if chosen == "reference":
        z, d = _modulated(x, weight, styles, demodulate, f, up, down, padding)
        return kept(modulated_epilogue_ref(z, d, noise, bias, None, _UNPADDED, activation), x)
    bias = None if bias is None else bias.to(x.dtype)
    plain = weight.shape[2] == up == down == 1 and padding == 0 and not demodulate and noise is None
    if plain and weight.shape[0] <= _FEW:
        y = operators(chosen).pointwise(x, styles.unsqueeze(1) * weight.flatten(1))
        return _activated(y, bias, activation)
    steps = resampling(weight.shape[2], 1 if f is None else f.shape[0], up, down, padding)
    f = f if f is None or up == 1 else f * float(up if f.ndim == 1 else up * up)  # makes up for the inserted zeros
    layer = Layer(x, weight.to(x.dtype), styles, None, noise, bias, f, steps, activation, operators(chosen))
    if act in ("tanh", "sigmoid"):  # the fused epilogue inverts its activation
        y = _run(layer._replace(b=None, activation=LINEAR), weight, demodulate)
        return _activated(y, bias, activation)
    return _run(layer, weight, demodulate)


def _activated(y: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    return y if bias is None and activation == LINEAR else bias_act(y, bias, 1, *activation)


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
    f = _filter(resample_filter, up, down, x.device)
    with backend.use_backend("reference"):
        z, d = _modulated(x, weight, styles, demodulate, f, up, down, padding)
    return kept(modulated_epilogue_ref(z, d, noise, bias, None, _UNPADDED, filled_activation(act, LINEAR.alpha, gain, clamp)), x)


_FEW = 4  # output channels of a toRGB layer, at most
_LEAST_PREPACKED = 1 << 14  # elements of a weight: looking whether it has changed costs more than preparing a smaller one
_UNPADDED = (0, 0, 0, 0)


def _filter(f: Tensor | None, up: int, down: int, device: torch.device) -> Tensor | None:
    return _default_filter(device) if f is None and max(up, down) > 1 else f


@cache  # made once: a copy to the GPU in every call would keep the layer out of CUDA graphs
def _default_filter(device: torch.device) -> Tensor:
    return setup_filter(device=device)


def _modulated(
    x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool, f: Tensor | None, up: int, down: int, padding: int
) -> tuple[Tensor, Tensor | None]:
    """The convolution of the modulated input, and the demodulation coefficients [N, O] still to be applied."""
    d = demodulation(weight, styles).to(x.dtype) if demodulate else None
    x = x * styles.to(x.dtype)[:, :, None, None]
    return conv2d_resample(x, weight.to(x.dtype), f, up=up, down=down, padding=padding), d


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """`1 / sqrt(sum_{i,k} (s_i w_{oik})^2 + 1e-8)`, [N, O], in float32 or wider: eq. 3 without the weights per sample."""
    if styles.dtype in (torch.float16, torch.bfloat16):
        styles = styles.float()
    with uncast(styles):
        return torch.rsqrt(styles.square() @ weight.to(styles.dtype).square().sum((2, 3)).T + 1e-8)


class _Demodulation(torch.autograd.Function):
    """`demodulation` with d = q^-1/2 kept for its gradient: dq = -d^3 dd / 2, ds = 2 s (dq W2), dW = 2 W (dq^T s^2), W2 = sum_k W^2.

    PyTorch's own graph of the formula takes twice as many operators, for as many layers as a generator has.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, styles: Tensor) -> Tensor:
        d = demodulation(weight, styles)
        ctx.save_for_backward(weight, styles, d)
        return d

    @staticmethod
    def backward(ctx: Any, dd: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weight, styles, d = ctx.saved_tensors
        dw = ds = None
        with uncast(d):
            minus_2dq, w, s = dd * d.pow(3), weight.to(d.dtype), styles.to(d.dtype)
            if ctx.needs_input_grad[1]:
                ds = (s * (minus_2dq @ w.square().sum((2, 3)))).neg().to(styles.dtype)
            if ctx.needs_input_grad[0] and weight_gradients_wanted():
                dw = (w * (minus_2dq.T @ s.square())[:, :, None, None]).neg().to(weight.dtype)
        return dw, ds


def _check(x: Tensor, weight: Tensor, styles: Tensor, bias: Tensor | None) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise FaceganError(f"modulated_conv2d: x is {x.dtype} {list(x.shape)}; expected a floating point [N, I, H, W].")
    if weight.ndim != 4 or weight.shape[1] != x.shape[1] or weight.shape[2] != weight.shape[3]:
        raise FaceganError(f"modulated_conv2d: weight has shape {list(weight.shape)}; expected [O, {x.shape[1]}, K, K].")
    if styles.shape != x.shape[:2]:
        raise FaceganError(f"modulated_conv2d: styles have shape {list(styles.shape)}; expected [N, I] = {list(x.shape[:2])} as x has.")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise FaceganError(f"modulated_conv2d: bias has shape {list(bias.shape)}; expected [{weight.shape[0]}].")


def _checked_noise(noise: Tensor | None, x: Tensor, height: int, width: int) -> Tensor | None:
    """The noise as [1 or N, 1, H', W'] in x's dtype."""
    if noise is None:
        return None
    shaped = noise[None, None] if noise.ndim == 2 else noise
    if shaped.shape not in ((1, 1, height, width), (x.shape[0], 1, height, width)):
        raise FaceganError(
            f"modulated_conv2d: noise has shape {list(noise.shape)}; expected [H, W] or [N, 1, H, W] with N 1 or "
            f"{x.shape[0]} and H, W = {height}, {width}, the size of the layer's output."
        )
    return shaped.to(x.dtype)


class Layer(NamedTuple):
    """One layer, ready to run on a backend's operators."""

    x: Tensor  # [N, I, H, W]
    w: Tensor  # [O, I, K, K] in x's dtype
    s: Tensor  # the styles [N, I]
    d: Tensor | None  # demodulation coefficients [N, O]
    noise: Tensor | None
    b: Tensor | None
    f: Tensor | None  # the resampling filter, with its gain
    steps: Resampling
    activation: Activation
    ops: Operators


class Path(Enum):
    """How a layer is run."""

    COMPOSED = "operators one after the other, each with its own gradient"
    RECOMPUTED = "one node of the graph that keeps x and y alone, and makes the modulated input anew"
    INFERENCE = "no graph, with a weight that passes"
    PREPACKED = "no graph, with what has been made of a weight that stays"


def choose(layer: Layer, parameter: Tensor) -> Path:
    """The path of a layer; `parameter` is the weight that the caller gave, before it was cast."""
    # A compiler recomputes by itself and knows the native convolution; 1 x 1 kernels resample in a filter of its own.
    if torch.compiler.is_compiling() or layer.x.numel() == 0 or max(layer.steps.up, layer.steps.down) > 1:
        return Path.COMPOSED
    if torch.is_grad_enabled() and torch._C._any_requires_grad(layer.x, parameter, layer.s, layer.noise, layer.b):
        return Path.RECOMPUTED
    return Path.PREPACKED if _stays(layer, parameter) else Path.INFERENCE


def _stays(layer: Layer, parameter: Tensor) -> bool:
    """Whether the weight is one of a network, not made for this call, and large enough that it pays to keep what is made of it."""
    kept = isinstance(parameter, torch.nn.Parameter) and parameter.numel() >= _LEAST_PREPACKED
    return kept and parameter.dtype == layer.x.dtype == layer.s.dtype


def _run(layer: Layer, parameter: Tensor, demodulate: bool) -> Tensor:
    path = choose(layer, parameter)
    if demodulate and path is Path.PREPACKED:
        layer = layer._replace(d=layer.ops.prepacked_demodulation(parameter, layer.s))
    elif demodulate:
        own_graph = not torch.compiler.is_compiling() and torch.is_grad_enabled() and torch._C._any_requires_grad(parameter, layer.s)
        layer = layer._replace(d=(_Demodulation.apply if own_graph else demodulation)(parameter, layer.s))
    if path is Path.COMPOSED:
        return _composed(layer)
    if path is Path.RECOMPUTED:
        y: Tensor = _apply(*layer)
        return y
    return _planned(layer, path is Path.PREPACKED)


def _composed(layer: Layer) -> Tensor:
    x, w, s, d, noise, b, f, steps, activation, ops = layer
    if steps.before is not None:
        x = upfirdn2d(x, f, down=steps.down, padding=steps.before)
    x = ops.modulate(x, s)
    x = conv2d(x, steps.weight(w), **steps.convolution)
    if steps.up > 1:
        x = upfirdn2d(x, f, up=steps.up, padding=steps.after or 0)
        steps = Resampling()
    y: Tensor = ops.modulated_epilogue(x, d, noise, b, *_after(f, steps), *activation)
    return y


def _before(x: Tensor, s: Tensor, f: Tensor | None, steps: Resampling, ops: Operators) -> Tensor:
    """The convolution's input."""
    if steps.before is None:
        y: Tensor = ops.modulate(x, s)
    elif torch.is_grad_enabled():  # the fused form's gradient would divide by s
        y = ops.modulate(_filtered(x, f, steps.before, False, ops), s)
    else:
        y = ops.modulated_epilogue.kernel(x, s, None, None, f, steps.before, *LINEAR)
    return y


def _after(f: Tensor | None, steps: Resampling) -> tuple[Tensor | None, Sequence[int]]:
    """The epilogue's filter and its padding."""
    return (None, _UNPADDED) if steps.after is None else (f, steps.after)


def _filtered(x: Tensor, f: Tensor | None, padding: Sequence[int], flip: bool, ops: Operators) -> Tensor:
    y: Tensor = ops.upfirdn2d(x, f, (1, 1), (1, 1), padding, flip, 1.0)
    return y


def _planned(layer: Layer, prepacked: bool) -> Tensor:
    """The layer's value, without a graph, by the plan that suits its shape."""
    x, w, s, d, noise, b, f, steps, activation, ops = layer

    def library() -> Tensor:
        z = _before(x, s, f, steps, ops)
        if prepacked:
            z = ops.prepacked_conv2d.kernel(z, w, steps.stride, steps.padding, steps.transposed)
        else:
            z = torch.convolution(z, following(steps.weight(w), z), None, *steps.options)
        y: Tensor = ops.modulated_epilogue.kernel(z, d, noise, b, *_after(f, steps), *activation)
        return y

    def fused() -> Tensor:
        y: Tensor = ops.modulated_conv2d_fused.kernel(x, w, s, d, noise, b, steps.padding, *activation)
        return y

    if steps.before is not None or steps.after is not None:
        return library()
    plan = plans.rule(x, w, steps.padding, ops.backend, prepacked)
    if plan is None:
        key = (list(x.shape), list(w.shape), str(x.dtype), x.stride(1) == 1, d is not None, noise is not None)
        plan = plans.choose(key, x.device, {"library": library, "fused": fused})
    return fused() if plan == "fused" else library()


class _SynthesisLayer(torch.autograd.Function):
    """Keeps x and y only: the modulated input is made anew for the weight gradient, one cheap pass for a whole activation."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        layer = Layer(*arguments)
        y = _planned(layer, prepacked=False)
        ctx.save_for_backward(*layer[:7], y)
        ctx.set_materialize_grads(False)  # a second-order graph may meet y without a gradient of its own
        ctx.steps, ctx.activation, ctx.ops = layer[7:]
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 10
        (x, w, s, d, noise, b, f, y), steps, ops = ctx.saved_tensors, ctx.steps, ctx.ops
        need_x, need_w, need_s, *wanted = ctx.needs_input_grad[:6]
        need_w = need_w and weight_gradients_wanted()
        g, dd, dn, db = epilogue_gradients(dy, y, d, noise, b, *_after(f, steps), wanted, ctx.activation, ops)
        modulated = _before(x, s, f, steps, ops)
        weight, own = following(steps.weight(w), modulated), ops.backend == "native"
        dw = steps.weight(ConvWeightGrad.apply(g, modulated, weight, steps.options, own)) if need_w else None
        dx = ds = None
        if need_x or need_s:
            g = ConvInputGrad.apply(g, weight, modulated, steps.options, own)
            del modulated  # of which the call above needs the shape alone
            if steps.before is not None:
                taps, (top, bottom, left, right) = f.shape[0] - 1, steps.before
                g = _filtered(g, f, (taps - top, taps - bottom, taps - left, taps - right), True, ops)
            dx, ds = ops.modulate_backward(g, x, s)
            ds = ds.to(s.dtype)
        return dx, dw, ds, dd, dn, db, None, None, None, None


_apply = applied(_SynthesisLayer)


def prepacked_conv2d_ref(x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> Tensor:
    """The convolution of a layer at inference; a backend may keep what it makes of a weight that stays."""
    steps = Resampling(stride=stride, padding=padding, transposed=transposed)
    return like(torch.convolution(x, following(steps.weight(weight), x), None, *steps.options), x)


def _convolved_shape(x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> tuple[int, int, int, int]:
    k = weight.shape[2]
    sides = ((a - 1) * stride - 2 * padding + k if transposed else (a + 2 * padding - k) // stride + 1 for a in x.shape[2:])
    return x.shape[0], weight.shape[0], *sides  # type: ignore[return-value]


def modulated_conv2d_fused_ref(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    padding: int,
    activation: Activation,
) -> Tensor:
    """The layer without resampling as one operator, which has no gradient of its own: `_SynthesisLayer` knows it."""
    x = conv2d(x * s.to(x.dtype)[:, :, None, None], weight, padding=padding)
    return modulated_epilogue_ref(x, d, noise, b, None, _UNPADDED, activation)


register(
    "modulated_conv2d",
    f"modulated_conv2d_fused(Tensor x, Tensor weight, Tensor s, Tensor? d, Tensor? noise, Tensor? b, int padding, {ACTIVATION_SCHEMA})"
    " -> Tensor",
    fake=lambda x, w, s, d, noise, b, padding, *_: empty(
        x, (x.shape[0], w.shape[0], *(side + 2 * padding - w.shape[2] + 1 for side in x.shape[2:]))
    ),
    autograd=by_pytorch(modulated_conv2d_fused_ref),
    reference=modulated_conv2d_fused_ref,
    optional=True,
)
register(
    "modulated_conv2d",
    "prepacked_conv2d(Tensor x, Tensor weight, int stride, int padding, bool transposed) -> Tensor",
    fake=lambda x, *args: empty(x, _convolved_shape(x, *args)),
    autograd=by_pytorch(prepacked_conv2d_ref),
    reference=prepacked_conv2d_ref,
    optional=True,
)
register(
    "modulated_conv2d",
    "prepacked_demodulation(Tensor weight, Tensor styles) -> Tensor",
    fake=lambda weight, styles: wide(styles).new_empty((styles.shape[0], weight.shape[0])),
    autograd=by_pytorch(demodulation),
    reference=demodulation,
    optional=True,
)
