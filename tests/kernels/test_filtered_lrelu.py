"""filtered_lrelu and its derivatives on every backend against float64: matrices built from the filters' definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facegan.ops import filtered_lrelu

# fu, fd, up, down, pads (top, bottom, left, right), flip: StyleGAN3-T's, with its two upsampling factors; -R's radial fd; others
CASES = {
    "T": ((12,), (12,), 2, 2, (9, 8, 9, 8), False),
    "T up": ((24,), (12,), 4, 2, (12, 11, 10, 13), False),
    "R": ((12,), (12, 12), 2, 2, (9, 8, 9, 8), False),
    "toRGB": ((1,), (1,), 1, 1, (0, 0, 0, 0), False),
    "odd": ((3, 5), (2, 3), 2, 4, (3, 8, 4, -1), True),
    "cropped": ((7,), (5,), 1, 2, (-2, 6, 8, -3), True),
}
# served by the composed form: a factor, or more taps than a tile has
OTHERS = {"factor 3": ((5,), (4,), 3, 1, (4, 4, 4, 4), False), "many taps": ((6,), (20,), 2, 2, (9, 9, 9, 9), True)}


def axis(size, f, up, down, before, after, flip):
    """[out, size]: zero-insertion, padding, filter and decimation along an axis."""
    matrix = torch.zeros((size * up + before + after - len(f)) // down + 1, size, dtype=torch.float64)
    for o in range(len(matrix)):
        for k, tap in enumerate(f):
            i = o * down + (k if flip else len(f) - 1 - k) - before
            if i % up == 0 and 0 <= i // up < size:
                matrix[o, i // up] += tap
    return matrix


def filtered(x, f, up, down, pads, flip):
    f, y = f.double().cpu(), 0
    rows = [(f, f)] if f.ndim == 1 else zip(torch.eye(len(f), dtype=torch.float64), f, strict=True)
    for vertical, horizontal in rows:  # a 2-D filter is the sum of its rows, each placed by a single vertical tap
        left, right = axis(x.shape[2], vertical, up, down, *pads[:2], flip), axis(x.shape[3], horizontal, up, down, *pads[2:], flip)
        y = y + left @ x @ right.T
    return y


def restated(x, fu, fd, b, up, down, pads, gain, slope, clamp, flip):
    v = filtered(x if b is None else x + b[:, None, None], fu, up, 1, pads, flip) * up**2
    v = F.leaky_relu(v, slope) * gain
    return filtered(v if clamp is None else v.clamp(-clamp, clamp), fd, 1, down, (0, 0, 0, 0), flip)


def taps(shape):
    return torch.randn(shape) / max(shape) ** 0.5


def arguments(case, draw, shape, dtype=torch.float32, memory_format=torch.contiguous_format):
    fu, fd, up, down, pads, flip = (CASES | OTHERS)[case]
    x, b = draw(*shape, dtype=dtype, memory_format=memory_format), draw(shape[1], dtype=dtype)
    return x, (taps(fu).to(x.device), taps(fd).to(x.device)), b, (up, down, pads), flip


@pytest.mark.parametrize("gain,slope,clamp", [(2**0.5, 0.2, 0.9), (-0.7, -0.3, None)])
@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_values(case, gain, slope, clamp, kernel, draw, close):
    x, filters, b, geometry, flip = arguments(case, draw, (1, 2, 9, 14) if case in CASES else (1, 1, 5, 6))
    options = (*geometry, gain, slope, clamp, flip)
    y = kernel("filtered_lrelu")(x, *filters, b, *options)
    close(y, restated(x.double().cpu(), *filters, b.double().cpu(), *options))


@pytest.mark.parametrize("case", ["T", "odd"])
def test_dtypes_and_formats(case, kernel, draw, dtype, memory_format, close):
    """Half types are rounded once, where nothing is composed."""
    x, filters, b, geometry, flip = arguments(case, draw, (1, 3, 6, 5), dtype, memory_format)
    options = (*geometry, 1.4, 0.2, None, flip)
    y = kernel("filtered_lrelu")(x, *filters, b, *options)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=memory_format)
    expected = restated(x.double().cpu(), *filters, b.double().cpu(), *options)
    scale = expected.abs().max()
    close(y.double() / scale.to(y.device), expected / scale, dtype)


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (1, 2, 27, 13), (3, 5, 4, 3), (1, 1, 12, 50)])
def test_sizes_that_no_tile_divides(shape, kernel, draw, memory_format, close):
    x, filters, b, geometry, flip = arguments("T", draw, shape, memory_format=memory_format)
    options = (*geometry, 1.4, 0.2, 0.8, flip)
    close(kernel("filtered_lrelu")(x, *filters, b, *options), restated(x.double().cpu(), *filters, b.double().cpu(), *options))


def test_strides_and_no_bias(kernel, draw, close):
    _, filters, _, geometry, flip = arguments("T", draw, (1, 1, 1, 1))
    options = (*geometry, 1.4, 0.2, None, flip)
    for x in (draw(2, 5, 8, 6).transpose(2, 3), draw(1, 7, 6, 4).permute(0, 3, 1, 2)[:, ::2], draw(1, 3, 6, 6).expand(2, 3, 6, 6)):
        close(kernel("filtered_lrelu")(x, *filters, None, *options), restated(x.double().cpu(), *filters, None, *options))


def test_nothing_outside_is_read(kernel, draw, close):
    values = draw(2, 2, 7, 8)
    surrounded = torch.full((3, values.numel()), torch.nan, device=values.device)
    x = torch.as_strided(surrounded, values.shape, values.stride(), values.numel()).copy_(values)
    _, filters, b, geometry, flip = arguments("T", draw, (2, 2, 7, 8))
    options = (*geometry, 1.4, 0.2, None, flip)
    close(kernel("filtered_lrelu")(x, *filters, b, *options), restated(x.double().cpu(), *filters, b.double().cpu(), *options))


@pytest.mark.parametrize("adjoint", [True, False])
@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_derivative_and_its_transpose(case, adjoint, kernel, draw, close):
    x, filters, b, geometry, flip = arguments(case, draw, (1, 2, 7, 10) if case in CASES else (1, 1, 4, 5))
    options = (*geometry, 1.4, 0.2, 0.9, flip)
    leaf = x.double().cpu().requires_grad_()
    y = restated(leaf, *filters, b.double().cpu(), *options)
    a = draw(*(y if adjoint else x).shape)
    cotangent = (a.double().cpu() if adjoint else torch.zeros_like(y)).requires_grad_()
    (expected,) = torch.autograd.grad(y, leaf, cotangent, create_graph=True)
    if not adjoint:  # J a as the derivative of J^T c by c
        (expected,) = torch.autograd.grad(expected, cotangent, a.double().cpu())
    close(kernel("filtered_lrelu_slope")(a, x, *filters, b, *options, adjoint), expected)


def test_the_larger_tile_of_half_types(kernel, draw, close):
    """The derivative's transpose where up is 4."""
    x, filters, b, geometry, flip = arguments("T up", draw, (1, 1, 5, 6), torch.float16)
    options = (*geometry, 1.4, 0.2, 0.9, flip)
    leaf = x.double().cpu().requires_grad_()
    y = restated(leaf, *filters, b.double().cpu(), *options)
    a = draw(*y.shape, dtype=torch.float16)
    (expected,) = torch.autograd.grad(y, leaf, a.double().cpu())
    found = kernel("filtered_lrelu_slope")(a, x, *filters, b, *options, True)
    scale = expected.abs().max()
    close(found.double() / scale.to(found.device), expected / scale, torch.float16)


@pytest.mark.parametrize("case", ["T", "odd"])
def test_gradients_of_both_orders(case, forced, draw, memory_format, close):
    """Of a square, so that the second order is not zero."""
    forced("filtered_lrelu")
    x, filters, b, geometry, flip = arguments(case, draw, (1, 2, 7, 6), memory_format=memory_format)
    results, options = [], (*geometry, 1.4, 0.2, 0.9, flip)
    for function, leaves in ((filtered_lrelu, (x, b)), (restated, (x.double().cpu(), b.double().cpu()))):
        leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
        y = function(leaves[0], *filters, leaves[1], *options)
        if not results:
            cotangent, seconds = torch.randn(y.shape), [torch.randn(leaf.shape) for leaf in leaves]
        first = torch.autograd.grad(y.square(), leaves, cotangent.to(y), create_graph=True)
        results.append((y, *first, *torch.autograd.grad(first, leaves, [second.to(y) for second in seconds])))
    for actual, expected in zip(*results, strict=True):
        scale = expected.abs().max().clamp(min=1)  # intermediate results were rounded too, to their own size
        close(actual / scale.to(actual), expected / scale)
