from __future__ import annotations

import torch
import torch.nn.functional as F

from facegan.ops import conv2d, no_weight_gradients


def test_conv2d(compare, draw, shape):
    channels = shape[1]
    compare(
        lambda x, w: conv2d(x, w, padding=1),
        lambda x, w: F.conv2d(x, w, padding=1),
        draw(*shape),
        draw(channels, channels, 3, 3),
    )


def test_gradient_penalty(compare, draw, shape):
    """R1's inner gradient and its outer gradient by the weights."""
    channels = shape[1]

    def inner(convolve, x, w):
        (g,) = torch.autograd.grad(convolve(x, w, padding=1).square().sum(), x, create_graph=True)
        return g / channels**2

    def ours(x, w):
        with no_weight_gradients():
            return inner(conv2d, x, w)

    compare(ours, lambda x, w: inner(F.conv2d, x, w), draw(*shape), draw(channels, channels, 3, 3))
