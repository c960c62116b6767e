"""The convolution whose gradient penalties are cheap, against PyTorch's own; the two differ in the second order alone."""

from __future__ import annotations

import torch.nn.functional as F

from benchmarks.contest import Work
from facegan.ops import conv2d


def test_conv2d(case, draw, measure):
    x, weight = draw(*case.shape), draw(case.c, case.c, 3, 3)
    moved = 2 * case.map_bytes + weight.numel() * weight.element_size()
    flop = 2 * 9 * case.c * case.elements
    work = Work(moved, 2 * moved, flop=(flop, 2 * flop))

    def library(x, w):
        return F.conv2d(x, w, padding=1)

    measure(lambda x, w: conv2d(x, w, padding=1), (x, weight), work, reference=library, library=(library, (x, weight)))
