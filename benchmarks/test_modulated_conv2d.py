"""Synthesis layers, against the non-grouped form in which StyleGAN2 is trained; the grouped one is slower and no bar."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.contest import Work
from facegan.ops import modulated_conv2d, setup_filter


def layer_work(case, inputs, kernel, pixels):
    """Input, noise and result once each, the backward also y and dy; the convolution's products."""
    moved = sum(x.numel() * x.element_size() for x in inputs) + case.map_bytes
    flop = 2 * case.n * case.c * case.c_in * kernel**2 * pixels
    return Work(moved, 2 * moved, flop=(flop, 2 * flop))


def test_modulated_conv2d(case, draw, measure, peer):
    n, c, size, _ = case.shape
    x, noise, bias = draw(*case.shape), draw(n, 1, size, size), draw(c)
    weight, styles = draw(c, c, 3, 3, dtype=torch.float32), draw(n, c, dtype=torch.float32)

    def layer(x, weight, styles, noise, bias):
        return modulated_conv2d(x, weight, styles, padding=1, noise=noise, bias=bias, act="lrelu")

    inputs = (x, weight, styles, noise, bias)
    measure(
        layer,
        inputs,
        layer_work(case, inputs, 3, size**2),
        peer=peer and peer.modulated_conv2d,
        library=(lambda x, w: F.conv2d(x, w, padding=1), (x, plain(weight, case))),
    )


def test_modulated_conv2d_up(case, draw, measure):
    """Twice the size: a transposed convolution and the filter."""
    n, c, size, _ = case.shape
    x, noise, bias = draw(n, case.c_in, size // 2, size // 2), draw(n, 1, size, size), draw(c)
    weight, styles = draw(c, case.c_in, 3, 3, dtype=torch.float32), draw(n, case.c_in, dtype=torch.float32)
    f = setup_filter(device=x.device)

    def layer(x, weight, styles, noise, bias):
        return modulated_conv2d(x, weight, styles, up=2, padding=1, resample_filter=f, noise=noise, bias=bias, act="lrelu")

    inputs = (x, weight, styles, noise, bias)
    measure(
        layer,
        inputs,
        layer_work(case, inputs, 3, (size // 2) ** 2),
        library=(lambda x, w: F.conv_transpose2d(x, w.transpose(0, 1), stride=2), (x, plain(weight, case))),
    )


def regional(case, draw, up):
    """A layer of one other style in the lower half, and its inputs; `plain` is the layer without it."""
    n, c, size, _ = case.shape
    x, noise, bias = draw(n, case.c_in, size // up, size // up), draw(n, 1, size, size), draw(c)
    weight, styles = draw(c, case.c_in, 3, 3, dtype=torch.float32), draw(n, 2, case.c_in, dtype=torch.float32)
    masks = torch.linspace(0, 1, size, device=x.device)[:, None].expand(1, 1, size, size).contiguous()

    def layer(x, weight, styles, noise, bias):
        return modulated_conv2d(x, weight, styles, up=up, padding=1, noise=noise, bias=bias, act="lrelu", masks=masks)

    def plain(x, weight, styles, noise, bias):
        return modulated_conv2d(x, weight, styles[:, 0], up=up, padding=1, noise=noise, bias=bias, act="lrelu")

    return layer, plain, (x, weight, styles, noise, bias)


def test_regional_conv2d(case, draw, measure):
    """One convolution for styles that vary by pixel, beside a layer of one style."""
    layer, plain, inputs = regional(case, draw, 1)
    measure(layer, inputs, layer_work(case, inputs, 3, case.size**2), unlike={"plain": plain}, compiled=False)


def test_regional_conv2d_up(case, draw, measure):
    layer, plain, inputs = regional(case, draw, 2)
    measure(layer, inputs, layer_work(case, inputs, 3, (case.size // 2) ** 2), unlike={"plain": plain}, compiled=False)


def test_to_rgb(case, draw, measure):
    """Three colours of the maps, modulated but not demodulated; memory is all it costs."""
    n, c, size, _ = case.shape
    x, bias = draw(*case.shape), draw(3)
    weight, styles = draw(3, c, 1, 1, dtype=torch.float32), draw(n, c, dtype=torch.float32)

    def layer(x, weight, styles, bias):
        return modulated_conv2d(x, weight, styles, demodulate=False, bias=bias)

    m, colours = case.map_bytes, case.map_bytes * 3 // c
    measure(
        layer,
        (x, weight, styles, bias),
        Work(m + colours, 2 * m + colours, flop=(6 * case.elements, 12 * case.elements)),  # backward: dy and x in, dx out
        library=(F.conv2d, (x, plain(weight, case))),
    )


def plain(weight, case):
    """The weight as a convolution alone would have it, already in the case's dtype."""
    return weight.detach().to(case.dtype).requires_grad_()
