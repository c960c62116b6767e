from __future__ import annotations

import torch.nn.functional as F

from facegan.ops import bias_act


def test_bias_act(compare, draw, shape):
    def naive(x, b):
        return F.leaky_relu(x + b[None, :, None, None], 0.2) * 2**0.5

    compare(bias_act, naive, draw(*shape), draw(shape[1]))
