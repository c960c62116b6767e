"""upfirdn2d, and the epilogue that filters, against dense matrices built from their definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facegan.ops import upfirdn2d, upfirdn2d_ref

FILTER = ((1, 1), (1, 1), (2, 1, 2, 1))
UP = ((2, 2), (1, 1), (2, 1, 2, 1))
DOWN = ((1, 1), (2, 2), (1, 1, 1, 1))
MIXED = ((2, 1), (4, 2), (3, -1, -2, 5))
MIXES = [FILTER, UP, DOWN, MIXED, ((4, 4), (1, 1), (3, 3, 5, 2)), ((1, 2), (4, 4), (0, 1, 9, 0)), ((3, 1), (1, 5), (4, 0, 1, 3))]


def axis(size, taps, up, down, before, after, flip):
    """[out, size]: `y[o] = sum_k f[k] x_padded[o * down + K - 1 - k]`, x zero-inserted and padded, as a matrix."""
    matrix = torch.zeros((size * up + before + after - len(taps)) // down + 1, size, dtype=torch.float64)
    for o in range(len(matrix)):
        for k, tap in enumerate(taps):
            i = o * down + (k if flip else len(taps) - 1 - k) - before
            if i % up == 0 and 0 <= i // up < size:
                matrix[o, i // up] += tap
    return matrix


def restated(x, f, up, down, pads, flip, gain):
    x, f = x.detach().double().cpu(), f.double().cpu()
    rows, y = [(f, f)] if f.ndim == 1 else list(zip(torch.eye(len(f), dtype=torch.float64), f, strict=True)), 0
    for vertical, horizontal in rows:  # a 2-D filter is the sum of its rows, each placed by a single vertical tap
        left = axis(x.shape[2], vertical, up[0], down[0], *pads[:2], flip)
        right = axis(x.shape[3], horizontal, up[1], down[1], *pads[2:], flip)
        y = y + left @ x @ right.T
    return gain * y


def taps(*shape):
    return torch.randn(shape)


@pytest.mark.parametrize("mix", MIXES)
def test_factors(mix, kernel, draw, memory_format, close):
    x, f = draw(2, 3, 5, 8, memory_format=memory_format), taps(4)
    close(kernel("upfirdn2d")(x, f.to(x.device), *mix, False, 1.7), restated(x, f, *mix, False, 1.7))


def test_dtypes_and_formats(kernel, draw, dtype, memory_format, close):
    x, f = draw(2, 3, 9, 16, dtype=dtype, memory_format=memory_format), taps(4)
    y = kernel("upfirdn2d")(x, f.to(x.device), *MIXED, False, 1.7)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=memory_format)
    close(y, restated(x, f, *MIXED, False, 1.7))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(1,), (3,), (12,), (20,), (3, 4), (5, 2), (1, 1), (7, 6)])
def test_filters(shape, flip, kernel, draw, memory_format, close):
    x, f = draw(1, 4, 21, 16, memory_format=memory_format), taps(*shape)
    close(kernel("upfirdn2d")(x, f.to(x.device), *MIXED, flip, 0.5), restated(x, f, *MIXED, flip, 0.5))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 19, 131), (1, 67, 3, 41), (1, 129, 2, 3), (5, 5, 3, 2)])
@pytest.mark.parametrize("filter_shape,mix", [((4,), UP), ((3, 3), DOWN)])
def test_sizes_that_no_tile_divides(shape, filter_shape, mix, kernel, draw, memory_format, close):
    x, f = draw(*shape, memory_format=memory_format), taps(*filter_shape)
    close(kernel("upfirdn2d")(x, f.to(x.device), *mix, False, 1.0), restated(x, f, *mix, False, 1.0))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)])
def test_empty(shape, kernel, draw, close):
    y = kernel("upfirdn2d")(draw(*shape), taps(4).to(draw(1).device), (1, 1), (1, 1), (4, 4, 4, 4), False, 1.0)
    close(y, torch.zeros(*shape[:2], shape[2] + 5, shape[3] + 5))


@pytest.mark.parametrize("mix", [FILTER, UP, DOWN])
def test_strides(mix, kernel, draw, close):
    f = taps(4)
    for x in (draw(2, 5, 8, 16).transpose(2, 3), draw(2, 9, 16, 8).permute(0, 3, 1, 2)[:, ::2], draw(1, 5, 16, 8).expand(2, 5, 16, 8)):
        close(kernel("upfirdn2d")(x, f.to(x.device), *mix, False, 1.0), restated(x, f, *mix, False, 1.0))


@pytest.mark.parametrize("mix", [FILTER, UP, DOWN])
def test_nothing_outside_is_read(mix, kernel, draw, memory_format, close):
    values = draw(2, 3, 11, 16, memory_format=memory_format)
    surrounded = torch.full((3, values.numel()), torch.nan, device=values.device)
    x = torch.as_strided(surrounded, values.shape, values.stride(), values.numel()).copy_(values)
    f = taps(4)
    close(kernel("upfirdn2d")(x, f.to(x.device), *mix, False, 1.0), restated(x, f, *mix, False, 1.0))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("filter_shape,mix", [((12,), UP), ((4,), DOWN), ((4, 4), FILTER)])
def test_half_types_round_once(half, filter_shape, mix, kernel, target, draw, memory_format):
    """Taps that are no half precision numbers cost nothing: what is left is the rounding of the result, and float32's."""
    x, f = draw(1, 4, 13, 16, dtype=half, memory_format=memory_format), taps(*filter_shape)
    expected = restated(x, f, *mix, False, 1.0)
    error = (kernel("upfirdn2d")(x, f.to(x.device), *mix, False, 1.0).double().cpu() - expected).abs()
    interpreted = target == ("triton", "cpu")  # whose conversion to bfloat16 cuts off
    rounding = torch.finfo(half).eps / (1 if interpreted and half == torch.bfloat16 else 2)
    assert (error <= rounding * expected.abs() + 0.01 * rounding * expected.abs().max()).all()


@settings.get_profile("kernels")
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 8), st.integers(1, 20)),
    filter_shape=st.one_of(st.tuples(st.integers(1, 13)), st.tuples(st.integers(1, 6), st.integers(1, 6))),
    up=st.tuples(*[st.sampled_from((1, 2, 4))] * 2),
    down=st.tuples(*[st.sampled_from((1, 2, 4))] * 2),
    pads=st.tuples(*[st.integers(-6, 9)] * 4),
    flip=st.booleans(),
    channels_last=st.booleans(),
)
def test_agrees_with_matrices(shape, filter_shape, up, down, pads, flip, channels_last, kernel, draw, close):
    sides = [size * factor + sum(pads[2 * i : 2 * i + 2]) for i, (size, factor) in enumerate(zip(shape[2:], up, strict=True))]
    assume(sides[0] >= filter_shape[0] and sides[1] >= filter_shape[-1])
    x, f = draw(*shape, memory_format=torch.channels_last if channels_last else torch.contiguous_format), taps(*filter_shape)
    close(kernel("upfirdn2d")(x, f.to(x.device), up, down, pads, flip, 1.3), restated(x, f, up, down, pads, flip, 1.3))


@pytest.mark.parametrize("filter_shape,mix", [((4,), FILTER), ((4,), UP), ((2, 3), DOWN), ((3,), MIXED)])
def test_gradients_of_both_orders(filter_shape, mix, forced, draw, memory_format, close):
    """Of a square, so that the second order is not zero."""
    forced("upfirdn2d")
    x, f = draw(2, 3, 6, 8, memory_format=memory_format), taps(*filter_shape)
    results = []
    for function, leaf in ((upfirdn2d, x.clone()), (upfirdn2d_ref, x.double().cpu())):
        y = function(leaf.requires_grad_(), f.to(leaf.device), *mix, False, 1.3)
        if not results:
            cotangent, second = torch.randn(y.shape), torch.randn(x.shape)
        (dx,) = torch.autograd.grad(y.square(), leaf, cotangent.to(y), create_graph=True)
        (ddx,) = torch.autograd.grad(dx, leaf, second.to(dx))
        results.append((y, dx, ddx))
    for actual, expected in zip(*results, strict=True):
        scale = expected.abs().max().clamp(min=1)  # intermediate results were rounded too, to their own size
        close(actual / scale.to(actual), expected / scale)


@pytest.mark.parametrize(
    "d,noise,b,act,alpha,gain,clamp",
    [
        (True, 1, True, "lrelu", 0.2, 2**0.5, 1.0),
        (True, 2, True, "relu", 0.3, -2.0, 2.5),
        (False, 2, False, "linear", 0.0, 1.0, None),
        (False, 0, True, "lrelu", 0.1, 1.0, None),
    ],
)
def test_epilogue_that_filters(d, noise, b, act, alpha, gain, clamp, kernel, draw, dtype, memory_format, close):
    x, f, pads = draw(2, 19, 7, 9, dtype=dtype, memory_format=memory_format), taps(4), (1, 1, 2, 0)
    d = draw(2, 19, dtype=torch.float64 if dtype == torch.float64 else torch.float32) if d else None
    noise = draw(noise, 1, 6, 8, dtype=dtype) if noise else None
    b = draw(19, dtype=dtype) if b else None
    y = kernel("modulated_epilogue")(x, d, noise, b, f.to(x.device), pads, act, alpha, gain, clamp)
    z = restated(x, f, (1, 1), (1, 1), pads, False, 1.0)
    z = z if d is None else z * d.double().cpu()[:, :, None, None]
    z = z if noise is None else z + noise.double().cpu()
    z = z if b is None else z + b.double().cpu()[:, None, None]
    slope = {"linear": 1.0, "relu": 0.0, "lrelu": alpha}[act]
    z = gain * torch.where(z < 0, slope * z, z)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=memory_format)
    close(y, z if clamp is None else z.clamp(-clamp, clamp))


@pytest.mark.parametrize("filter_shape", [(3, 2), (20,)])
def test_epilogue_with_other_filters(filter_shape, kernel, draw, memory_format, close):
    x, f, b = draw(1, 2, 22, 23, memory_format=memory_format), taps(*filter_shape), draw(2)
    y = kernel("modulated_epilogue")(x, None, None, b, f.to(x.device), (1, 2, 0, 1), "linear", 0.0, 0.5, None)
    close(y, 0.5 * (restated(x, f, (1, 1), (1, 1), (1, 2, 0, 1), False, 1.0) + b.double().cpu()[:, None, None]))
