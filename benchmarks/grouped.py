"""The synthesis layer as the paper draws it: weights of every sample's own, and a convolution of N groups (Karras et al. 2020, 3).

    w''_{noik} = s_{ni} w_{oik} / sqrt(sum_{ik} (s_{ni} w_{oik})^2 + 1e-8)        eqs. 1 and 3

In PyTorch's own operators, as a rival of `facegan.ops.modulated_conv2d`, which it stands in for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.backend import use_backend
from facegan.models import stylegan2
from facegan.ops import bias_act_ref, upfirdn2d_ref
from facegan.ops.conv2d import resampling


def grouped_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool = True,
    up: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`modulated_conv2d` for what StyleGAN2's synthesis network asks of it; arguments as there."""
    (n, i, height, width), (o, k) = x.shape, weight.shape[::3]
    w = weight * styles[:, None, :, None, None]  # [N, O, I, K, K]
    if demodulate:
        w = w * torch.rsqrt(w.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    w, x = w.to(x.dtype), x.contiguous().view(1, n * i, height, width)
    if up == 1:
        # Flat first, so that the strides are those of NCHW: with channels_last weights of 1 x 1 oneDNN's gradient is wrong (torch 2.13).
        x = F.conv2d(x, w.flatten().view(n * o, i, k, k), padding=padding, groups=n)
    else:
        assert resample_filter is not None
        turned = w.flip(3, 4).transpose(1, 2).flatten().view(n * i, o, k, k)
        after = resampling(k, resample_filter.shape[0], up, 1, padding).after
        x = F.conv_transpose2d(x, turned, stride=up, groups=n)
        x = upfirdn2d_ref(x, resample_filter, padding=after or 0, gain=float(up * up))
    x = x.reshape(n, o, *x.shape[2:])
    if noise is not None:
        x = x + noise.to(x.dtype)
    return bias_act_ref(x, bias, 1, act, gain=gain, clamp=clamp)


@contextmanager
def grouped_layers() -> Iterator[None]:
    """Inside, StyleGAN2's generators run in the grouped form, and all the rest on the reference backend."""
    with use_backend("reference"), patch.object(stylegan2, "modulated_conv2d", grouped_conv2d):
        yield
