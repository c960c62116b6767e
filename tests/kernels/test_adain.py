"""adain and adain_affine on every backend against the float64 reference and its native gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan.ops import adain, adain_affine, adain_affine_ref, adain_ref

EPS = 1e-5
# one pixel, less than a tile, a prime of pixels, more channels than a tile has, more pixels than one tile holds, nothing
SHAPES = [(1, 13, 1, 1), (2, 3, 5, 7), (3, 1, 31, 1), (1, 70, 3, 4), (1, 2, 47, 53), (0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)]


def double(*tensors):
    return [None if t is None else t.detach().double().cpu().requires_grad_(t.is_floating_point()) for t in tensors]


def expected(dy, content, style, alpha, mask, eps=EPS):
    """y and the gradients of both, in float64."""
    (c, s), m = double(content, style), None if mask is None else mask.double().cpu()
    y = adain_ref(c, s, alpha, m, eps)
    return y, *torch.autograd.grad(y, (c, s), dy.double().cpu(), allow_unused=True, materialize_grads=True)


def expected_affine(dy, *tensors, eps=EPS):
    leaves = double(*tensors)
    y = adain_affine_ref(*leaves, eps)
    return y, *torch.autograd.grad(y, leaves, dy.double().cpu(), allow_unused=True, materialize_grads=True)


@pytest.fixture(params=["whole", "cut"])
def planes(request, target, monkeypatch):
    """Whole planes, and planes cut into stretches of several tiles, which would take large ones: those of Triton can be forced."""
    if request.param == "cut":
        if target[0] != "triton":
            pytest.skip("only Triton's tiles can be made smaller")
        module = pytest.importorskip("facegan_kernels.triton.adain")

        def small(x):
            """Three tiles a stretch, at most three stretches a plane; at most 16 channels."""
            (n, channels), plane = x.shape[:2], x.shape[2] * x.shape[3]
            t = module.tiles(x, 64, 1)
            pixels, across = max(4, 1 << (plane - 1).bit_length() >> 3), min(16, 1 << (channels - 1).bit_length())
            stretches, blocks = -(-plane // (3 * pixels)), -(-channels // across)
            return t._replace(pixels=pixels, channels=across, steps=3, blocks_p=stretches, blocks_c=blocks, programs=n * stretches * blocks)

        monkeypatch.setattr(module, "_tiles", small)
        monkeypatch.setattr(module, "_MOST", 0)


@pytest.fixture
def check(kernel, close):
    """Both kernels of adain against the reference, formats and dtypes included."""

    def check(dy, content, style, alpha, mask, eps=EPS):
        y, d_content, d_style = expected(dy, content, style, alpha, mask, eps)
        actual = kernel("adain")(content, style, alpha, mask, eps)
        gradients = kernel("adain_backward")(dy, content, style, alpha, mask, eps)
        for result, like, value in zip((actual, *gradients), (content, content, style), (y, d_content, d_style), strict=True):
            assert result.dtype == like.dtype and result.shape == like.shape
            close(result, value)
        return actual

    return check


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_dtypes(check, draw, dtype, memory_format, alpha, masked):
    content, style, dy = (draw(2, 5, 9, 8, dtype=dtype, memory_format=memory_format) for _ in range(3))
    mask = draw(2, 1, 9, 8).sigmoid() if masked else None
    y = check(dy, 2 * content + 1, 0.5 * style - 0.3, alpha, mask)
    assert content.numel() == 0 or y.stride() == content.stride()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_shapes(check, draw, shape, memory_format, masked):
    content, style, dy = (draw(*shape, memory_format=memory_format) for _ in range(3))
    check(dy, content, 0.5 * style + 2, 0.6, draw(shape[0], 1, *shape[2:]).abs() if masked else None, 0.1)


@pytest.mark.parametrize("sides", [(3, 4, 9, 7), (16, 9, 4, 4)])
def test_a_style_of_another_size(check, planes, draw, memory_format, sides):
    content, dy = (draw(2, 3, *sides[:2], memory_format=memory_format) for _ in range(2))
    check(dy, content, 2 * draw(2, 3, *sides[2:], memory_format=memory_format) - 1, 1.0, None, 0.1)


def test_masks_that_are_odd(check, planes, draw, memory_format):
    """Empty in one sample, zero and one in the other, of another dtype and layout."""
    content, style, dy = (draw(2, 4, 4, 5, memory_format=memory_format) for _ in range(3))
    mask = torch.zeros(2, 1, 4, 5, dtype=torch.half, device=content.device).mT.contiguous().mT
    mask[1, :, 2:] = 1
    y = check(dy, content, style, 1.0, mask, 0.1)
    torch.testing.assert_close(y[0], content[0])
    torch.testing.assert_close(y[1, :, :2], content[1, :, :2])


@pytest.mark.parametrize("shape", [(2, 5, 9, 8), (2, 0, 3, 3), (1, 2, 1, 1), (0, 2, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_affine(kernel, planes, close, draw, shape, dtype, memory_format):
    x, dy = (draw(*shape, dtype=dtype, memory_format=memory_format) for _ in range(2))
    scale, shift = draw(*shape[:2]), draw(*shape[:2], dtype=dtype)
    y, dx, d_scale, d_shift = expected_affine(dy, x, scale, shift, eps=0.1)
    actual = kernel("adain_affine")(x, scale, shift, 0.1)
    assert actual.dtype == dtype and (x.numel() == 0 or actual.stride() == x.stride())
    close(actual, y)
    gradients = kernel("adain_affine_backward")(dy, x, scale, 0.1)
    assert gradients[1].dtype == gradients[2].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(gradients[0], dx)
    size = max(shape[2] * shape[3], 1) ** 0.5  # of these sums
    close(gradients[1] / size, d_scale / size)
    close(gradients[2] / size, d_shift / size)


@pytest.mark.parametrize("masked", [False, True])
def test_a_large_mean_leaves_the_variance_alone(kernel, planes, draw, memory_format, masked):
    """E[x^2] - E[x]^2 in float32 would lose every digit here; what is left is the rounding of the mean itself, some 2e-4."""
    side = 16
    content, style = (draw(1, 2, side, side, memory_format=memory_format) for _ in range(2))
    mask = torch.zeros(1, 1, side, side, device=content.device)
    mask[..., side // 2 :, :] = 1
    content = (content + 3000).where(mask > 0, 0.0) if masked else content + 3000  # far from what lies outside of the mask
    mask = mask if masked else None
    y, *_ = expected(style, content, style, 1.0, mask)
    actual = kernel("adain")(content, style, 1.0, mask, EPS)
    torch.testing.assert_close(actual.double().cpu(), y.detach(), rtol=1e-3, atol=1e-3)
    *_, d_style = expected(style, style, content, 1.0, mask)
    torch.testing.assert_close(
        kernel("adain_backward")(style, style, content, 1.0, mask, EPS)[1].double().cpu(), d_style, rtol=1e-3, atol=1e-3
    )


def test_a_constant_plane(kernel, draw, memory_format):
    """Without variance the content is its mean, and only eps divides."""
    content, style = torch.full((1, 3, 6, 7), 0.1, device=draw(1).device), draw(1, 3, 6, 7, memory_format=memory_format)
    y = kernel("adain")(content.contiguous(memory_format=memory_format), style, 1.0, None, EPS)
    torch.testing.assert_close(y, style.mean((2, 3), keepdim=True).expand_as(y), rtol=1e-3, atol=1e-4)


def test_strides_of_any_kind(check, draw):
    content, style, dy = (
        draw(2, 3, 6, 5).mT,
        draw(2, 6, 5, 6, memory_format=torch.channels_last)[:, ::2],
        draw(1, 3, 1, 1).expand(2, 3, 5, 6),
    )
    check(dy, content, style, 0.8, draw(1, 1, 5, 6).abs().expand(2, 1, 5, 6), 0.1)


def test_repeats_bit_by_bit(kernel, draw, memory_format):
    content, style, dy = (draw(1, 3, 47, 53, memory_format=memory_format) for _ in range(3))
    first, again = (kernel("adain_backward")(dy, content, style, 0.7, None, EPS) for _ in range(2))
    torch.testing.assert_close(again, first, rtol=0, atol=0)


@settings(settings.get_profile("kernels"), max_examples=8)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 13), st.integers(1, 13)),
    alpha=st.floats(0, 1.5),
    masked=st.booleans(),
    channels_last=st.booleans(),
)
def test_any_shape(check, planes, draw, shape, alpha, masked, channels_last):
    format = torch.channels_last if channels_last else torch.contiguous_format
    content, style, dy = (draw(*shape, dtype=torch.float64, memory_format=format) for _ in range(3))
    check(dy, content, style, alpha, draw(shape[0], 1, *shape[2:], dtype=torch.float64).abs() if masked else None, 0.1)


@pytest.mark.parametrize("masked", [False, True])
def test_the_public_op(forced, draw, masked):
    """Gradients of both orders through the dispatch."""
    forced("adain")
    content, style = (draw(1, 2, 3, 3, dtype=torch.float64).requires_grad_() for _ in range(2))
    mask = draw(1, 1, 3, 3, dtype=torch.float64).sigmoid() if masked else None
    assert torch.autograd.gradcheck(lambda c, s: adain(c, s, 0.7, mask, 0.1), (content, style), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda c, s: adain(c, s, 0.7, mask, 0.1), (content, style), fast_mode=True)


def test_the_public_affine_op(forced, draw):
    forced("adain_affine")
    x, scale, shift = draw(1, 2, 3, 3, dtype=torch.float64), *(draw(1, 2, dtype=torch.float64) for _ in range(2))
    arguments = tuple(t.requires_grad_() for t in (x, scale, shift))
    assert torch.autograd.gradcheck(lambda *a: adain_affine(*a, 0.1), arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *a: adain_affine(*a, 0.1), arguments, fast_mode=True)
