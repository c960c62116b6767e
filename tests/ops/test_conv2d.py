from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facegan.errors import FaceganError
from facegan.ops import conv2d, conv2d_resample, no_weight_gradients, setup_filter, upfirdn2d
from facegan.ops.conv2d import ConvWeightGrad

CASES = [
    dict(padding=1),
    dict(stride=2, padding=1),
    dict(groups=2),
    dict(transposed=True, stride=2),
    dict(transposed=True, stride=2, padding=1, groups=2),
]


def sample(case, dtype=torch.float64, biased=True):
    x = torch.randn(2, 4, 5, 7, dtype=dtype, requires_grad=True)
    groups = case.get("groups", 1)
    shape = (4, 6 // groups, 3, 3) if case.get("transposed") else (6, 4 // groups, 3, 3)
    weight = torch.randn(shape, dtype=dtype, requires_grad=True)
    return x, weight, torch.randn(6, dtype=dtype, requires_grad=True) if biased else None


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_agrees_with_torch(case, dtype, tolerance):
    arguments = sample(case, dtype)
    native = dict(case)
    expected = (F.conv_transpose2d if native.pop("transposed", False) else F.conv2d)(*arguments, **native)
    y = conv2d(*arguments, **case)
    torch.testing.assert_close(y, expected, **tolerance(dtype))
    cotangent = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, arguments, cotangent), torch.autograd.grad(expected, arguments, cotangent))


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_both_orders(case):
    x, weight, bias = sample(case)
    x = x[:1, :, :3, :4].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: conv2d(*a, **case), (x, weight, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *a: conv2d(*a, **case), (x, weight, bias), fast_mode=True)


def test_penalty_gradient_without_first_order_weight_gradients():
    """R1's use: the inner gradient leaves the weights alone, the outer one reaches them in full."""
    x, weight, bias = sample(CASES[0])

    def penalty(convolve):
        (g,) = torch.autograd.grad(convolve(x, weight, bias, padding=1).square().sum(), x, create_graph=True)
        return g.square().sum()

    expected = torch.autograd.grad(penalty(F.conv2d), (weight, bias))
    with no_weight_gradients():
        inner = penalty(conv2d)
    torch.testing.assert_close(torch.autograd.grad(inner, (weight, bias)), expected)


def test_no_weight_gradients_saves_the_work(monkeypatch):
    calls = []
    original = ConvWeightGrad.forward
    monkeypatch.setattr(ConvWeightGrad, "forward", staticmethod(lambda *a: calls.append(1) or original(*a)))
    x, weight, _ = sample(CASES[0])
    torch.autograd.grad(conv2d(x, weight).sum(), x, create_graph=True)
    assert calls == [1]  # the trap: computed although nobody asked
    with no_weight_gradients():
        torch.autograd.grad(conv2d(x, weight).sum(), x, create_graph=True)
        loss = conv2d(x, weight).sum()
        loss.backward()
    assert calls == [1] and weight.grad is None and x.grad is not None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_is_kept(memory_format):
    x, weight = (torch.randn(2, 4, 8, 8).contiguous(memory_format=memory_format), torch.randn(4, 4, 3, 3, requires_grad=True))
    y = conv2d(x.requires_grad_(), weight, padding=1)
    assert y.is_contiguous(memory_format=memory_format)


def test_empty_batch():
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    y = conv2d(torch.randn(0, 3, 8, 8), weight, padding=1)
    assert y.shape == (0, 4, 8, 8)
    y.sum().backward()
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_autocast():
    x, weight = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv2d(x, weight)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32 and x.grad.dtype == torch.float32


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("options", [dict(up=2), dict(down=2), dict()])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 1)])
def test_resampling_is_filter_and_convolution_in_the_plane(kernel, options, taps):
    """Second form: one FIR pass padded for both filters at the high resolution, then an unpadded dense convolution."""
    x, weight = torch.randn(2, 3, 6, 8, dtype=torch.float64), torch.randn(5, 3, kernel, kernel, dtype=torch.float64)
    f, padding = setup_filter(taps).double(), kernel // 2
    up, down = options.get("up", 1), options.get("down", 1)
    y = conv2d_resample(x, weight, f, **options, padding=padding)
    assert y.shape == (2, 5, 6 * up // down, 8 * up // down)
    k, expected = len(taps), x
    if up > 1:
        before, after = padding + (k + 1) // 2, padding + (k - 2) // 2
        expected = upfirdn2d(x, f, up=2, padding=(before, after, before, after), gain=4)
    elif down > 1:
        expected = upfirdn2d(x, f, padding=(padding + (k - 1) // 2, padding + (k - 2) // 2) * 2)
    else:
        expected = F.pad(x, (padding,) * 4)
    torch.testing.assert_close(y, F.conv2d(expected, weight, stride=down))


def test_compiles_whole():
    x, weight = torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    compiled = torch.compile(conv2d, fullgraph=True, backend="aot_eager")
    cotangent = torch.randn(2, 4, 4, 4)
    expected = torch.autograd.grad(conv2d(x, weight), (x, weight), cotangent)
    torch.testing.assert_close(torch.autograd.grad(compiled(x, weight), (x, weight), cotangent), expected)


def test_bad_arguments():
    with pytest.raises(FaceganError, match="x has 3 channels; expected 4"):
        conv2d(torch.zeros(1, 3, 4, 4), torch.zeros(2, 4, 3, 3))
    with pytest.raises(FaceganError, match=r"x has shape \[3, 4, 4\]"):
        conv2d(torch.zeros(3, 4, 4), torch.zeros(2, 3, 3, 3))
    with pytest.raises(FaceganError, match="up is 2 and down is 2"):
        conv2d_resample(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 3, 3), setup_filter(), up=2, down=2)
