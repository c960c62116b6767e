"""The Winograd layer of the CPU against a direct convolution in float64, and the conditions under which it serves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facegan import backend
from facegan.ops import modulated_conv2d
from facegan.ops.modulated_conv2d.algorithms import use_algorithm


@pytest.fixture
def layer():
    try:
        return backend.kernel("modulated_conv2d_fused", "native", "cpu")
    except backend.BackendUnavailable as reason:
        pytest.skip(str(reason))


def expected(x, weight, s, d, noise, b, gain, clamp):
    x, weight, s = x.double(), weight.double(), s.double()
    y = F.conv2d(x * s[:, :, None, None], weight, padding=1)
    y = y * (1 if d is None else d.double()[:, :, None, None]) + (0 if noise is None else noise.double())
    y = F.leaky_relu(y + (0 if b is None else b.double()[:, None, None]), 0.2) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


@pytest.mark.parametrize(
    "n,i,o,h,w", [(1, 16, 16, 4, 4), (2, 3, 5, 7, 9), (3, 17, 33, 5, 4), (1, 64, 40, 13, 1), (2, 130, 70, 31, 30), (1, 1, 1, 1, 1)]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("flip_weight", [True, False])
def test_agrees_with_a_direct_convolution(layer, n, i, o, h, w, memory_format, full, flip_weight):
    x = torch.randn(n, i, h, w).contiguous(memory_format=memory_format)
    weight, s = torch.randn(o, i, 3, 3) / (9 * i) ** 0.5, 0.5 + torch.rand(n, i)
    d, b = (0.5 + torch.rand(n, o), torch.randn(o)) if full else (None, None)
    noise, clamp = (torch.randn(n if i == 3 else 1, 1, h, w), 1.5) if full else (None, None)
    y = layer(x, weight, s, d, noise, b, 1, flip_weight, "lrelu", 0.2, 1.3, clamp)
    assert y.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(
        y.double(), expected(x, weight if flip_weight else weight.flip(2, 3), s, d, noise, b, 1.3, clamp), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("one_dnn", [True, False])
def test_more_tiles_than_one_block(layer, monkeypatch, one_dnn):
    from facegan_kernels.native.modulated_conv2d import fused

    monkeypatch.setattr(fused, "_BYTES", 1)  # 64 tiles at a time
    if not one_dnn:
        monkeypatch.setattr(fused, "can_prepack", lambda x: False)
    x, weight, s = torch.randn(3, 8, 30, 22), torch.randn(8, 8, 3, 3) / 8, torch.ones(3, 8)
    y = layer(x, weight, s, None, None, None, 1, True, "linear", 0.0, 1.0, None)
    torch.testing.assert_close(y.double(), F.conv2d(x.double(), weight.double(), padding=1), rtol=1e-4, atol=1e-4)


def test_a_changed_weight_is_transformed_anew(layer):
    x, s, weight = torch.randn(1, 8, 8, 8), torch.ones(1, 8), torch.nn.Parameter(torch.randn(8, 8, 3, 3) / 8)
    arguments = (s, None, None, None, 1, True, "linear", 0.0, 1.0, None)
    before = layer(x, weight, *arguments)
    with torch.no_grad():
        weight.mul_(-2)
    torch.testing.assert_close(layer(x, weight, *arguments), -2 * before)
    weight.data = weight.data.clone() * 0.5  # leaves the version as it is
    torch.testing.assert_close(layer(x, weight, *arguments), -before)
    weight.data.copy_(weight.data * -3)  # leaves version and place as they are
    torch.testing.assert_close(layer(x, weight, *arguments), 3 * before, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        born_there = torch.nn.Parameter(weight * 1)
        torch.testing.assert_close(layer(x, born_there, *arguments), 3 * before, rtol=1e-4, atol=1e-4)


def test_what_is_kept_knows_which_way_the_weight_is_read(layer):
    x, s, weight = torch.randn(1, 8, 8, 8), torch.ones(1, 8), torch.nn.Parameter(torch.randn(8, 8, 3, 3) / 8)
    for flip_weight in (True, False, True):
        y = layer(x, weight, s, None, None, None, 1, flip_weight, "linear", 0.0, 1.0, None)
        taps = weight.detach() if flip_weight else weight.detach().flip(2, 3)
        torch.testing.assert_close(y, F.conv2d(x, taps, padding=1), rtol=1e-4, atol=1e-4)


def test_serves_inference_with_lasting_weights_alone(layer, monkeypatch):
    calls = []
    monkeypatch.setitem(backend._found, ("modulated_conv2d_fused", "native", "cpu"), lambda *args: calls.append(1) or layer(*args))
    x, styles, weight = torch.randn(1, 64, 16, 16), torch.ones(1, 64), torch.nn.Parameter(torch.randn(64, 64, 3, 3))

    def run(weight=weight, **options):
        return modulated_conv2d(x, weight, styles, padding=1, noise=torch.zeros(16, 16), act="lrelu", **options)

    with backend.use_backend("native"):
        direct = run()
        assert not calls  # a gradient is wanted
        with torch.no_grad():
            torch.testing.assert_close(run(), direct, rtol=1e-4, atol=1e-4)
            assert len(calls) == 1
            run(weight * 1)
            with use_algorithm("library"):
                torch.testing.assert_close(run(), direct, rtol=1e-5, atol=1e-5)
        assert len(calls) == 1
