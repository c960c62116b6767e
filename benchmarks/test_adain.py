from __future__ import annotations

from benchmarks.contest import Work
from facegan.ops import adain, adain_affine


def test_adain(case, draw, measure):
    m = case.map_bytes  # backward: dy, content, style in, two gradients out; double: two more in, three out
    work = Work(3 * m, 5 * m, 8 * m, flop=(8 * case.elements, 14 * case.elements))
    measure(adain, (draw(*case.shape), draw(*case.shape)), work)


def test_adain_affine(case, draw, measure):
    m = case.map_bytes  # backward: dy, x in, dx out; double: ddx more in, d_dy more out
    work = Work(2 * m, 3 * m, 5 * m, flop=(5 * case.elements, 9 * case.elements))
    measure(adain_affine, (draw(*case.shape), draw(case.n, case.c), draw(case.n, case.c)), work)
