from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from facegan import backend
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


def correlated(x, taps, groups=1):
    """Valid correlation of [N, I, H, W] by [O, I / groups, KH, KW], tap by tap."""
    (n, _, h, w), (o, i, kh, kw) = x.shape, taps.shape
    x, taps = x.reshape(n, groups, i, h, w), taps.reshape(groups, o // groups, i, kh, kw)
    y = x.new_zeros(n, groups, o // groups, h - kh + 1, w - kw + 1)
    for a in range(kh):
        for b in range(kw):
            y = y + torch.einsum("ngihw,goi->ngohw", x[..., a : a + y.shape[3], b : b + y.shape[4]], taps[..., a, b])
    return y.flatten(1, 2)


def filtered(x, f, flip):
    f = (f if f.ndim == 2 else torch.outer(f, f)) if flip else (f if f.ndim == 2 else torch.outer(f, f)).flip(0, 1)
    return correlated(x, f.expand(x.shape[1], 1, *f.shape), x.shape[1])


def restated(x, weight, f, up, down, padding, groups, flip_weight, flip_filter):
    """The definition, in a plane with a wide margin of zeros on all sides, of which the layer's window is taken last."""
    margin, f = 12, torch.ones(1, 1, dtype=x.dtype) if f is None else f
    plane = x.new_zeros(*x.shape[:2], *(side * up + 2 * margin for side in x.shape[2:]))
    plane[:, :, margin : plane.shape[2] - margin : up, margin : plane.shape[3] - margin : up] = x
    sides, taps = [margin - p for p in padding], (f.shape[0], f.shape[-1])  # what is cut from the plane
    for axis, k in enumerate(taps):  # the window of either filter
        if up > 1:
            sides[2 * axis] -= (k + up - 1) // 2
            sides[2 * axis + 1] -= (k - up) // 2
        if down > 1:
            sides[2 * axis] -= (k - down + 1) // 2
            sides[2 * axis + 1] -= (k - down) // 2
    plane = plane if up == 1 else filtered(plane, f, flip_filter) * up * up
    plane = correlated(plane, weight if flip_weight else weight.flip(2, 3), groups)
    plane = plane if down == 1 else filtered(plane, f, flip_filter)
    assert min(sides) >= 0
    top, bottom, left, right = sides
    return plane[:, :, top : plane.shape[2] - bottom : down, left : plane.shape[3] - right : down]


FILTERS = [(1.0, 3.0, 3.0, 1.0), (1.0, 2.5, 2.0), [[1.0, 2.0, 0.5], [-1.0, 0.7, 3.0]]]
PADDINGS = [0, 1, 2, (1, 0, 2, 1), (-1, 2, 0, -1), -1]


@pytest.mark.parametrize("up,down", [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2), (3, 2), (2, 3)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (4, 4), (2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_resampling_is_its_definition(up, down, kernel, groups):
    for taps, padding, flip_weight, flip_filter in product(
        FILTERS if max(up, down) > 1 else [None], PADDINGS, [True, False], [True, False]
    ):
        if taps is None and flip_filter:
            continue
        x, weight = torch.randn(1, 4, 8, 9, dtype=torch.float64), torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
        f = None if taps is None else setup_filter(taps).double()
        sides = (padding,) * 4 if isinstance(padding, int) else padding
        options = dict(up=up, down=down, groups=groups, flip_weight=flip_weight, flip_filter=flip_filter)
        y = conv2d_resample(x, weight, f, padding=padding, **options)
        torch.testing.assert_close(y, restated(x, weight, f, padding=sides, **options))


@pytest.mark.parametrize(
    "options",
    [
        dict(up=2, flip_weight=False, padding=1),
        dict(up=2, groups=2, padding=(1, 0, 2, 1), flip_filter=True),
        dict(down=2, groups=2, flip_weight=False, padding=1),
        dict(groups=4, flip_weight=False, padding=(1, 0, -1, 2)),
        dict(up=2, down=3, padding=1),
    ],
)
def test_gradients_of_resampling(options):
    x = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 4 // options.get("groups", 1), 3, 3, dtype=torch.float64, requires_grad=True)
    f = setup_filter(FILTERS[1]).double()
    assert torch.autograd.gradcheck(lambda x, w: conv2d_resample(x, w, f, **options), (x, weight))
    assert torch.autograd.gradgradcheck(lambda x, w: conv2d_resample(x, w, f, **options), (x, weight), fast_mode=True)


def test_a_convolving_layer_that_enlarges_flips_nothing(monkeypatch):
    if backend.unavailable("upfirdn2d", "native", "cpu"):
        pytest.skip("the reference flips its filter")
    monkeypatch.setattr(torch.Tensor, "flip", lambda *_: pytest.fail("the weight was flipped"))
    y = conv2d_resample(torch.randn(1, 3, 4, 4), torch.randn(2, 3, 3, 3), setup_filter(), up=2, padding=1, flip_weight=False)
    assert y.shape == (1, 2, 8, 8)


@pytest.mark.parametrize("options", [dict(up=2, groups=2), dict(down=2, flip_weight=False), dict(padding=(1, 0, 2, -1))])
def test_resampling_compiles_whole_and_keeps_the_format(options):
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, f = torch.randn(4, 4 // options.get("groups", 1), 3, 3, requires_grad=True), setup_filter()
    y = conv2d_resample(x, weight, f, **options)
    assert y.is_contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(lambda x, w: conv2d_resample(x, w, f, **options), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, weight), y)


@pytest.mark.parametrize("options", [dict(), dict(up=2), dict(down=2), dict(padding=(1, 1, 2, 0))])
def test_resampling_of_no_images(options):
    x, weight = torch.randn(0, 3, 6, 6, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    y = conv2d_resample(x, weight, setup_filter(), **{"padding": 1, **options})
    assert y.shape[:2] == (0, 4)
    y.sum().backward()
    assert not weight.grad.any() and x.grad.shape == x.shape


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
    for factors in (dict(up=2), dict(down=3), dict(up=2, down=2)):
        with pytest.raises(FaceganError, match="f is None; expected a filter"):
            conv2d_resample(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 3, 3), **factors)
    with pytest.raises(FaceganError, match=r"padding \(-2, -2, -2, -2\), up 1 and down 1 is too small"):
        conv2d_resample(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 3, 3), padding=-2)
    with pytest.raises(FaceganError, match=r"x of 4 x 4 pixels with padding \(-1, -1, -1, -1\), up 2 and down 5 .* kernel of 3 x 3"):
        conv2d_resample(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 3, 3), setup_filter(), up=2, down=5, padding=-1)
    with pytest.raises(FaceganError, match=r"padding is \(1, 2, 3\); expected p, \(vertical, horizontal\)"):
        conv2d_resample(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 3, 3), padding=(1, 2, 3))
    with pytest.raises(FaceganError, match="x has 3 channels; expected 6"):
        conv2d_resample(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 3, 3), groups=2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_where_the_one_output_channel_has_a_stride_of_its_own(dtype, memory_format):
    """Slices and flips leave such strides; PyTorch's own backward pass takes them for another format."""
    torch.manual_seed(3)
    x = torch.randn(3, 4, 4, 3, dtype=dtype).contiguous(memory_format=memory_format).requires_grad_()
    w = torch.empty_strided((1, 4, 3, 3), (4, 1, 12, 4), dtype=dtype).normal_().requires_grad_()
    g = torch.randn(3, 1, 1, 1, dtype=dtype)
    found = torch.autograd.grad(conv2d(x, w, stride=2), [x, w], g)
    wide = [t.detach().double().contiguous().requires_grad_() for t in (x, w)]
    expected = torch.autograd.grad(F.conv2d(*wide, stride=2), wide, g.double())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(
            a.double(), b, rtol=0.02 if dtype == torch.bfloat16 else 1e-12, atol=0.02 if dtype == torch.bfloat16 else 1e-12
        )
