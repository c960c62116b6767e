"""The synthesis layer and its parts in PyTorch: what every kernel is held against."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from facegan import backend
from facegan.ops.activation import LINEAR, Activation, activation_slope, filled_activation, unclamped
from facegan.ops.bias_act import biased_activation
from facegan.ops.conv2d import Resampling, conv2d, conv2d_resample
from facegan.ops.formats import following, kept, match_layout, suggests_channels_last, upcast
from facegan.ops.registration import uncast
from facegan.ops.upfirdn2d import setup_filter, upfirdn2d_ref

UNPADDED = (0, 0, 0, 0)


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
    flip_weight: bool = True,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
    masks: Tensor | None = None,
    blend: bool = False,
) -> Tensor:
    """Compute `modulated_conv2d` in PyTorch, the non-grouped form; arguments as there, unchecked."""
    f = resampling_filter(resample_filter, up, down, x.device)
    activation = filled_activation(act, LINEAR.alpha, gain, clamp)
    rest = demodulate, f, up, down, padding, flip_weight, noise, bias, activation
    with backend.use_backend("reference"):
        if masks is None:
            return synthesis_layer(x, weight, styles, *rest)
        if not blend:
            return layer_of_regions(x, weight, styles, *rest, masks)
        return blended(torch.stack([synthesis_layer(x, weight, each, *rest) for each in styles.unbind(1)], 1), masks)


def synthesis_layer(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    demodulate: bool,
    f: Tensor | None,
    up: int,
    down: int,
    padding: int,
    flip_weight: bool,
    noise: Tensor | None,
    bias: Tensor | None,
    activation: Activation,
) -> Tensor:
    """Compute a layer from the fields of `algorithms.Layer`: scale the input, convolve, scale and finish the output."""
    d = demodulation(weight, styles) if demodulate else None
    if d is not None and x.dtype == torch.float16:
        styles, d = normalized(styles, d)
    x_scaled, w = x * _per_channel(styles, x), weight.to(x.dtype)
    z = conv2d_resample(x_scaled, w, f, up=up, down=down, padding=padding, flip_weight=flip_weight)
    return kept(modulated_epilogue_ref(z, d, noise, bias, None, UNPADDED, activation), x)


def layer_of_regions(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    demodulate: bool,
    f: Tensor | None,
    up: int,
    down: int,
    padding: int,
    flip_weight: bool,
    noise: Tensor | None,
    bias: Tensor | None,
    activation: Activation,
    masks: Tensor,
) -> Tensor:
    """Compute a layer whose styles [N, 1 + K, I] vary by pixel, as the masks [1 or N, K, H', W'] say: one convolution for all of them."""
    d = demodulation(weight, styles.flatten(0, 1)).unflatten(0, styles.shape[:2]) if demodulate else None
    if d is not None and x.dtype == torch.float16:
        styles, d = normalized(styles, d)
    x_scaled = x * per_pixel(styles, masks_at(masks, x), x)
    z = conv2d_resample(x_scaled, weight.to(x.dtype), f, up=up, down=down, padding=padding, flip_weight=flip_weight)
    return kept(regional_epilogue_ref(z, d, masks, noise, bias, None, UNPADDED, None, None, activation), x)


def masks_at(masks: Tensor, x: Tensor) -> Tensor:
    """The masks of a layer's result at the size of its input: their means, or nearest values of what is reduced."""
    return masks if masks.shape[2:] == x.shape[2:] else adaptive_avg_pool2d(masks, (x.shape[2], x.shape[3]))


def per_pixel(v: Tensor, masks: Tensor | None, x: Tensor) -> Tensor:
    """Factors [N, 1 + K, C] and masks [1 or N, K, H, W] -> [N, C, H, W] in x's dtype: v_0 + sum_k masks_k (v_k - v_0)."""
    v = v.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    own = v[:, 0, :, None, None]
    if masks is None:
        return own.to(x.dtype)
    with uncast(x):
        beyond = torch.einsum("nkhw,nkc->nchw", masks.to(v.dtype).expand(x.shape[0], -1, -1, -1), v[:, 1:] - v[:, :1])
    return (own + beyond).to(x.dtype)


def blended(maps: Tensor, masks: Tensor) -> Tensor:
    """Maps [N, 1 + K, C, H, W], the first where no mask is, and masks [1 or N, K, H, W] -> their mean so weighted [N, C, H, W]."""
    own, *others = maps.unbind(1)
    y = own
    for other, mask in zip(others, masks.to(maps.dtype).unbind(1), strict=True):
        y = torch.addcmul(y, other - own, mask[:, None])
    return kept(y, own)


def regional_epilogue_ref(
    x: Tensor,
    d: Tensor | None,
    masks: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    f: Tensor | None,
    padding: Sequence[int],
    onto: Tensor | None,
    weight: Tensor | None,
    activation: Activation,
) -> Tensor:
    """Compute `onto + weight * clamp(gain * act(FIR(x) * d + noise + b))` with factors d that vary by pixel, see `per_pixel`.

    d [N, 1 + K, C], where K is 0 without masks [1 or N, K, H', W']; onto [N, C, H', W'] and weight [1 or N, 1, H', W']: None for none.
    """
    if f is not None:
        x = upfirdn2d_ref(x, f, padding=padding)
    x = x if d is None else x * per_pixel(d, masks, x)
    y = modulated_epilogue_ref(x, None, noise, b, None, UNPADDED, activation)
    y = y if weight is None else y * weight.to(y.dtype)
    return y if onto is None else onto + y


def resampling_filter(f: Tensor | None, up: int, down: int, device: torch.device) -> Tensor | None:
    """Return the filter of a layer that resamples: the given one, or [1, 3, 3, 1]."""
    return _default_filter(device) if f is None and max(up, down) > 1 else f


@cache  # made once: a copy to the GPU in every call would keep the layer out of CUDA graphs
def _default_filter(device: torch.device) -> Tensor:
    return setup_filter(device=device)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return `1 / sqrt(sum_{i,k} (s_i w_{oik})^2 + 1e-8)`, [N, O], in float32 or wider: eq. 3 without the weights per sample."""
    styles = upcast(styles)
    with uncast(styles):
        return torch.rsqrt(styles.square() @ weight.to(styles.dtype).square().sum((2, 3)).T + 1e-8)


def normalized(styles: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Return styles times r and demodulation coefficients over r, with a constant r per sample: the same layer, within float16's range.

    The product before demodulation is then of y's size, where styles in the thousands would overflow it. r is the least coefficient
    of the sample, or more (by 2^8 at most) where another one is over 2^12 times as large. What is larger still belongs to weights
    that are zeros next to the others, and is limited: infinity times zero has no value.
    """
    if d.numel() == 0:
        return styles, d
    if d.ndim == 3:  # several styles of a sample, [N, 1 + K, ..]: one constant for them
        s, e = normalized(styles.flatten(1), d.flatten(1))
        return s.view(styles.shape), e.view(d.shape)
    least, most = d.detach().aminmax(dim=1, keepdim=True)
    r = torch.minimum(torch.maximum(most * 2.0**-12, least), least * 2.0**8)
    return upcast(styles) * r, (d / r).clamp(max=2.0**12)


def _per_channel(v: Tensor, x: Tensor) -> Tensor:
    """[N, C] as factors of x, in its dtype."""
    return v.to(x.dtype).contiguous()[:, :, None, None]


def _sum_as(x: Tensor, noise_batch: int) -> Tensor:
    """[N, C, H, W] summed to the noise's [noise_batch, 1, H, W]."""
    return x.sum((0, 1) if noise_batch == 1 else 1, keepdim=True)


def modulate_ref(x: Tensor, s: Tensor) -> Tensor:
    """Multiply x [N, C, H, W] by s [N, C]."""
    return x * _per_channel(s, x)


def modulate_backward_ref(g: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `modulate`: x's in its dtype, s's [N, C] in float32 or wider."""
    return g * _per_channel(s, g), (upcast(g) * upcast(x)).sum((2, 3))


def modulated_epilogue_ref(
    x: Tensor, d: Tensor | None, noise: Tensor | None, b: Tensor | None, f: Tensor | None, padding: Sequence[int], activation: Activation
) -> Tensor:
    """Compute `clamp(gain * act(FIR(x) * d + noise + b))`: x [N, O, H, W], d [N, O], noise broadcast to [N, 1, H', W'], b [O].

    The FIR is `upfirdn2d(x, f, padding=padding)`, and the identity when f is None.
    """
    if f is not None:
        x = upfirdn2d_ref(x, f, padding=padding)
    if noise is not None:
        noise = noise.to(x.dtype).contiguous()  # whose order the sum would have
        x = noise + x if d is None else torch.addcmul(noise, x, _per_channel(d, x))
    elif d is not None:
        x = x * _per_channel(d, x)
    return biased_activation(x, b, 1, activation)


def modulated_epilogue_backward_ref(
    dy: Tensor, y: Tensor, d: Tensor | None, noise: Tensor | None, noise_batch: int, activation: Activation
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (dz, sums, dn) from y, with g = dy * slope(y).

    dz [N, C, H, W] is g * d, the gradient of FIR(x). sums [3, N, C], float32 or wider, over H x W: of dy * y where y is not
    clamped, of g * noise (zero when noise or d is None) and of g. dn is the gradient of the noise [noise_batch, 1, H, W],
    empty when noise_batch is 0.
    """
    g = dy * activation_slope(y, activation)
    g_wide = upcast(g)
    with_y = (upcast(dy) * upcast(unclamped(y, y, activation.clamp))).sum((2, 3))
    with_noise = torch.zeros_like(with_y) if noise is None or d is None else (g_wide * upcast(noise)).sum((2, 3))
    dn = _sum_as(g, noise_batch) if noise_batch else g.new_empty(0)
    return g if d is None else g * _per_channel(d, g), torch.stack([with_y, with_noise, g_wide.sum((2, 3))]), dn


def modulated_epilogue_double_backward_ref(
    gdz: Tensor,
    gsums: Tensor | None,
    gdn: Tensor | None,
    dy: Tensor,
    y: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    activation: Activation,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients (dy, y, d, noise) of `modulated_epilogue_backward`; empty where there is nothing to give one to.

    gdz, gsums, gdn are those of its outputs. The slope is constant but for its step: y enters through `sum dy y` alone.
    """
    slope = activation_slope(y, activation)
    g, empty = dy * slope, dy.new_empty(0)
    through_g = gdz if d is None else gdz * _per_channel(d, gdz)  # the gradient of g
    d_y, d_noise = empty, empty
    if gdn is not None:
        through_g = through_g + gdn
    if gsums is not None:
        through_g = through_g + _per_channel(gsums[2], g)
        if noise is not None and d is not None:
            through_g = through_g + _per_channel(gsums[1], g) * noise
            d_noise = _sum_as(_per_channel(gsums[1], g) * g, noise.shape[0])
        d_y = unclamped(dy, y, activation.clamp) * _per_channel(gsums[0], g)
    d_dy = through_g * slope
    if gsums is not None:
        d_dy = d_dy + unclamped(y, y, activation.clamp) * _per_channel(gsums[0], g)
    d_d = empty.to(upcast(g).dtype) if d is None else (upcast(gdz) * upcast(g)).sum((2, 3))
    return d_dy, d_y, d_d, d_noise


def pointwise_ref(x: Tensor, w: Tensor) -> Tensor:
    """Convolve x [N, I, H, W] by w [N, O, I], 1 x 1 and of its own for every sample; [N, O, H, W] in x's dtype and format."""
    (n, _, height, width), outputs = x.shape, w.shape[1]
    if suggests_channels_last(x):
        with uncast(x):
            y = torch.bmm(x.permute(0, 2, 3, 1).flatten(1, 2), w.to(x.dtype).mT)
        return y.view(n, height, width, outputs).permute(0, 3, 1, 2)
    with uncast(x):
        return torch.bmm(w.to(x.dtype), x.flatten(2)).view(n, outputs, height, width)


def pointwise_backward_ref(dy: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `pointwise`: x's in its dtype, w's [N, O, I] in float32 or wider."""
    with uncast(x):
        dw = upcast(dy).flatten(2) @ upcast(x).flatten(2).mT
    dx = pointwise_ref(dy, w.mT)
    return match_layout(dx, x), dw


def prepacked_conv2d_ref(x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool, flip_weight: bool) -> Tensor:
    """Convolve by a weight that stays, of which a backend may keep what it makes."""
    steps = Resampling(stride=stride, padding=padding, transposed=transposed, flip_weight=flip_weight)
    return match_layout(torch.convolution(x, following(steps.weight(weight), x), None, *steps.options), x)


def modulated_conv2d_fused_ref(
    x: Tensor,
    weight: Tensor,
    s: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    padding: int,
    flip_weight: bool,
    activation: Activation,
) -> Tensor:
    """Compute a layer without resampling as one operator, which has no gradient of its own: `_SynthesisLayer` knows it."""
    x = conv2d(x * _per_channel(s, x), Resampling(flip_weight=flip_weight).weight(weight), padding=padding)
    return modulated_epilogue_ref(x, d, noise, b, None, UNPADDED, activation)
