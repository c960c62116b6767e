"""The filters of StyleGAN2's layers, [1, 3, 3, 1]; forward, backward and double backward do the same work."""

from __future__ import annotations

import pytest

from benchmarks.contest import Work
from facegan.ops import downsample2d, filter2d, setup_filter, upsample2d


@pytest.fixture
def f(device):
    return setup_filter(device=device)


def fir_work(moved, taps):
    return Work(moved, moved, moved, flop=(2 * taps, 2 * taps))


def test_upsample2d(case, draw, measure, peer, f):
    small = case.size // 2
    measure(
        lambda x: upsample2d(x, f),
        (draw(case.n, case.c, small, small),),
        fir_work(case.map_bytes * 5 // 4, 4 * case.elements),  # a quarter of the 16 taps meets a pixel
        peer=peer and (lambda x: peer.upfirdn2d(x, f, 2, 1, 2, 1)),
    )


def test_downsample2d(case, draw, measure, peer, f):
    measure(
        lambda x: downsample2d(x, f),
        (draw(*case.shape),),
        fir_work(case.map_bytes * 5 // 4, 4 * case.elements),
        peer=peer and (lambda x: peer.upfirdn2d(x, f, 1, 2, 1, 1)),
    )


def test_filter2d(case, draw, measure, peer, f):
    """Before the strided convolutions of the discriminator."""
    measure(
        lambda x: filter2d(x, f),
        (draw(*case.shape),),
        fir_work(2 * case.map_bytes, 16 * case.elements),
        peer=peer and (lambda x: peer.upfirdn2d(x, f, 1, 1, 2, 1)),
    )
