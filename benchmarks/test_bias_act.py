from __future__ import annotations

from benchmarks.contest import Work
from facegan.ops import bias_act


def test_bias_act(case, draw, measure, peer):
    m = case.map_bytes  # backward: dy and y in, dx out; double: ddx and y in, d_dy out
    work = Work(2 * m, 3 * m, 3 * m, flop=(3 * case.elements, 3 * case.elements))
    measure(bias_act, (draw(*case.shape), draw(case.c)), work, peer=peer and peer.bias_act)
