"""filtered_lrelu against a restatement in float64 that inserts zeros by index, convolves one axis after the other and cuts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facegan.backend import use_backend
from facegan.errors import FaceganError
from facegan.ops import filtered_lrelu, modulated_conv2d
from facegan.ops.registration import operators


def filtered(v, f, flip):
    """v [N, C, H, W] convolved with f [K] or [KH, KW] wherever it fits."""
    if f is None:
        return v
    for kernel in [f[:, None], f[None, :]] if f.ndim == 1 else [f]:
        kernel = kernel.double() if flip else kernel.double().flip(0, 1)
        v = F.conv2d(v.flatten(0, 1)[:, None], kernel[None, None]).unflatten(0, v.shape[:2])[:, :, 0]
    return v


def restated(x, fu, fd, b=None, up=1, down=1, pads=(0, 0, 0, 0), gain=2**0.5, slope=0.2, clamp=None, flip=False):
    """Differentiable in x and b, which are float64; pads are (top, bottom, left, right)."""
    n, c, h, w = x.shape
    z = x.new_zeros(n, c, h * up, w * up)
    z[:, :, ::up, ::up] = x if b is None else x + b.view(1, -1, 1, 1)
    v = filtered(F.pad(z, (pads[2], pads[3], pads[0], pads[1])), fu, flip) * up**2
    v = F.leaky_relu(v, slope) * gain
    v = v if clamp is None else v.clamp(-clamp, clamp)
    return filtered(v, fd, flip)[:, :, ::down, ::down]


def taps(*shape):
    return torch.randn(shape, dtype=torch.float64) / math.prod(shape) ** 0.5


def map_of(*shape, **options):
    return torch.randn(shape, dtype=torch.float64, **options)


# fu, fd, up, down, pads (top, bottom, left, right), flip: StyleGAN3's (T, then R's radial fd), its critically sampled, and odd ones
CASES = {
    "T": ((12,), (12,), 2, 2, (9, 8, 9, 8), False),
    "T up": ((24,), (12,), 4, 2, (12, 11, 12, 11), False),
    "R": ((12,), (12, 12), 2, 2, (9, 8, 9, 8), False),
    "critical": ((12,), None, 2, 1, (6, 5, 6, 5), False),
    "toRGB": (None, None, 1, 1, (0, 0, 0, 0), False),
    "down": (None, (12,), 1, 2, (6, 6, 7, 7), True),
    "odd": ((3, 5), (4, 2), 3, 2, (5, -1, 2, 6), True),
    "cropped": ((5,), (3,), 2, 3, (-3, 2, 4, -1), False),
}


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "b,gain,slope,clamp", [(True, 2**0.5, 0.2, None), (True, 1.7, 0.0, 0.6), (False, -0.8, -0.3, 0.5), (False, 0.0, 1.5, None)]
)
def test_values_and_gradients_of_both_orders(path, case, b, gain, slope, clamp, channels_last):
    fu, fd, up, down, pads, flip = CASES[case]
    fu, fd = (None if shape is None else taps(*shape) for shape in (fu, fd))
    x = map_of(2, 3, 7, 6)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    b = map_of(3).requires_grad_() if b else None
    leaves = [x] if b is None else [x, b]
    options = (up, down, pads, gain, slope, clamp, flip)
    results = []
    for function in (filtered_lrelu, restated):
        y = function(x, fu, fd, b, *options)
        if not results:
            cotangent, seconds = torch.randn_like(y), [torch.randn_like(leaf) for leaf in leaves]
        first = torch.autograd.grad(y.square(), leaves, cotangent, create_graph=True)  # of a square, so that the second is not zero
        second = torch.autograd.grad(first, leaves, seconds, allow_unused=True, materialize_grads=True)
        results.append((y, *first, *second))
    assert results[0][0].is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    filters=st.tuples(*[st.one_of(st.none(), st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 5), st.integers(1, 5)))] * 2),
    factors=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pads=st.tuples(*[st.integers(-2, 9)] * 4),
    flip=st.booleans(),
    adjoint=st.booleans(),
)
def test_agrees_with_the_definition(shape, filters, factors, pads, flip, adjoint):
    """And the registered operators with its derivative and the derivative's transpose."""
    sides = [size * factors[0] + pads[2 * i] + pads[2 * i + 1] for i, size in enumerate(shape[2:])]
    reach = [sum(1 if f is None else f[i if len(f) == 2 else 0] for f in filters) - 1 for i in range(2)]
    assume(all(side >= taps for side, taps in zip(sides, reach, strict=True)))
    # a crop may not eat more than the image, or F.pad refuses it
    assume(all(min(pads[i], 0) + shape[2 + i // 2] * factors[0] >= 0 for i in range(4)))
    assume(all(min(pads[i], 0) + min(pads[i + 1], 0) + shape[2 + i // 2] * factors[0] > 0 for i in (0, 2)))
    fu, fd = (None if f is None else taps(*f) for f in filters)
    x, b, options = map_of(*shape, requires_grad=True), map_of(shape[1]), (*factors, pads, 1.3, 0.2, 0.8, flip)
    y = restated(x, fu, fd, b, *options)
    torch.testing.assert_close(filtered_lrelu(x, fu, fd, b, *options), y)
    with use_backend("reference"):
        torch.testing.assert_close(filtered_lrelu(x, fu, fd, b, *options), y)
    a = torch.randn_like(y).requires_grad_()
    (expected,) = torch.autograd.grad(y, x, a, create_graph=True)
    if not adjoint:  # J as the derivative of J^T a in the direction of v
        v = torch.randn_like(x)
        (expected,) = torch.autograd.grad(expected, a, v)
        a = v
    one = x.new_ones(1)
    found = operators("reference").filtered_lrelu_slope(a, x, one if fu is None else fu, one if fd is None else fd, b, *options, adjoint)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", ["T", "R", "critical", "odd"])
@pytest.mark.parametrize("slope,gain,clamp", [(0.2, 1.4, 1.1), (-0.5, -0.7, None)])
def test_gradcheck(path, case, slope, gain, clamp):
    fu, fd, up, down, pads, flip = CASES[case]
    fu, fd = (None if shape is None else taps(*shape) for shape in (fu, fd))
    x, b = map_of(1, 2, 4, 3).requires_grad_(), map_of(2).requires_grad_()
    if case == "critical":  # whose largest map is its result
        x, b = x.detach()[:, :, :2, :2].requires_grad_(), b
    function = lambda x, b: filtered_lrelu(x, fu, fd, b, up, down, pads, gain, slope, clamp, flip)  # noqa: E731
    keep_off_kinks(x, b, fu, up, pads, flip, gain, slope, clamp)
    assert torch.autograd.gradcheck(function, (x, b))
    assert torch.autograd.gradgradcheck(lambda x, b: function(x, b).square(), (x, b))


def keep_off_kinks(x, b, fu, up, pads, flip, gain, slope, clamp):
    """Finite differences need every value of the upsampled map to be on one side of act's steps: shift x until they are."""
    for _ in range(200):
        v = restated(x, fu, None, b, up, 1, pads, 1.0, 1.0, None, flip).detach()
        y = (gain * F.leaky_relu(v, slope)).abs()
        if v[v != 0].abs().min() > 1e-4 and (clamp is None or (y - clamp).abs().min() > 1e-4):
            return
        with torch.no_grad():
            x += 0.01 * torch.randn_like(x)
    pytest.fail("every shift of x leaves a value at a step")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["T", "R"])
def test_dtypes_and_formats(path, dtype, case, tolerance):
    fu, fd, up, down, pads, flip = CASES[case]
    fu, fd = (torch.rand(shape) / sum(shape) for shape in (fu, fd))
    x, b = torch.randn(2, 13, 7, 6).to(dtype), torch.randn(13)
    expected = restated(x.double(), fu, fd, b.to(dtype).double(), up, down, pads)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = filtered_lrelu(x.contiguous(memory_format=memory_format), fu, fd, b, up, down, pads)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=memory_format)
        scale = expected.abs().max()  # intermediate maps are rounded too, to their own size
        torch.testing.assert_close(y.double() / scale, expected / scale, **tolerance(dtype))
    strided = torch.randn(2, 13, 6, 7).to(dtype).transpose(2, 3)
    torch.testing.assert_close(
        filtered_lrelu(strided, fu, fd, b, up, down, pads), filtered_lrelu(strided.clone(), fu, fd, b, up, down, pads)
    )


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
def test_empty(path, shape):
    x, b = torch.randn(shape, requires_grad=True), torch.randn(shape[1], requires_grad=True)
    y = filtered_lrelu(x, torch.rand(4), torch.rand(4), b, 2, 2, 6, clamp=1.0)
    assert y.shape == (*shape[:2], (shape[2] * 2 + 12 - 6) // 2, 7)
    assert not y.any()
    for gradient in torch.autograd.grad(y.sum(), (x, b), allow_unused=True, materialize_grads=True):
        assert not gradient.any()


def test_padding_stays_zero_under_a_bias(path):
    """And a clamp of zero leaves nothing, nor does a gain of zero."""
    x, b = torch.zeros(1, 1, 2, 2), torch.ones(1)
    y = filtered_lrelu(x, None, None, b, padding=1, gain=1.0)
    torch.testing.assert_close(y[0, 0], F.pad(torch.ones(2, 2), (1, 1, 1, 1)))
    for option in (dict(clamp=0.0), dict(gain=0.0)):
        leaf = torch.randn(1, 1, 3, 3, requires_grad=True)
        y = filtered_lrelu(leaf, torch.rand(4), torch.rand(4), b, 2, 2, (4, 3), **option)
        assert not y.any()


def test_padding_in_three_forms(path):
    x, fu, fd = torch.randn(1, 2, 5, 4), torch.rand(4), torch.rand(3)
    for short, whole in ((2, (2, 2, 2, 2)), ((3, 1), (3, 3, 1, 1)), ([0, 1, 2, -1], (0, 1, 2, -1))):
        torch.testing.assert_close(
            filtered_lrelu(x, fu, fd, None, 2, 1, short), restated(x.double(), fu, fd, None, 2, 1, whole).float(), rtol=1e-5, atol=1e-5
        )


def test_a_backward_pass_keeps_x_alone(path):
    """And no map of the upsampled size."""
    if path == "reference":
        pytest.skip("PyTorch's own graph keeps what it keeps")
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        filtered_lrelu(torch.randn(2, 3, 8, 8, requires_grad=True), torch.rand(12), torch.rand(12), torch.randn(3), 2, 2, (9, 8))
    assert sum(kept) == 2 * 3 * 8 * 8 + 12 + 12 + 3


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck(channels_last):
    x, b = torch.randn(2, 3, 5, 4), torch.randn(3, requires_grad=True)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    ops = operators("reference")
    for fu, fd, up, down, pads in ((4, 4, 2, 2, [3, 2, 3, 2]), (1, 3, 1, 3, [0, 1, 2, -1])):
        arguments = (torch.rand(fu), torch.rand(fd, fd), b, up, down, pads, 1.4, 0.2, 0.9, False)
        torch.library.opcheck(ops.filtered_lrelu.overload, (x, *arguments))
        y = ops.filtered_lrelu(x, *arguments).detach()
        torch.library.opcheck(ops.filtered_lrelu_slope.overload, (y.requires_grad_(), x, *arguments, True))
        torch.library.opcheck(ops.filtered_lrelu_slope.overload, (x.detach().requires_grad_(), x, *arguments, False))


def test_compiles_whole(path):
    fu, fd = torch.rand(4), torch.rand(4)
    x, b = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(3, requires_grad=True)

    def function(x, b):
        return filtered_lrelu(x, fu, fd, b, 2, 2, (3, 2), clamp=1.0)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    y = function(x, b)
    cotangent = torch.randn_like(y)
    torch.testing.assert_close(compiled(x, b), y)
    expected = torch.autograd.grad(y, (x, b), cotangent)
    torch.testing.assert_close(torch.autograd.grad(compiled(x, b), (x, b), cotangent), expected)


@pytest.mark.parametrize("taps_", [4, 12])
def test_autocast_leaves_the_dtype(path, taps_):
    x, f = torch.randn(1, 2, 6, 5), torch.rand(taps_)
    with torch.autocast("cpu", torch.bfloat16):
        y = filtered_lrelu(x, f, f, None, 2, 2, taps_)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, filtered_lrelu(x, f, f, None, 2, 2, taps_))


@pytest.mark.parametrize(
    "arguments,words",
    [
        (dict(x=torch.zeros(3, 4, 4)), r"x is torch.float32 \[3, 4, 4\]"),
        (dict(x=torch.zeros(1, 2, 4, 4, dtype=torch.int32)), "x is torch.int32"),
        (dict(fu=torch.zeros(2, 2, 2)), r"fu has shape \[2, 2, 2\]"),
        (dict(fd=torch.zeros(0)), r"fd has shape \[0\]"),
        (dict(fd=torch.ones(3, requires_grad=True)), r"fd requires a gradient, .*fd.detach\(\)"),
        (dict(b=torch.zeros(3)), r"b has shape \[3\]; expected \[2\]"),
        (dict(up=0), "up is 0"),
        (dict(down=(1, 2)), r"down is \(1, 2\)"),
        (dict(padding=(1, 2, 3)), r"padding is \(1, 2, 3\)"),
        (dict(padding=-2), "smaller than the filters"),
        (dict(fu=torch.ones(4), padding=(1, 1)), "smaller than the filters"),
        (dict(fd=torch.ones(9)), "smaller than the filters"),
        (dict(gain=math.inf), "gain is inf"),
        (dict(slope=math.nan), "slope is nan"),
        (dict(clamp=-1.0), "clamp is -1.0"),
        (dict(clamp=math.nan), "clamp is nan"),
    ],
)
def test_bad_arguments(arguments, words):
    if arguments.get("padding") == (1, 1):
        arguments = {**arguments, "x": torch.zeros(1, 2, 1, 1)}
    with pytest.raises(FaceganError, match=words):
        filtered_lrelu(**{"x": torch.zeros(1, 2, 4, 4), **arguments})


def test_a_layer_of_stylegan3(path):
    """StyleGAN3-T's second layer of a 32 px network: modulated convolution, then the nonlinearity at twice the rate."""
    x, weight, s, b = map_of(1, 8, 36, 36), map_of(6, 8, 3, 3), map_of(1, 8), map_of(6)
    fu, fd = taps(12), taps(12)
    leaves = [t.requires_grad_() for t in (x, weight, s, b)]

    def restated_layer(x, weight, s, b):
        w = weight * s.view(1, -1, 1, 1)
        w = w * (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        return restated(F.conv2d(x, w, padding=2), fu, fd, b, 2, 2, (9, 8, 9, 8), clamp=256.0)

    def layer(x, weight, s, b):
        return filtered_lrelu(modulated_conv2d(x, weight, s, padding=2), fu, fd, b, 2, 2, (9, 8, 9, 8), clamp=256.0)

    results = []
    for function in (layer, restated_layer):
        y = function(*leaves)
        if not results:
            assert y.shape == (1, 6, 36, 36)
            cotangent, seconds = torch.randn_like(y), [torch.randn_like(leaf) for leaf in leaves]
        first = torch.autograd.grad(y.square(), leaves, cotangent, create_graph=True)
        results.append((y, *first, *torch.autograd.grad(first, leaves, seconds)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
