"""The modules that stand in for rosinality's `op` and for `basicsr.ops`."""

from __future__ import annotations

import itertools
import math

import pytest
import stylegan_formulas as formulas
import torch
from torch.autograd import gradcheck, gradgradcheck

from facegan.compat.rosinality import conv2d_gradfix
from facegan.compat.rosinality.fused_act import FusedLeakyReLU, fused_leaky_relu
from facegan.compat.rosinality.upfirdn2d import upfirdn2d
from facegan.errors import FaceganError


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("up", [1, 2, (2, 1)])
@pytest.mark.parametrize("down", [1, 2, (1, 2)])
def test_upfirdn2d_is_a_convolution_with_x_before_y(up, down) -> None:
    x, kernel = normal(2, 3, 5, 7), torch.tensor([[0.1, 0.4, -0.2], [0.3, 0.2, 0.7]])
    both = lambda v: (v, v) if isinstance(v, int) else v  # noqa: E731
    for pad in ((2, 1), (3, 1, 2, 4), [2, -1, 1, -1], (1, 1)):
        four = (*pad, *pad) if len(pad) == 2 else tuple(pad)  # (before, after) for both axes
        y = upfirdn2d(x, kernel, up=up, down=down, pad=pad)
        expected = formulas.upfirdn2d(x, kernel, both(up), both(down), four)
        assert y.shape == expected.shape
        assert torch.allclose(y, expected, atol=1e-6)
    assert upfirdn2d(x, kernel, up, down, (2, 1), "cuda:7").shape == upfirdn2d(x, kernel, up, down, (2, 1)).shape  # GPEN's device


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 5), (2, 4, 6)])
def test_fused_leaky_relu(shape) -> None:
    x, b = normal(*shape), normal(4, seed=1)
    for bias, slope, scale in itertools.product((None, b), (0.2, 0.1), (math.sqrt(2), 1)):
        assert torch.allclose(fused_leaky_relu(x, bias, slope, scale), formulas.bias_act(x, bias, 1, "lrelu", slope, scale, None))
    x, b = x.requires_grad_(), b.requires_grad_()
    assert gradcheck(fused_leaky_relu, (x, b))
    assert gradgradcheck(fused_leaky_relu, (x, b))


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((), {}, (True, 0.2, math.sqrt(2))),
        ((True, 0.1), {}, (True, 0.1, math.sqrt(2))),  # rosinality
        ((False,), {}, (False, 0.2, math.sqrt(2))),
        ((0.1, 1.5), {}, (True, 0.1, 1.5)),  # BasicSR, pixel2style2pixel
        ((0.1, 1.5, "cuda"), {}, (True, 0.1, 1.5)),  # GPEN
        ((), {"device": "cpu"}, (True, 0.2, math.sqrt(2))),
        ((), {"bias": False, "negative_slope": 0.3}, (False, 0.3, math.sqrt(2))),
    ],
)
def test_the_second_argument_is_a_bias_or_a_slope(arguments, options, expected) -> None:
    module = FusedLeakyReLU(4, *arguments, **options)
    bias, slope, scale = expected
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == ({"bias": (4,)} if bias else {})
    assert (module.negative_slope, module.scale) == (slope, scale)
    x = normal(2, 4, 3, 3).float()
    if bias:
        module.bias.data.copy_(normal(4, seed=1))
    assert torch.allclose(module(x), formulas.bias_act(x, module.bias, 1, "lrelu", slope, scale, None), atol=1e-6)


def test_other_arguments_are_refused() -> None:
    with pytest.raises(FaceganError, match="got inplace; expected"):
        FusedLeakyReLU(4, inplace=True)
    with pytest.raises(FaceganError, match="got 4 arguments"):
        FusedLeakyReLU(4, 0.2, 1.0, "cpu", 3)


def test_weight_gradients_are_left_out() -> None:
    x, w = normal(1, 2, 4, 4).requires_grad_(), normal(2, 2, 3, 3, seed=1).requires_grad_()
    y = conv2d_gradfix.conv2d(input=x, weight=w, bias=None, stride=1, padding=1)
    with conv2d_gradfix.no_weight_gradients():
        dx, dw = torch.autograd.grad(y.square().sum(), [x, w], allow_unused=True, create_graph=True)
    assert dw is None
    dx.square().sum().backward()
    assert w.grad is not None
