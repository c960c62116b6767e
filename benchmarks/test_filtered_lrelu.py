"""StyleGAN3's nonlinearity: twice the rate between two filters of 12 taps, that of downsampling separable (T) or radial (R)."""

from __future__ import annotations

import torch

from benchmarks.contest import Work
from facegan.ops import filtered_lrelu

TAPS, PADDING = 12, (11, 10)


def test_filtered_lrelu(case, draw, measure):
    _measured(case, draw, measure, (TAPS,))


def test_filtered_lrelu_radial(case, draw, measure):
    _measured(case, draw, measure, (TAPS, TAPS))


def _measured(case, draw, measure, down_taps):
    x = draw(*case.shape)
    fu, fd = (torch.ones(shape, device=x.device) / TAPS ** len(shape) for shape in ((TAPS,), down_taps))
    # a pixel's taps: along a row and a column of the upsampled map, half of them zeros, then of what is left of it
    up, down = 4 * TAPS, 3 * TAPS if len(down_taps) == 1 else TAPS * TAPS
    moved, flop = 2 * case.map_bytes, 2 * (up + down) * case.elements
    work = Work(moved, 3 * case.map_bytes, 3 * case.map_bytes, flop=(flop, 2 * flop))
    measure(lambda x, b: filtered_lrelu(x, fu, fd, b, 2, 2, PADDING, clamp=256.0), (x, draw(case.c)), work)
