"""`conv2d_bias_act`, `conv2d_layer` and `linear` against torch.nn.functional in float64."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops import conv2d_bias_act, conv2d_bias_act_ref, conv2d_layer, linear, no_weight_gradients, setup_filter

BACKENDS = ["reference", "native"]
ACTIVATIONS = {
    "linear": lambda z: z, "relu": F.relu, "lrelu": lambda z: torch.where(z > 0, z, 0.3 * z), "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "elu": lambda z: torch.where(z > 0, z, z.expm1()), "softplus": lambda z: z.exp().log1p(), "swish": lambda z: z * z.sigmoid(),
}  # fmt: skip


@pytest.fixture(params=BACKENDS)
def served(request: pytest.FixtureRequest):
    reason = backend.unavailable("bias_act", request.param, "cpu")
    if reason:
        pytest.skip(reason)
    with backend.use_backend(request.param):
        yield request.param


def restated(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int, act: str, gain: float, clamp: float | None) -> Tensor:
    y = gain * ACTIVATIONS[act](F.conv2d(x.double(), w.double(), None if b is None else b.double(), stride, padding))
    return y if clamp is None else y.clamp(-clamp, clamp)


def drawn(dtype: torch.dtype, n: int = 3, i: int = 5, o: int = 7, side: int = 9, k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(n + i + o + side + k)
    return torch.randn(n, i, side, side, dtype=dtype), torch.randn(o, i, k, k, dtype=dtype) / 4, torch.randn(o, dtype=dtype)


@pytest.mark.parametrize(("dtype", "act", "gain", "clamp"), product(
    [torch.float32, torch.float64, torch.bfloat16], ACTIVATIONS, [1.0, 1.7, -0.5, 0.0], [None, 0.6, 0.0]
))  # fmt: skip
def test_values(served, dtype, act, gain, clamp, tolerance):
    x, w, b = drawn(dtype)
    y = conv2d_bias_act(x, w, b, stride=2, padding=1, act=act, alpha=0.3, gain=gain, clamp=clamp)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), restated(x, w, b, 2, 1, act, gain, clamp), **tolerance(dtype))


@pytest.mark.parametrize(("act", "gain", "clamp", "bias"), [
    ("lrelu", None, None, True), ("lrelu", 0.7, 0.5, True), ("relu", -2.0, None, True), ("linear", 1.0, None, False),
    ("linear", 0.5, None, True), ("tanh", 1.3, None, True), ("sigmoid", None, None, False), ("swish", None, 0.9, True),
    ("lrelu", 0.0, None, True), ("selu", 1.2, None, False), ("linear", None, 0.0, True),
])  # fmt: skip
def test_gradients_of_both_orders(served, act, gain, clamp, bias):
    x, w, b = (t.requires_grad_() for t in drawn(torch.float64, 2, 2, 3, 4))

    def layer(x: Tensor, w: Tensor, *b: Tensor) -> Tensor:
        return conv2d_bias_act(x, w, *b, padding=1, act=act, gain=gain, clamp=clamp)

    inputs = (x, w, b) if bias else (x, w)
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_result_of_linear_may_be_written_to(served, dtype):
    x, w, b = (t.requires_grad_() for t in drawn(dtype, 16, 8, 8, 12))
    z = torch.randn(16, 8, 12, 12, dtype=dtype, requires_grad=True)

    def penalties(y: Tensor) -> tuple[Tensor, ...]:
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return first, *torch.autograd.grad(first.square().sum(), (x, w, b, z))

    expected = penalties(0.7 * F.conv2d(x, w, b, padding=1) + z)
    found = penalties(conv2d_bias_act(x, w, b, padding=1, act="linear", gain=0.7).add_(z))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def test_a_negative_slope(served):
    x, w, b = (t.requires_grad_() for t in drawn(torch.float64, 2, 2, 3, 4))
    z = F.conv2d(x, w, b)
    torch.testing.assert_close(conv2d_bias_act(x, w, b, alpha=-0.5, gain=1.5), 1.5 * torch.where(z > 0, z, -0.5 * z))
    assert torch.autograd.gradcheck(lambda *t: conv2d_bias_act(*t, alpha=-0.5), (x, w, b))


def test_float32_gradients_are_those_of_the_two_steps(served):
    """The fused forward of float32 hands the same gradients on, of random cotangents."""
    x, w, b = (t.requires_grad_() for t in drawn(torch.float32, 16, 8, 8, 12))
    y = conv2d_bias_act(x, w, b, padding=1, gain=math.sqrt(2))
    truth = math.sqrt(2) * F.leaky_relu(F.conv2d(x.double(), w.double(), b.double(), padding=1), 0.2)
    cotangent = torch.randn_like(y)
    for ours, theirs in zip(
        torch.autograd.grad(y, (x, w, b), cotangent), torch.autograd.grad(truth, (x, w, b), cotangent.double()), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n,i,o,side,k", [(0, 3, 4, 4, 3), (1, 1, 1, 1, 1), (4, 1, 8, 8, 1), (17, 3, 16, 5, 3)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_odd_shapes_keep_the_memory_format(served, n, i, o, side, k, memory_format):
    x, w, b = drawn(torch.float32, n, i, o, side, k)
    x, w = x.contiguous(memory_format=memory_format), w.contiguous(memory_format=torch.channels_last)
    y = conv2d_bias_act(x, w, b, padding=k // 2)
    torch.testing.assert_close(y, conv2d_bias_act_ref(x, w, b, padding=k // 2), rtol=1e-4, atol=1e-5)
    assert y.is_contiguous(memory_format=memory_format) or x.is_contiguous() == x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", [dict(up=2), dict(down=2), dict()])
def test_a_layer_is_its_steps(served, options):
    x, w, b = drawn(torch.float64, side=8)
    f = setup_filter().double()
    y = conv2d_layer(x, w, b, f, **options, padding=1, act="lrelu", gain=1.5, clamp=0.9)
    taps = torch.outer(f, f)[None, None].expand(5, 1, 4, 4)
    if "up" in options:
        spread = torch.zeros(3, 5, 16, 16, dtype=torch.float64)
        spread[:, :, ::2, ::2] = x
        z = F.conv2d(F.conv2d(F.pad(spread, (2 + 1, 1 + 1, 2 + 1, 1 + 1)), 4 * taps.flip(2, 3), groups=5), w)
    elif "down" in options:
        z = F.conv2d(F.conv2d(F.pad(x, (2, 2, 2, 2)), taps.flip(2, 3), groups=5), w, stride=2)
    else:
        z = F.conv2d(x, w, padding=1)
    expected = (1.5 * F.leaky_relu(z + b[:, None, None], 0.2)).clamp(-0.9, 0.9)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


def test_no_weight_gradients(served):
    x, w, b = (t.requires_grad_() for t in drawn(torch.float32))
    y = conv2d_bias_act(x, w, b, padding=1)
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (dw,) = torch.autograd.grad(y.sum(), w, allow_unused=True, retain_graph=True)
    assert dw is None
    (second,) = torch.autograd.grad(gradient.square().sum(), w)  # complete: R1 trains the weights
    assert second.abs().max() > 0


def test_bad_arguments():
    x, w, b = drawn(torch.float32)
    with pytest.raises(FaceganError, match=r"bias has shape \[5\]; expected \[7\]"):
        conv2d_bias_act(x, w, torch.zeros(5))
    with pytest.raises(FaceganError, match="act is 'gelu'; expected one of linear, .*, swish"):
        conv2d_bias_act(x, w, b, act="gelu")
    with pytest.raises(FaceganError, match=r"x has shape \[3, 4, 9, 9\] and weight \[7, 5, 3, 3\]"):
        conv2d_bias_act(x[:, :4], w, b)
    with pytest.raises(FaceganError, match="f is None; expected a filter"):
        conv2d_layer(x, w, b, down=2)
    with pytest.raises(FaceganError, match="up is 2 and down is 2; expected one of the two to be 1 in a layer"):
        conv2d_layer(x, w, b, setup_filter(), up=2, down=2)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    torch.manual_seed(0)
    x, w, b = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 5), (3, 5), (3,)))
    inputs = (x, w, b) if bias else (x, w)
    torch.testing.assert_close(linear(*inputs), x @ w.T + (b if bias else 0))
    assert torch.autograd.gradcheck(linear, inputs)
    assert torch.autograd.gradgradcheck(linear, inputs)
    torch.testing.assert_close(linear(x[None], w), (x @ w.T)[None])  # more dimensions


def test_linear_under_transforms_and_without_weight_gradients():
    torch.manual_seed(0)
    x, w = torch.randn(4, 5), torch.randn(3, 5, requires_grad=True)
    jacobian = torch.func.jacrev(lambda x: linear(x, w.detach()))(x[:1])
    torch.testing.assert_close(jacobian[0, :, 0], w.detach())
    torch.testing.assert_close(torch.func.vmap(lambda row: linear(row[None], w.detach())[0])(x), x @ w.detach().T)
    leaf = x.clone().requires_grad_()
    y = linear(leaf, w)
    with no_weight_gradients():
        dx, dw = torch.autograd.grad(y.sum(), (leaf, w), allow_unused=True)
    assert dw is None
    torch.testing.assert_close(dx, w.detach().sum(0).expand(4, 5))


@pytest.mark.parametrize("step", [2, -1])
@pytest.mark.parametrize(("act", "padding"), [("linear", 1), ("lrelu", 0)])
def test_a_bias_of_any_stride(served, step, act, padding):
    x, w, b = drawn(torch.float32)
    between = torch.full((2 * len(b),), math.nan)
    between[::2] = b
    strided = between[::2] if step == 2 else b[:1].expand(len(b))
    y = conv2d_bias_act(x, w, strided, padding=padding, act=act, alpha=0.3, gain=1.0)
    expected = restated(x, w, strided.clone(), 1, padding, act, 1.0, None)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
