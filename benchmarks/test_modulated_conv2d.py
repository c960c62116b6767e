from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from facegan.ops import modulated_conv2d


def test_modulated_conv2d(compare, draw, shape, device):
    """Against the non-grouped form written plainly; the grouped one is much slower and no bar."""
    n, c, h, w = shape
    noise = torch.randn(n, 1, h, w, device=device)

    def naive(x, weight, styles, bias):
        d = torch.rsqrt(styles.square() @ weight.square().sum((2, 3)).T + 1e-8)
        y = F.conv2d(x * styles[:, :, None, None], weight, padding=1) * d[:, :, None, None] + noise
        return F.leaky_relu(y + bias[None, :, None, None], 0.2) * math.sqrt(2)

    def ours(x, weight, styles, bias):
        return modulated_conv2d(x, weight, styles, padding=1, noise=noise, bias=bias, act="lrelu")

    compare(ours, naive, draw(*shape), draw(c, c, 3, 3), draw(n, c), draw(c))
