from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facegan.errors import FaceganError
from facegan.ops import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d


def restated(x, f, up, down, pads, flip, gain):
    """Zero-insert, pad or crop, correlate with the (flipped) filter, decimate: loops over taps, nothing clever."""
    x, f = x.double().numpy(), f.double().numpy()
    f = np.outer(f, f) if f.ndim == 1 else f
    n, c, h, w = x.shape
    z = np.zeros((n, c, h * up[0], w * up[1]))
    z[:, :, :: up[0], :: up[1]] = x
    top, bottom, left, right = pads
    z = np.pad(z, ((0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
    z = z[:, :, max(-top, 0) : z.shape[2] - max(-bottom, 0), max(-left, 0) : z.shape[3] - max(-right, 0)]
    taps = f if flip else f[::-1, ::-1]
    oh, ow = z.shape[2] - taps.shape[0] + 1, z.shape[3] - taps.shape[1] + 1
    y = sum(taps[i, j] * z[:, :, i : i + oh, j : j + ow] for i in range(taps.shape[0]) for j in range(taps.shape[1]))
    return torch.from_numpy(np.ascontiguousarray(y[:, :, :: down[0], :: down[1]] * gain))


def operator(x, f, up=(1, 1), down=(1, 1), pads=(0, 0, 0, 0), flip=False, gain=1.0):
    return torch.ops.facegan_reference.upfirdn2d(x, f, up, down, pads, flip, gain)


factor = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    taps=st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 5), st.integers(1, 5))),
    up=factor,
    down=factor,
    pads=st.tuples(*[st.integers(-2, 6)] * 4),
    flip=st.booleans(),
    channels_last=st.booleans(),
)
def test_agrees_with_numpy(shape, taps, up, down, pads, flip, channels_last, tolerance):
    kh, kw = (taps, taps) if isinstance(taps, int) else taps
    side = [s * u + pads[2 * i] + pads[2 * i + 1] for i, (s, u) in enumerate(zip(shape[2:], up, strict=True))]
    assume(side[0] >= kh and side[1] >= kw)
    # a crop may not eat more than the image, or numpy's slices would mean something else
    assume(all(min(p, 0) + s * u >= 0 for p, s, u in zip(pads, np.repeat(shape[2:], 2), np.repeat(up, 2), strict=True)))
    x, f = torch.randn(shape, dtype=torch.float64), torch.randn(taps, dtype=torch.float64)
    expected = restated(x, f, up, down, pads, flip, 1.7)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    for y in (upfirdn2d(x, f, up, down, pads, flip, 1.7), operator(x, f, up, down, pads, flip, 1.7)):
        torch.testing.assert_close(y, expected, **tolerance(torch.float64))


@pytest.mark.parametrize("factor", [1, 2, (1, 3), (3, 2)])
@pytest.mark.parametrize("padding,sides", [(0, (0,) * 4), (2, (2,) * 4), ((1, -1), (1, 1, -1, -1)), ((2, 0, -1, 1), (2, 0, -1, 1))])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("taps", [None, 3, 4, (2, 5)])
def test_resamplers_are_centred_windows(factor, padding, sides, flip, taps):
    """Of the filtered plane, on all sides of which there are zeros, by factors and paddings of either axis."""
    x, f = torch.randn(2, 3, 6, 7, dtype=torch.float64), None if taps is None else torch.randn(taps, dtype=torch.float64)
    given = torch.ones(1, dtype=torch.float64) if f is None else f
    pair = (factor, factor) if isinstance(factor, int) else factor
    (top, bottom, left, right), (kh, kw) = sides, (given.shape[0], given.shape[-1])
    (uh, uw), margin = pair, 9
    y = upsample2d(x, f, factor, padding, flip_filter=flip, gain=0.7)
    # the plane's pixel [i] looks at K pixels from i on; the first K + up - 1 halved come before x
    plane = restated(x, given, pair, (1, 1), (margin,) * 4, flip, 0.7 * uh * uw)
    first = (margin - top - (kh + uh - 1) // 2, margin - left - (kw + uw - 1) // 2)
    sizes = (6 * uh + top + bottom, 7 * uw + left + right)
    expected = plane[:, :, first[0] : first[0] + sizes[0], first[1] : first[1] + sizes[1]]
    torch.testing.assert_close(y, expected)
    y = downsample2d(x, f, factor, padding, flip_filter=flip, gain=0.7)
    plane = restated(x, given, (1, 1), (1, 1), (margin,) * 4, flip, 0.7)
    first = (margin - top - (kh - uh + 1) // 2, margin - left - (kw - uw + 1) // 2)
    sizes = (6 + top + bottom, 7 + left + right)
    expected = plane[:, :, first[0] :: uh, first[1] :: uw][:, :, : sizes[0] // uh, : sizes[1] // uw]
    torch.testing.assert_close(y, expected)
    if factor == 1:
        torch.testing.assert_close(filter2d(x, f, padding, flip, 0.7), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("resample", [upsample2d, downsample2d, filter2d])
def test_dtypes_and_formats(dtype, resample, tolerance):
    f = setup_filter()
    x = torch.randn(2, 13, 7, 6).to(dtype)
    expected = resample(x.double(), f)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = resample(x.contiguous(memory_format=memory_format), f)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(y.double(), expected, **tolerance(dtype))
    strided = torch.randn(2, 13, 6, 7).to(dtype).transpose(2, 3)
    torch.testing.assert_close(resample(strided, f), resample(strided.contiguous(), f))


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 1), (1, 7, 21, 35, 35, 21, 7, 1)])
def test_resampling_keeps_size_and_brightness(taps):
    f, ones = setup_filter(taps), torch.ones(1, 1, 32, 24)
    assert upsample2d(ones, f).shape == (1, 1, 64, 48)
    assert downsample2d(ones, f).shape == (1, 1, 16, 12)
    assert filter2d(ones, f).shape == ones.shape
    if len(taps) % 2 == 0:  # an odd filter is not centred between two pixels: its two phases differ
        torch.testing.assert_close(upsample2d(ones, f)[:, :, 24:40, 20:28], torch.ones(1, 1, 16, 8))
    torch.testing.assert_close(downsample2d(ones, f)[:, :, 4:12, 4:8], torch.ones(1, 1, 8, 4))


def test_upsampling_by_1331_is_bilinear_inside():
    x = torch.randn(1, 2, 6, 5)
    expected = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(upsample2d(x, setup_filter())[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize("function", [upfirdn2d, operator])
@pytest.mark.parametrize(
    "up,down,pads",
    [((1, 1), (1, 1), (1, 2, 2, 1)), ((2, 2), (1, 1), (2, 1, 2, 1)), ((1, 1), (2, 2), (1, 1, 1, 1)), ((2, 3), (3, 2), (4, -1, 2, 3))],
)
def test_gradients_of_both_orders(function, up, down, pads):
    x = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    for f in (torch.randn(3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)):
        assert torch.autograd.gradcheck(lambda x, f=f: function(x, f, up, down, pads, True, 1.3), x)
        assert torch.autograd.gradgradcheck(lambda x, f=f: function(x, f, up, down, pads, False, 1.3), x)


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck(channels_last):
    x = torch.randn(2, 3, 6, 5)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    for up, down, pads in (([2, 2], [1, 1], [2, 1, 2, 1]), ([1, 1], [2, 2], [1, 1, 1, 1]), ([2, 1], [1, 3], [3, 0, -1, 2])):
        arguments = (x, setup_filter(), up, down, pads, False, 1.5)
        torch.library.opcheck(torch.ops.facegan_reference.upfirdn2d.default, arguments)


@pytest.mark.parametrize("function", [upsample2d, downsample2d, lambda x, f: operator(x, f, (2, 2), (1, 1), (2, 1, 2, 1))])
def test_compiles_whole(function):
    x, f = torch.randn(2, 3, 4, 4, requires_grad=True), setup_filter()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    y = function(x, f)
    cotangent = torch.randn_like(y)
    torch.testing.assert_close(compiled(x, f), y)
    expected = torch.autograd.grad(y, x, cotangent)
    torch.testing.assert_close(torch.autograd.grad(compiled(x, f), x, cotangent), expected)


def test_no_channels():
    x = torch.randn(2, 0, 4, 4, requires_grad=True)
    y = upfirdn2d(x, setup_filter(), up=2, padding=(2, 1, 2, 1))
    assert y.shape == (2, 0, 8, 8)
    y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    "arguments,words",
    [
        (dict(x=torch.zeros(3, 4, 4)), r"x is torch.float32 \[3, 4, 4\]"),
        (dict(f=torch.zeros(2, 2, 2)), r"f has shape \[2, 2, 2\]"),
        (dict(f=torch.ones(3, requires_grad=True)), "f requires a gradient"),
        (dict(up=0), "up is 0"),
        (dict(down=(1, 2, 3)), r"down is \(1, 2, 3\)"),
        (dict(padding=(1, 2, 3)), r"padding is \(1, 2, 3\)"),
        (dict(padding=-2), "smaller than the filter"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(FaceganError, match=words):
        upfirdn2d(**{"x": torch.zeros(1, 1, 4, 4), "f": setup_filter(), **arguments})


def test_setup_filter_rejects_what_is_no_filter():
    with pytest.raises(FaceganError, match=r"taps have shape \[0\]"):
        setup_filter(())


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], list(range(1, 9))])
def test_autocast_leaves_the_dtype(path, taps):
    x = torch.randn(1, 2, 6, 5)
    f = setup_filter(taps)
    with torch.autocast("cpu", torch.bfloat16):
        y = upfirdn2d(x, f, padding=3)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, upfirdn2d(x, f, padding=3))
