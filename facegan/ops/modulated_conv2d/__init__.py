"""The synthesis layer of StyleGAN2 (Karras et al. 2020, eqs. 1 and 3): modulate, convolve, demodulate, noise, bias, activation.

Scaling the input channels by the style and the output channels by the demodulation coefficients equals convolving with
modulated weights, with one weight for the whole batch and without the [N, O, I, K, K] tensor of the grouped form.

| file | what |
|---|---|
| `reference.py` | the layer and its parts in PyTorch |
| `algorithms.py`, `measured.py` | the algorithms, and the choice of one; which is the faster, measured and remembered |
| `autograd.py` | gradients of every order, with their derivation |
| `registered.py` | the registered operators: schemas, fake kernels |
| `kernels/facegan_kernels/{triton,native}/modulated_conv2d/`, `csrc/{cpu,cuda}/modulated_conv2d.*` | kernels |
"""

from __future__ import annotations

import torch
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.activation import HOMOGENEOUS, LINEAR, as_named, check_activation, fused
from facegan.ops.bias_act import bias_act
from facegan.ops.conv2d import Resampling, check_factors, conv2d, without_pixels
from facegan.ops.modulated_conv2d import registered  # noqa: F401  (registers the operators)
from facegan.ops.modulated_conv2d.algorithms import (
    COMPOSED,
    FUSED,
    POINTWISE,
    PREPACKED,
    REFERENCE,
    Algorithm,
    Layer,
    Operands,
    choose,
    convolved,
    filter_after,
    operands,
    value,
    wants_graph,
)
from facegan.ops.modulated_conv2d.autograd import Demodulation, SynthesisLayer
from facegan.ops.modulated_conv2d.reference import (
    UNPADDED,
    blended,
    demodulation,
    layer_of_regions,
    masks_at,
    modulated_conv2d_ref,
    normalized,
    resampling_filter,
    synthesis_layer,
)
from facegan.ops.registration import Operators, applied, operators
from facegan.ops.upfirdn2d import upfirdn2d

__all__ = ["modulated_conv2d", "modulated_conv2d_ref"]


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
    flip_weight: bool = True,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
    masks: Tensor | None = None,
    blend: bool = False,
) -> Tensor:
    """Compute one synthesis layer, whose styles may vary by region of the map.

    The styles scale the input channels, the weights are shared by the batch; demodulation brings the output channels back to unit
    variance (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", eqs. 1 and 3). In float16 styles and
    demodulation are rescaled per sample, so that styles in the thousands overflow nothing before they are demodulated.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I, K, K], cast to x's dtype.
        styles: [N, I], factors of the input channels; [N, 1 + K, I] with masks.
        demodulate: divide by the norm of the modulated weights, `sqrt(sum_{i,k} (s_i w)^2 + 1e-8)`.
        up: factor by which `resample_filter` enlarges the map before the convolution.
        down: factor by which it reduces the map after it; one of the two is 1.
        padding: of the convolution, in pixels at the higher resolution; K // 2 yields H * up or H / down.
        resample_filter: [KF]; None for [1, 3, 3, 1] / 8.
        flip_weight: True correlates with the weight (on `up` layers x upsampled); False convolves, which on `up` layers costs no flip.
        noise: [H', W'], [1, 1, H', W'] or [N, 1, H', W'], already multiplied by its strength; None for none.
        bias: [O]; None for none.
        act: as in `bias_act`, where alpha is 0.2.
        gain: as in `bias_act`.
        clamp: as in `bias_act`.
        masks: [1 or N, K, H', W'] from 0 to 1, where each of K further styles holds: `styles` are then [N, 1 + K, I], the first where
            no mask is. None for none.
        blend: of a layer with masks: False for one convolution of x times `s_0 + sum_k mask_k (s_k - s_0)`, with masks averaged at x's
            size, and demodulation coefficients that vary likewise; True for one layer per style, `y_0 + sum_k mask_k (y_k - y_0)`,
            which costs as many convolutions and follows a mask exactly.

    Returns:
        [N, O, H', W'] in x's dtype and memory format. Under autocast that dtype is autocast's.

    Raises:
        FaceganError: shapes do not fit together, `up` and `down` are both above 1, an option is out of range, or an algorithm is
            pinned that the backend does not have.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    activation = check_activation("modulated_conv2d", act, LINEAR.alpha, gain, clamp)
    _check(x, weight, styles, bias, None if masks is None else masks.shape)
    check_factors("modulated_conv2d", up, down)
    if up > 1 and down > 1:
        raise FaceganError(f"modulated_conv2d: up is {up} and down is {down}; expected one of the two to be 1.")
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    x, up = without_pixels(x, up)
    chosen = backend.select("modulated_conv2d", x)
    f = resampling_filter(resample_filter, up, down, x.device)
    if noise is not None:
        noise = _checked_noise(noise, x, *_out_size(x, weight, up, down, padding))
    layer = as_named(Layer, (x, weight, styles, demodulate, f, up, down, padding, flip_weight, noise, bias, activation))
    if masks is not None:
        masks = _checked_masks(masks, x, *_out_size(x, weight, up, down, padding))
        return (_blend if blend else _share)(layer, masks, chosen)
    return _run(layer, chosen)


def _check(x: Tensor, weight: Tensor, styles: Tensor, bias: Tensor | None, masks: torch.Size | None) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise FaceganError(f"modulated_conv2d: x is {x.dtype} {list(x.shape)}; expected a floating point [N, I, H, W].")
    if weight.ndim != 4 or weight.shape[1] != x.shape[1] or weight.shape[2] != weight.shape[3]:
        raise FaceganError(f"modulated_conv2d: weight has shape {list(weight.shape)}; expected [O, {x.shape[1]}, K, K].")
    if masks is not None:
        expected = x.shape[0], 1 + (masks[1] if len(masks) == 4 else 0), x.shape[1]
        if styles.shape != expected or expected[1] == 1:
            raise FaceganError(
                f"modulated_conv2d: styles have shape {list(styles.shape)} and masks {list(masks)}; expected [N, 1 + K, I] = "
                f"[{x.shape[0]}, 1 + K, {x.shape[1]}] and K masks [1 or {x.shape[0]}, K, H, W], at least one."
            )
    elif styles.shape != x.shape[:2]:
        raise FaceganError(f"modulated_conv2d: styles have shape {list(styles.shape)}; expected [N, I] = {list(x.shape[:2])} as x has.")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise FaceganError(f"modulated_conv2d: bias has shape {list(bias.shape)}; expected [{weight.shape[0]}].")


def _out_size(x: Tensor, weight: Tensor, up: int, down: int, padding: int) -> tuple[int, int]:
    height, width = ((side * up + 2 * padding - weight.shape[2] + 1) // down for side in x.shape[2:])
    return height, width


def _checked_masks(masks: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """The masks in float32 or wider, with x."""
    if masks.shape[0] not in (1, x.shape[0]) or masks.shape[2:] != (height, width):
        raise FaceganError(
            f"modulated_conv2d: masks have shape {list(masks.shape)}; expected [1 or {x.shape[0]}, {masks.shape[1]}, {height}, {width}], "
            "the size of the layer's output."
        )
    return masks.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def _checked_noise(noise: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """The noise as [1 or N, 1, H', W'] in x's dtype."""
    shaped = noise[None, None] if noise.ndim == 2 else noise
    if shaped.shape not in ((1, 1, height, width), (x.shape[0], 1, height, width)):
        raise FaceganError(
            f"modulated_conv2d: noise has shape {list(noise.shape)}; expected [H, W] or [N, 1, H, W] with N 1 or "
            f"{x.shape[0]} and H, W = {height}, {width}, the size of the layer's output."
        )
    return shaped.to(x.dtype)


def _run(layer: Layer, backend_name: str) -> Tensor:
    algorithm = choose(layer, backend_name)
    if algorithm is REFERENCE:
        return synthesis_layer(*layer)
    x, weight, styles, *_, bias, activation = layer
    ops = operators(backend_name)
    if algorithm is POINTWISE:
        y: Tensor = ops.pointwise(x, styles.unsqueeze(1) * weight.flatten(1))
        return y if bias is None and activation == LINEAR else bias_act(y, bias, 1, *activation)
    if activation.act not in HOMOGENEOUS or not fused(activation):  # the fused epilogue inverts its activation
        return bias_act(_run(layer._replace(bias=None, activation=LINEAR), backend_name), bias, 1, *activation)
    if x.numel() == 0 and layer.demodulate:
        # The result is noise and bias, which depend on no coefficient: what a backward pass took for their gradient would be the rounding
        # of y, times 1e8 where the styles are zeros.
        layer = layer._replace(demodulate=False)
    graph = algorithm is not COMPOSED and wants_graph(layer)
    given = _operands(layer, algorithm, graph, ops)
    if algorithm is COMPOSED:
        return _composed(given)
    return _with_graph(*given, algorithm) if graph else value(given, algorithm)


def _operands(layer: Layer, algorithm: Algorithm, graph: bool, ops: Operators) -> Operands:
    """The layer with its demodulation coefficients; styles [N, I] or [N, 1 + K, I]."""
    x, weight, styles, *_ = layer
    d = None
    if layer.demodulate:
        flat = styles.flatten(0, -2)
        if not graph and algorithm in (PREPACKED, FUSED):
            d = ops.prepacked_demodulation(weight, flat)
        else:
            own_graph = not torch.compiler.is_compiling() and torch.is_grad_enabled() and torch._C._any_requires_grad(weight, styles)
            d = (Demodulation.apply if own_graph else demodulation)(weight, flat)
        d = d.view(*styles.shape[:-1], weight.shape[0])
        if x.dtype == torch.float16:
            styles, d = normalized(styles, d)
            layer = layer._replace(styles=styles)
    return operands(layer, d, ops)


_with_graph = applied(SynthesisLayer)


def _composed(given: Operands) -> Tensor:
    x, w, s, d, noise, b, f, steps, activation, ops = given
    if steps.before is not None:
        x = upfirdn2d(x, f, down=steps.down, padding=steps.before)
    x = ops.modulate(x, s)
    x = conv2d(x, steps.weight(w), **steps.convolution)
    if steps.up > 1:
        x = upfirdn2d(x, f, up=steps.up, padding=steps.after or 0)
        steps = Resampling()
    y: Tensor = ops.modulated_epilogue(x, d, noise, b, *filter_after(f, steps), *activation)
    return y


def _wants_graph(layer: Layer, masks: Tensor) -> bool:
    return wants_graph(layer) or (torch.is_grad_enabled() and masks.requires_grad)


def _share(layer: Layer, masks: Tensor, backend_name: str) -> Tensor:
    """One convolution for styles [N, 1 + K, I] that vary by pixel."""
    x, weight, styles, *_, bias, activation = layer
    first = layer._replace(styles=styles[:, 0])
    algorithm = choose(first, backend_name, whole=False)
    if algorithm is REFERENCE:
        return layer_of_regions(*layer, masks)
    ops = operators(backend_name)
    if algorithm is POINTWISE:  # linear in the styles: all of them in one pass over x, then the colours are blended
        y: Tensor = ops.pointwise(x, (styles[:, :, None] * weight.flatten(1)).flatten(1, 2))
        y = blended(y.unflatten(1, (styles.shape[1], weight.shape[0])), masks)
        return y if bias is None and activation == LINEAR else bias_act(y, bias, 1, *activation)
    if activation.act not in HOMOGENEOUS or not fused(activation):
        return bias_act(_share(layer._replace(bias=None, activation=LINEAR), masks, backend_name), bias, 1, *activation)
    graph = algorithm is not COMPOSED and _wants_graph(layer, masks)
    given = _operands(layer._replace(demodulate=layer.demodulate and x.numel() > 0), algorithm, graph, ops)
    x, w, s, d, noise, b, f, steps, activation, _ = given
    z = ops.regional_epilogue(x, s, masks_at(masks, x), None, None, None, UNPADDED, None, None, *LINEAR)
    if steps.before is not None:
        z = upfirdn2d(z, f, down=steps.down, padding=steps.before)
    z = convolved(given._replace(x=z, s=None), COMPOSED if graph else algorithm)
    if steps.up > 1:
        z, steps = upfirdn2d(z, f, up=steps.up, padding=steps.after or 0), Resampling()
    y = ops.regional_epilogue(z, d, masks, noise, b, *filter_after(f, steps), None, None, *activation)
    return y


def _blend(layer: Layer, masks: Tensor, backend_name: str) -> Tensor:
    """A layer for each of the styles [N, 1 + K, I], as one of (1 + K) N samples, whose results are blended."""
    x, _, styles, *_, noise, _, activation = layer
    count = styles.shape[1]
    each = noise if noise is None or noise.shape[0] == 1 else torch.cat([noise] * count)
    stacked = layer._replace(x=torch.cat([x] * count), styles=styles.transpose(0, 1).flatten(0, 1), noise=each)
    algorithm = choose(stacked, backend_name, whole=False)
    apart = algorithm in (REFERENCE, POINTWISE, COMPOSED) or activation.act not in HOMOGENEOUS or not fused(activation)
    if apart or _wants_graph(stacked, masks):
        return blended(_run(stacked, backend_name).unflatten(0, (count, x.shape[0])).transpose(0, 1), masks)
    ops = operators(backend_name)
    given = _operands(stacked, algorithm, False, ops)
    z, d = convolved(given, algorithm).chunk(count), None if given.d is None else given.d[:, None].chunk(count)
    weights = torch.cat([1 - masks.sum(1, keepdim=True), masks], 1).split(1, 1)
    y = None
    for k in range(count):
        rest = *filter_after(given.f, given.steps), y, weights[k]
        y = ops.regional_epilogue(z[k], d and d[k], None, noise, given.b, *rest, *activation)
    assert y is not None
    return y
