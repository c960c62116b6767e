"""The modules over the ops: facegan.nn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facegan.errors import FaceganError
from facegan.nn import Conv2d, Linear, PixelNorm


@pytest.mark.parametrize("options,side", [(dict(), 8), (dict(up=2), 16), (dict(down=2), 4), (dict(bias=False), 8)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_sizes(options, side, kernel):
    assert Conv2d(3, 5, kernel, act="lrelu", **options)(torch.randn(2, 3, 8, 8)).shape == (2, 5, side, side)


@pytest.mark.parametrize("equalized", [False, True])
@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_conv_is_convolution_with_scaled_weights_of_unit_gain(equalized, lr_multiplier):
    layer = Conv2d(16, 64, 3, act="lrelu", equalized=equalized, lr_multiplier=lr_multiplier)
    torch.nn.init.normal_(layer.bias)
    stored = lr_multiplier / 12 if equalized else 1.0  # 12 = sqrt(16 * 3 * 3), the fan-in
    weight, bias = layer.weight * stored, layer.bias * (lr_multiplier if equalized else 1.0)
    assert weight.std().item() == pytest.approx(1 / 12, rel=0.05)
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(layer(x), F.leaky_relu(F.conv2d(x, weight, bias, padding=1), 0.2) * 2**0.5)


def test_linear():
    layer = Linear(64, 32, bias_init=1.0, lr_multiplier=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.1)
    x = torch.randn(5, 7, 64)
    torch.testing.assert_close(layer(x), x @ (layer.weight * 0.01 / 8).T + 1)


def test_pixel_norm_gives_unit_mean_square():
    torch.testing.assert_close(PixelNorm()(3 * torch.randn(2, 8, 4, 4)).square().mean(1), torch.ones(2, 4, 4))


def test_compiles_whole():
    net = torch.nn.Sequential(Conv2d(3, 4, 3, act="lrelu", up=2), Conv2d(4, 2, 3, down=2), torch.nn.Flatten(), Linear(32, 2))
    x = torch.randn(2, 3, 4, 4)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    torch.testing.assert_close(torch.autograd.grad(compiled(x).square().sum(), list(net.parameters())), expected)


def test_bad_arguments():
    with pytest.raises(FaceganError, match="kernel is 2; expected an odd size"):
        Conv2d(3, 3, 2)
    with pytest.raises(FaceganError, match="Conv2d: act is 'gelu'"):
        Conv2d(3, 3, 3, act="gelu")
    with pytest.raises(FaceganError, match="Linear: act is 'gelu'"):
        Linear(3, 3, act="gelu")
