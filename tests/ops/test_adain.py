from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan.errors import FaceganError
from facegan.ops import adain, adain_affine

EPS = 1e-5


def restated(content, style, alpha=1.0, mask=None, eps=EPS):
    """Sample by sample, channel by channel."""
    c, s = content.detach().double().numpy(), style.detach().double().numpy()
    y = np.empty_like(c)
    for n in range(c.shape[0]):
        m = np.ones(c.shape[2:]) if mask is None else mask[n, 0].double().numpy()
        m_style = np.ones(s.shape[2:]) if mask is None else m
        for k in range(c.shape[1]):
            mean_c, mean_s = np.average(c[n, k], weights=m), np.average(s[n, k], weights=m_style)
            sigma_c = np.sqrt(np.average((c[n, k] - mean_c) ** 2, weights=m) + eps)
            sigma_s = np.sqrt(np.average((s[n, k] - mean_s) ** 2, weights=m_style) + eps)
            merged = sigma_s * (c[n, k] - mean_c) / sigma_c + mean_s
            y[n, k] = (1 - alpha * m) * c[n, k] + alpha * m * merged
    return torch.from_numpy(y)


def operator(content, style, alpha=1.0, mask=None, eps=EPS):
    return torch.ops.facegan_reference.adain(content, style, alpha, mask, eps)


def affine_operator(x, scale, shift, eps=EPS):
    return torch.ops.facegan_reference.adain_affine(x, scale, shift, eps)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 13, 1, 1), (3, 1, 4, 4), (2, 3, 0, 4), (0, 3, 4, 4), (2, 0, 4, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_agrees_with_numpy(dtype, shape, masked, tolerance):
    content, style = (2 * torch.randn(shape) + 1).to(dtype), (0.5 * torch.randn(shape) - 0.3).to(dtype)
    mask = torch.rand(shape[0], 1, *shape[2:]) if masked else None
    expected = content.double() if 0 in shape else restated(content, style, 0.7, mask)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        c, s = content.contiguous(memory_format=memory_format), style.contiguous(memory_format=memory_format)
        y = adain(c, s, 0.7, mask)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=memory_format) or y.numel() == 0
        torch.testing.assert_close(y.double(), expected, **tolerance(dtype))
        torch.testing.assert_close(adain(c.mT, s.mT, 0.7, None if mask is None else mask.mT).mT, y, **tolerance(dtype))


def test_takes_on_the_styles_statistics():
    content, style = torch.randn(2, 3, 16, 16), 3 * torch.randn(2, 3, 9, 9) + 5
    y = adain(content, style)
    torch.testing.assert_close(y.mean((2, 3)), style.mean((2, 3)))
    torch.testing.assert_close(y.std((2, 3), correction=0), style.std((2, 3), correction=0), rtol=1e-3, atol=1e-3)


def test_leaves_what_the_mask_leaves_out():
    content, style = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    mask = torch.zeros(2, 1, 6, 6)
    torch.testing.assert_close(adain(content, style, mask=mask), content)  # an empty mask is no division by zero
    mask[:, :, 3:] = 1
    merged = adain(content, style, mask=mask)
    torch.testing.assert_close(merged[:, :, :3], content[:, :, :3])
    torch.testing.assert_close(merged[:, :, 3:], adain(content[:, :, 3:].contiguous(), style[:, :, 3:].contiguous()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_affine_agrees_with_numpy(dtype, tolerance):
    x, scale, shift = (torch.randn(2, 5, 3, 7) + 2).to(dtype), torch.randn(2, 5), torch.randn(2, 5)
    v = x.double().numpy()
    normalised = (v - v.mean((2, 3), keepdims=True)) / np.sqrt(v.var((2, 3), keepdims=True) + EPS)
    expected = torch.from_numpy(normalised) * scale.double()[:, :, None, None] + shift.double()[:, :, None, None]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = adain_affine(x.contiguous(memory_format=memory_format), scale, shift)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(y.double(), expected, **tolerance(dtype))


@pytest.mark.parametrize("function", [adain, operator])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_both_orders(function, masked):
    content, style = (torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.rand(2, 1, 3, 3, dtype=torch.float64) if masked else None
    assert torch.autograd.gradcheck(lambda c, s: function(c, s, 0.7, mask, 0.1), (content, style))
    assert torch.autograd.gradgradcheck(lambda c, s: function(c, s, 0.7, mask, 0.1), (content, style))


@pytest.mark.parametrize("function", [adain_affine, affine_operator])
def test_affine_gradients_of_both_orders(function):
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    scale, shift = (torch.randn(2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *a: function(*a, 0.1), (x, scale, shift))
    assert torch.autograd.gradgradcheck(lambda *a: function(*a, 0.1), (x, scale, shift))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_opcheck(masked, memory_format):
    content, style, dy = (torch.randn(2, 3, 4, 5).contiguous(memory_format=memory_format).requires_grad_() for _ in range(3))
    mask = torch.rand(2, 1, 4, 5) if masked else None
    torch.library.opcheck(torch.ops.facegan_reference.adain.default, (content, style, 0.5, mask, EPS))
    torch.library.opcheck(torch.ops.facegan_reference.adain_backward.default, (dy, content, style, 0.5, mask, EPS))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_affine_opcheck(memory_format):
    x, dy = (torch.randn(2, 3, 4, 5).contiguous(memory_format=memory_format).requires_grad_() for _ in range(2))
    scale, shift = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    torch.library.opcheck(torch.ops.facegan_reference.adain_affine.default, (x, scale, shift, EPS))
    torch.library.opcheck(torch.ops.facegan_reference.adain_affine_backward.default, (dy, x, scale, EPS))


@pytest.mark.parametrize("function", [adain, operator])
def test_compiles_whole(function):
    content, style = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    cotangent = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(compiled(content, style), function(content, style))
    expected = torch.autograd.grad(function(content, style), (content, style), cotangent)
    torch.testing.assert_close(torch.autograd.grad(compiled(content, style), (content, style), cotangent), expected)


X = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    "arguments,words",
    [
        (dict(content=X[0]), r"content is torch.float32 \[3, 4, 4\]"),
        (dict(style=X[:, :2]), r"style is torch.float32 \[2, 2, 4, 4\]; expected torch.float32 \[2, 3, H, W\]"),
        (dict(style=X.half()), "style is torch.float16"),
        (dict(mask=X), r"mask has shape \[2, 3, 4, 4\]"),
        (dict(mask=torch.ones(2, 1, 4, 4, requires_grad=True)), "mask requires a gradient"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(FaceganError, match=words):
        adain(**{"content": X, "style": X, **arguments})


def test_bad_affine_arguments():
    with pytest.raises(FaceganError, match=r"scale has shape \[3\]; expected \[N, C\] = \[2, 3\]"):
        adain_affine(X, torch.ones(3), torch.ones(2, 3))
