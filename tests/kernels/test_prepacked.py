"""Convolutions by prepacked weights: oneDNN's packed weights against plain convolutions in float64, and how long they are kept."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F

from facegan import backend
from facegan.ops import modulated_conv2d


@pytest.fixture
def kernel():
    def kernel(name):
        try:
            return backend.kernel(name, "native", "cpu")
        except backend.BackendUnavailable as reason:
            pytest.skip(str(reason))

    kernel("modulate")  # optional operators are always served, by PyTorch where there is no library
    return kernel


@pytest.fixture(params=[True, False], ids=["packed", "plain"])
def one_dnn(request, kernel, monkeypatch):
    """Once as it is, once as in a PyTorch without oneDNN."""
    if not request.param:
        monkeypatch.setattr("facegan_kernels.native.prepacking._one_dnn", lambda: False)


def parameter(*shape):
    return torch.nn.Parameter(torch.randn(shape) / (shape[1] * shape[2] * shape[3]) ** 0.5)


@pytest.mark.parametrize("stride,padding,transposed", [(1, 1, False), (2, 0, False), (2, 0, True)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("flip_weight", [True, False])
def test_agrees_with_a_plain_convolution(kernel, one_dnn, stride, padding, transposed, memory_format, flip_weight):
    weight = parameter(40, 24, 3, 3)
    for shape in ((2, 24, 9, 7), (1, 24, 32, 5), (2, 24, 9, 7)):  # another shape wants the weight in another format
        x = torch.randn(shape).contiguous(memory_format=memory_format)
        y = kernel("prepacked_conv2d")(x, weight, stride, padding, transposed, flip_weight)
        wide, taps = x.double(), weight.detach().double()
        taps = taps if flip_weight else taps.flip(2, 3)
        if transposed:
            inserted = torch.zeros(shape[0], shape[1], 2 * shape[2] - 1, 2 * shape[3] - 1, dtype=torch.float64)
            inserted[:, :, ::2, ::2] = wide
            expected = F.conv2d(inserted, taps, padding=2)  # zero-inserted, then correlated wherever the two meet
        else:
            expected = F.conv2d(wide, taps, stride=stride, padding=padding)
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
        assert y.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_demodulation(kernel, dtype):
    weight, styles = torch.nn.Parameter(torch.randn(5, 7, 3, 3, dtype=dtype)), torch.randn(4, 7, dtype=dtype)
    d = kernel("prepacked_demodulation")(weight, styles)
    modulated = weight.detach().double() * styles.double()[:, None, :, None, None]
    expected = (modulated.flatten(2).norm(dim=2).square() + 1e-8).rsqrt()
    assert d.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(d.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_changed_weight_is_packed_anew(kernel):
    x, styles, weight = torch.randn(1, 8, 6, 6), torch.rand(2, 8), parameter(16, 8, 3, 3)

    def results():
        return kernel("prepacked_conv2d")(x, weight, 2, 0, True, True), kernel("prepacked_demodulation")(weight, styles)

    y, d = results()
    with torch.no_grad():
        weight.mul_(-2)
    torch.testing.assert_close(results(), (-2 * y, d / 2), rtol=1e-4, atol=1e-5)
    weight.data.copy_(weight.data * -2)  # leaves version and place as they are
    torch.testing.assert_close(results(), (4 * y, d / 4), rtol=1e-4, atol=1e-5)


def test_what_was_made_dies_with_its_weight(kernel):
    from facegan_kernels.native import prepacking

    weight = parameter(16, 8, 3, 3)
    gc.collect()
    before = len(prepacking._caches)
    kernel("prepacked_conv2d")(torch.randn(1, 8, 6, 6), weight, 1, 1, False, True)
    assert len(prepacking._caches) == before + 1
    del weight
    gc.collect()
    assert len(prepacking._caches) == before


@pytest.mark.parametrize("up", [1, 2])
def test_layers_keep_weights_at_inference_alone(kernel, monkeypatch, up):
    calls = []
    original = kernel("prepacked_conv2d")
    monkeypatch.setitem(backend._found, ("prepacked_conv2d", "native", "cpu"), lambda *args: calls.append(1) or original(*args))
    x, styles, weight = torch.randn(2, 48, 8, 8), torch.rand(2, 48), parameter(48, 48, 3, 3)
    with backend.use_backend("native"):
        trained = modulated_conv2d(x, weight, styles, up=up, padding=1, act="lrelu")
        with torch.no_grad():
            passing = modulated_conv2d(x, weight * 1, styles, up=up, padding=1, act="lrelu")
            assert not calls
            kept = modulated_conv2d(x, weight, styles, up=up, padding=1, act="lrelu")
    assert calls
    torch.testing.assert_close(kept, trained.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(passing, trained.detach(), rtol=1e-4, atol=1e-5)
