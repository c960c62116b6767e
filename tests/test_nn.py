"""Equalised layers: their weights times their gains, one by one or all in one call."""

from __future__ import annotations

import math
import threading
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from facegan.models.stylegan2 import Discriminator, StyleGAN2Config
from facegan.nn import Conv2d, Linear, scaled_once

CONFIG = StyleGAN2Config(16, 8, 8, mapping_layers=2, channel_base=64, channel_max=8)


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.calls[operator.name()] += 1
        return operator(*args, **(kwargs or {}))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [Conv2d(3, 4, 3, act="lrelu"), Conv2d(4, 4, 3, act="tanh", gain=0.5, lr_multiplier=0.1), nn.Flatten(),
              Linear(4 * 36, 5, act="relu", lr_multiplier=0.01), Linear(5, 2, gain=3.0), Linear(2, 2, bias=False)]  # fmt: skip
    for layer in layers:
        if getattr(layer, "bias", None) is not None:
            nn.init.normal_(layer.bias)
    return nn.Sequential(*layers).double()


def restated(net: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """Karras et al. 2018, 4.1: weights N(0, 1) / lr, at run time times lr / sqrt(fan-in); biases times lr; gains on the results."""
    w = [None if isinstance(layer, nn.Flatten) else layer.weight for layer in net]
    b = [getattr(layer, "bias", None) for layer in net]
    x = math.sqrt(2) * F.leaky_relu(F.conv2d(x, w[0] / math.sqrt(27), b[0], padding=1), 0.2)
    x = 0.5 * torch.tanh(F.conv2d(x, w[1] * 0.1 / 6, b[1] * 0.1, padding=1))
    x = math.sqrt(2) * F.relu(F.linear(x.flatten(1), w[3] * 0.01 / 12, b[3] * 0.01))
    return F.linear(3 * F.linear(x, w[4] / math.sqrt(5), b[4]), w[5] / math.sqrt(2))


@pytest.mark.parametrize("once", [False, True])
def test_layers_and_their_gradients(once):
    net, x = network(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    cotangent = torch.randn(2, 2, dtype=torch.float64)
    if once:
        with scaled_once(net):
            y = net(x)
    else:
        y = net(x)
    expected = restated(net, x)
    torch.testing.assert_close(y, expected)
    weights = list(net.parameters())
    for ours, theirs in zip(torch.autograd.grad(y, weights, cotangent), torch.autograd.grad(expected, weights, cotangent), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_second_order_through_weights_scaled_once():
    net, x = network(), torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)

    def penalty(function) -> list[torch.Tensor]:
        (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), [net[0].weight, net[3].weight])

    with scaled_once(net):
        ours = penalty(net)
    for mine, theirs in zip(ours, penalty(lambda x: restated(net, x)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_one_call_scales_a_whole_network():
    discriminator = Discriminator(CONFIG)
    with torch.no_grad(), Counted() as counted:
        discriminator(torch.randn(4, 3, 16, 16))
    assert counted.calls["aten::_foreach_mul.ScalarList"] == 1
    assert counted.calls["aten::mul.Tensor"] == 0


def test_scopes_end_and_are_of_one_thread():
    layer, x = Linear(3, 2), torch.randn(1, 3)
    with torch.no_grad():
        with scaled_once(layer):
            before = layer(x)
            layer.weight.add_(1.0)
            assert torch.equal(layer(x), before)  # scaled when the block began
            found: list[torch.Tensor] = []
            thread = threading.Thread(target=lambda: found.append(layer(x).detach()))
            thread.start()
            thread.join()
            assert not torch.equal(found[0], before)
        assert torch.equal(layer(x), found[0])


def test_batches_are_scored_apart():
    torch.manual_seed(0)
    discriminator = Discriminator(CONFIG).double()
    one, two = torch.randn(2, 4, 3, 16, 16, dtype=torch.float64)
    together = discriminator(torch.cat([one, two]), batches=2)
    # the arithmetic behind the minibatch deviation is float32's
    torch.testing.assert_close(together, torch.cat([discriminator(one), discriminator(two)]), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together, discriminator(torch.cat([one, two])), rtol=1e-3)
