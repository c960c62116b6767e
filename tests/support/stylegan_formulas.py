"""The operators of StyleGAN projects, restated from the papers: pairs are (x, y), paddings (x0, x1, y0, y1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

GAINS = {"relu": math.sqrt(2), "lrelu": math.sqrt(2), "swish": math.sqrt(2)}


def correlate(x, w, groups=1):
    """F.conv2d, which has no maps without elements."""
    if x.numel() and w.numel():
        return F.conv2d(x, w, groups=groups)
    sides = [a - b + 1 for a, b in zip(x.shape[2:], w.shape[2:], strict=True)]
    return x.new_zeros(len(x), len(w), *sides) + 0 * (x.sum() + w.sum())


def upfirdn2d(x, f, up=(1, 1), down=(1, 1), padding=(0, 0, 0, 0), flip_filter=False, gain=1.0):
    n, c, h, w = x.shape
    (up_x, up_y), (down_x, down_y) = up, down
    plane = x.new_zeros(n, c, h * up_y, w * up_x)
    plane[:, :, ::up_y, ::up_x] = x
    plane = F.pad(plane, padding)
    f = torch.ones(1, 1) if f is None else f
    f = torch.outer(f, f) if f.ndim == 1 else f
    f = f if flip_filter else f.flip(0, 1)  # F.conv2d correlates
    f = (f * gain).to(x)[None, None].expand(c, 1, *f.shape)
    return correlate(plane, f, c)[:, :, ::down_y, ::down_x]


def upsampling_padding(f, up, padding):
    (fw, fh), (up_x, up_y), (x0, x1, y0, y1) = (f.shape[-1], f.shape[0]), up, padding
    return x0 + (fw + up_x - 1) // 2, x1 + (fw - up_x) // 2, y0 + (fh + up_y - 1) // 2, y1 + (fh - up_y) // 2


def downsampling_padding(f, down, padding):
    (fw, fh), (down_x, down_y), (x0, x1, y0, y1) = (f.shape[-1], f.shape[0]), down, padding
    return x0 + (fw - down_x + 1) // 2, x1 + (fw - down_x) // 2, y0 + (fh - down_y + 1) // 2, y1 + (fh - down_y) // 2


def conv2d_resample(x, w, f, up, down, padding, groups, flip_weight, flip_filter):
    """All padding at the higher resolution, then filter, convolution, filter."""
    one = torch.ones(1, 1)
    f = one if f is None else f
    if up > 1:
        padding = upsampling_padding(f, (up, up), padding)
    if down > 1:
        padding = downsampling_padding(f, (down, down), padding)
    x = upfirdn2d(x, f if up > 1 else one, (up, up), padding=padding, flip_filter=flip_filter, gain=up * up)
    x = correlate(x, w if flip_weight else w.flip(2, 3), groups)
    return upfirdn2d(x, f if down > 1 else one, down=(down, down), flip_filter=flip_filter)


def activation(v, act, alpha):
    return {
        "linear": lambda: v,
        "relu": lambda: torch.where(v > 0, v, 0.0),
        "lrelu": lambda: torch.where(v > 0, v, v * alpha),
        "tanh": lambda: torch.tanh(v),
        "sigmoid": lambda: 1 / (1 + torch.exp(-v)),
        "elu": lambda: torch.where(v > 0, v, torch.exp(v) - 1),
        # Klambauer et al. 2017, section 2
        "selu": lambda: 1.0507009873554805 * torch.where(v > 0, v, 1.6732632423543772 * (torch.exp(v) - 1)),
        "softplus": lambda: torch.log1p(torch.exp(v)),
        "swish": lambda: v / (1 + torch.exp(-v)),
    }[act]()


def bias_act(x, b, dim, act, alpha, gain, clamp):
    v = x if b is None else x + b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    y = activation(v, act, 0.2 if alpha is None else alpha) * (GAINS.get(act, 1.0) if gain is None else gain)
    return y if clamp is None else torch.where(y > clamp, clamp, torch.where(y < -clamp, -clamp, y))


def modulated_conv2d(x, weight, styles, noise, up, down, padding, f, demodulate, flip_weight):
    """Karras et al. 2020, eqs. 1 and 3, with a weight per sample."""
    w = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        w = w / (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    samples = [conv2d_resample(x[i : i + 1], w[i], f, up, down, [padding] * 4, 1, flip_weight, False) for i in range(len(x))]
    y = torch.cat(samples) if samples else conv2d_resample(x, weight, f, up, down, [padding] * 4, 1, flip_weight, False)
    return y if noise is None else y + noise


def filtered_lrelu(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter):
    """Karras et al. 2021, section 3: the plane is padded with zeros after the bias, and filtered on both sides of the nonlinearity."""
    v = x if b is None else x + b[:, None, None]
    v = upfirdn2d(v, fu, (up, up), padding=padding, flip_filter=flip_filter, gain=up * up)
    y = bias_act(v, None, 1, "lrelu", slope, gain, clamp)
    return upfirdn2d(y, fd, down=(down, down), flip_filter=flip_filter)
