"""Maps without pixels under padding, zero styles, filters that are not square, odd strides: what a campaign found."""

from __future__ import annotations

import pytest
import stylegan_formulas as formulas
import torch

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops import bias_act, conv2d, conv2d_layer, conv2d_resample, modulated_conv2d, upfirdn2d


@pytest.fixture(params=["reference", "native", "triton"])
def served(request):
    reason = None if request.param == "reference" else backend.unavailable("modulated_conv2d", request.param, "cpu")
    if reason is not None:
        pytest.skip(str(reason))
    with backend.use_backend(request.param):
        yield request.param


@pytest.mark.parametrize("up,down", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("size", [(0, 0), (0, 5)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_styles_of_an_empty_map(served, up, down, size, kernel, dtype):
    """The layer is its noise and bias, and depends on neither style nor weight, in any order."""
    torch.manual_seed(0)
    x = torch.zeros(2, 3, *size, dtype=dtype, requires_grad=True)
    weight, b = torch.randn(4, 3, kernel, kernel, dtype=dtype, requires_grad=True), torch.randn(4, dtype=dtype, requires_grad=True)
    styles = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    sides = [(side * up + 4 - kernel + 1) // down for side in size]
    noise = torch.randn(2, 1, *sides, dtype=dtype)
    y = modulated_conv2d(x, weight, styles, up=up, down=down, padding=2, noise=noise, bias=b, act="lrelu", gain=1.0)
    v = noise.float() + b.detach().float()[:, None, None]
    torch.testing.assert_close(y.float(), torch.where(v < 0, 0.2 * v, v), rtol=2e-2, atol=2e-2)
    first = torch.autograd.grad(y, (x, weight, styles, b), torch.randn_like(y), create_graph=True)
    assert not first[1].any() and not first[2].any() and first[3].isfinite().all()
    pairs = [(t, torch.randn_like(t)) for t in first if t.requires_grad]
    outputs, cotangents = zip(*pairs, strict=True)
    second = torch.autograd.grad(outputs, (weight, styles), cotangents, allow_unused=True, materialize_grads=True)
    assert not second[0].any() and not second[1].any()


@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_of_nothing(transposed):
    x, b = torch.zeros(2, 3, 0, 4, requires_grad=True), torch.randn(5, requires_grad=True)
    weight = torch.randn((3, 5, 3, 3) if transposed else (5, 3, 3, 3), requires_grad=True)
    y = conv2d(x, weight, b, padding=0 if transposed else 2, transposed=transposed)
    torch.testing.assert_close(y, b[:, None, None].expand(2, 5, 2, 6))
    assert not any(g.any() for g in torch.autograd.grad(y.sum(), (x, weight)))
    with pytest.raises(FaceganError, match="expected room"):
        conv2d(x, weight.mT if not transposed else weight, b, padding=0 if not transposed else 2, transposed=transposed)


def test_groups_of_a_weight_with_odd_strides():
    """PyTorch 2.13 sums wrongly for a stride that is of no account."""
    torch.manual_seed(0)
    x = torch.randn(3, 6, 6, 3).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(6, 3, 2, 1)
    odd = weight.contiguous(memory_format=torch.channels_last).as_strided((6, 3, 2, 1), (6, 1, 3, 36))
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), groups=2, padding=1)
    torch.testing.assert_close(conv2d(x, odd, groups=2, padding=1).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("up,down", [(2, 1), (1, 2)])
@pytest.mark.parametrize("taps", [(2, 1), (3, 4)])
def test_filters_that_are_not_square(served, up, down, taps):
    torch.manual_seed(0)
    x, weight, f = torch.randn(2, 3, 5, 6), torch.randn(4, 3, 3, 3), torch.rand(taps)
    styles = torch.rand(2, 3) + 0.5
    found = modulated_conv2d(x, weight, styles, up=up, down=down, padding=1, resample_filter=f)
    wide = [t.double() for t in (x, weight, styles)]
    expected = formulas.modulated_conv2d(*wide, None, up, down, 1, f, True, True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    found = conv2d_layer(x, weight, None, f, up=up, down=down, padding=1, act="linear")
    expected = formulas.conv2d_resample(wide[0], wide[1], f, up, down, [1] * 4, 1, True, False)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_zeros_keep_the_format(served):
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    for options in (dict(gain=0.0), dict(clamp=0.0)):
        assert bias_act(x, **options).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("up", [0, -1, 1.5])
def test_factors_that_are_no_positive_integers(up):
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    calls = [
        lambda: modulated_conv2d(x, weight, torch.ones(1, 2), up=up),
        lambda: conv2d_layer(x, weight, up=up, f=torch.ones(2)),
        lambda: conv2d_resample(x, weight, torch.ones(2), up=up),
        lambda: upfirdn2d(x, None, up=up),
    ]
    for call in calls:
        with pytest.raises(FaceganError, match="up is"):
            call()
    with pytest.raises(FaceganError, match="padding is"):
        upfirdn2d(x, None, padding=(1.5, 2))
