"""Memory formats: results have x's, with the strides that fake kernels tell, also where shapes make the two formats one."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from facegan import backend
from facegan.ops import (
    adain,
    adain_affine,
    bias_act,
    conv2d,
    conv2d_resample,
    downsample2d,
    filter2d,
    filtered_lrelu,
    modulated_conv2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)
from facegan.ops.formats import empty_like_format, following, suggests_channels_last, to_dense
from facegan.ops.formats import memory_format as channels_last_or_rows
from facegan.ops.registration import operators

FIR = setup_filter()
FORMATS = [torch.contiguous_format, torch.channels_last]
# strides of the two formats are the same, or either could be meant
AMBIGUOUS = [(4, 1, 8, 8), (4, 8, 1, 1), (1, 8, 8, 8), (1, 1, 1, 1), (1, 8, 1, 8), (1, 1, 8, 1), (4, 1, 1, 8), (2, 3, 4, 4)]
AMBIGUOUS += [(0, 3, 4, 4), (2, 0, 4, 4)]


def formatted(shape, memory_format, **options):
    """Exactly as torch.empty lays it out."""
    return torch.empty(shape, memory_format=memory_format, **options).copy_(torch.randn(shape))


@pytest.fixture(params=["reference", "native", "triton"])
def ops(request):
    """The registered operators of a backend."""
    for op in backend.ops():
        reason = backend.unavailable(op, request.param, "cpu")
        if reason is not None:
            pytest.skip(reason)
    return operators(request.param)


def strided(shape):
    """Tensors of a shape with strides of every order, some with gaps."""
    for order in itertools.permutations(range(4)):
        place = [order.index(d) for d in range(4)]
        x = torch.randn([shape[d] for d in order]).permute(place)
        yield x
        yield torch.randn([shape[d] + 1 for d in order]).permute(place)[tuple(slice(0, size) for size in shape)]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), *AMBIGUOUS], ids=str)
def test_the_rule_is_that_of_pytorch(shape):
    """Pooling by single pixels lays its result out by at::Tensor::suggest_memory_format."""
    if 0 in shape:
        pytest.skip("nothing to pool")
    for x in strided(shape):
        pooled = F.max_pool2d(x, 1)
        assert empty_like_format(x).stride() == pooled.stride(), x.stride()
        assert to_dense(x).stride() == pooled.stride()
        torch.testing.assert_close(to_dense(x), x, rtol=0, atol=0)


def calls(shape, memory_format):
    """(operator, arguments) of each registered operator that has maps, at one shape."""
    n, c, h, w = shape
    x, y, g = (formatted(shape, memory_format) for _ in range(3))
    other = formatted(shape, torch.channels_last if memory_format is torch.contiguous_format else torch.contiguous_format)
    s, b, noise = torch.rand(n, c) + 0.5, torch.randn(c), torch.randn(1, 1, h, w)
    act, limited = ("lrelu", 0.2, 1.0, None), ("tanh", 0.2, 1.0, 0.9)
    pads, ones = (2, 1, 2, 1), (1, 1)
    yield "bias_act", (x, b, 1, *act)
    yield "bias_act", (x, None, 1, *limited)
    yield "bias_act_backward", (g, other, 1, True, *act)
    yield "bias_act_double_backward", (other, b, g, y, 1, *limited)
    yield "upfirdn2d", (x, FIR, (2, 2), ones, pads, False, 4.0)
    yield "upfirdn2d", (x, FIR, ones, (2, 2), pads, True, 1.0)
    options = (FIR, FIR, b, 2, 2, (4, 3, 4, 3), 1.4, 0.2, 0.9, False)
    yield "filtered_lrelu", (x, *options)
    yield "filtered_lrelu_slope", (g, other, *options, False)
    yield "filtered_lrelu_slope", (formatted((n, c, h + 1, w + 1), memory_format), other, *options[:5], (5, 5, 5, 5), *options[6:], True)
    yield "adain", (x, other, 0.7, None, 1e-5)
    yield "adain_backward", (g, x, other, 0.7, None, 1e-5)
    yield "adain_affine", (x, s, s, 1e-5)
    yield "adain_affine_backward", (other, x, s, 1e-5)
    yield "modulate", (x, s)
    yield "modulate_backward", (g, other, s)
    yield "modulated_epilogue", (x, s, noise, b, None, (0, 0, 0, 0), *act)
    yield "modulated_epilogue", (x, s, None, b, FIR, pads, *act)
    yield "regional_epilogue", (x, torch.rand(n, 2, c), torch.rand(1, 1, h, w), noise, b, None, (0, 0, 0, 0), other, None, *act)
    yield "regional_epilogue", (x, torch.rand(n, 1, c), None, None, b, FIR, pads, other, noise, *act)
    yield "modulated_epilogue_backward", (g, other, s, noise, 1, *act)
    yield "modulated_epilogue_double_backward", (other, torch.randn(3, n, c), noise, g, other, s, noise, *act)
    rgb = torch.randn(n, 3, c)
    yield "pointwise", (x, rgb)
    yield "pointwise_backward", (formatted((n, 3, h, w), memory_format), other, rgb)
    if n and c:
        weight = torch.randn(5, c, 3, 3)
        yield "prepacked_conv2d", (x, weight, 1, 1, False, True)


@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("shape", AMBIGUOUS, ids=str)
def test_fake_kernels_tell_the_strides(ops, shape, memory_format):
    for name, arguments in calls(shape, memory_format):
        if 0 in shape and ops.backend == "reference" and name.startswith("adain"):
            continue  # the statistics of nothing: PyTorch warns
        overload = getattr(ops, name).overload
        with torch.no_grad():
            found = overload(*arguments)
        with FakeTensorMode() as mode:
            told = overload(*(mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments))
        for real, fake in zip(*((v,) if isinstance(v, torch.Tensor) else v for v in (found, told)), strict=True):
            assert (real.shape, real.stride(), real.dtype) == (tuple(fake.shape), fake.stride(), fake.dtype), name


PUBLIC = {
    "bias_act": lambda x, s: bias_act(x, s[0]),
    "upfirdn2d": lambda x, s: upfirdn2d(x, FIR, padding=(2, 1, 2, 1)),
    "upsample2d": lambda x, s: upsample2d(x, FIR),
    "downsample2d": lambda x, s: downsample2d(x, FIR, padding=1),
    "filter2d": lambda x, s: filter2d(x, FIR),
    "filtered_lrelu": lambda x, s: filtered_lrelu(x, FIR, FIR, s[0], 2, 2, (4, 3)),
    "adain": lambda x, s: adain(x, 2 * x + 1),
    "adain_affine": lambda x, s: adain_affine(x, s, s),
    "conv2d": lambda x, s: conv2d(x, weight_of(x, 3), padding=1),
    "conv2d_resample": lambda x, s: conv2d_resample(x, weight_of(x, 3), FIR, up=2, padding=1),
    "modulated_conv2d": lambda x, s: modulated_conv2d(x, weight_of(x, 3), s, padding=1, act="lrelu"),
    "modulated_conv2d up": lambda x, s: modulated_conv2d(x, weight_of(x, 3), s, padding=1, up=2, act="lrelu"),
    "toRGB": lambda x, s: modulated_conv2d(x, weight_of(x, 1)[:3], s, demodulate=False),
    "regional": lambda x, s: modulated_conv2d(x, weight_of(x, 3), two(s), padding=1, act="lrelu", masks=half(x)),
    "regional up": lambda x, s: modulated_conv2d(x, weight_of(x, 3), two(s), padding=1, up=2, masks=half(x, 2)),
    "blended": lambda x, s: modulated_conv2d(x, weight_of(x, 3), two(s), padding=1, act="lrelu", masks=half(x), blend=True),
    "regional toRGB": lambda x, s: modulated_conv2d(x, weight_of(x, 1)[:3], two(s), demodulate=False, masks=half(x)),
}


def two(s):
    return torch.stack([s, 2 - s], 1)


def half(x, up=1):
    return torch.linspace(0, 1, x.shape[3] * up).expand(1, 1, x.shape[2] * up, -1)


def weight_of(x, size):
    return torch.linspace(-1, 1, 4 * x.shape[1] * size * size).view(4, x.shape[1], size, size)


def every_op(x, s):
    return tuple(function(x, s) for function in PUBLIC.values())


@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("shape", AMBIGUOUS[:4], ids=str)
def test_compiled_as_eager(path, shape, memory_format):
    """Values and gradients; all have x's format."""
    x, s = formatted(shape, memory_format).requires_grad_(), (torch.rand(shape[:2]) + 0.5).requires_grad_()
    expected, found = every_op(x, s), torch.compile(every_op, fullgraph=True, backend="aot_eager")(x, s)
    cotangents = [torch.randn_like(y) for y in expected]
    kept = channels_last_or_rows(x)
    for name, y, compiled in zip(PUBLIC, expected, found, strict=True):
        torch.testing.assert_close(compiled, y, rtol=1e-4, atol=1e-5, msg=name)
        assert y.is_contiguous(memory_format=kept), name
        # of PyTorch's own convolutions its compiler tells other strides than they have, of maps of single pixels
        assert path == "reference" or name == "regional up" or compiled.is_contiguous(memory_format=kept), name
    for y, cotangent in zip(expected, cotangents, strict=True):
        (dx,) = torch.autograd.grad(y, [x], cotangent, retain_graph=True)
        assert dx.is_contiguous(memory_format=kept)
    gradients = [torch.autograd.grad(ys, [x, s], cotangents) for ys in (expected, found)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()


@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("shape", [(4, 8, 1, 1), (4, 1, 8, 8)], ids=str)
def test_inductor_meets_the_strides_it_was_told(shape, memory_format):
    """Its code asserts them."""
    x = formatted(shape, memory_format).requires_grad_()
    y = torch.compile(upsample2d, fullgraph=True)(x, FIR)
    expected = upsample2d(x, FIR)
    cotangent = torch.randn_like(expected)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(torch.autograd.grad(y, x, cotangent), torch.autograd.grad(expected, x, cotangent))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("of_x", FORMATS, ids=["x nchw", "x channels_last"])
@pytest.mark.parametrize("of_weight", FORMATS, ids=["weight nchw", "weight channels_last"])
def test_convolutions_keep_the_format_of_x(path, size, channels, of_x, of_weight):
    x, s = formatted((2, channels, 6, 8), of_x).requires_grad_(), torch.rand(2, channels)
    weight = formatted((4, channels, size, size), of_weight).requires_grad_()
    turned = formatted((channels, 4, size, size), of_weight).requires_grad_()
    results = {
        "conv2d": lambda: conv2d(x, weight, padding=size // 2),
        "conv2d transposed": lambda: conv2d(x, turned, stride=2, transposed=True),
        "conv2d_resample": lambda: conv2d_resample(x, weight, FIR, down=2, padding=size // 2),
        "modulated_conv2d": lambda: modulated_conv2d(x, weight, s, padding=size // 2, act="lrelu"),
        "modulated_conv2d up": lambda: modulated_conv2d(x, weight, s, up=2, padding=size // 2),
        "toRGB": lambda: modulated_conv2d(x, weight, s, demodulate=False, padding=size // 2),
    }
    for name, result in results.items():
        y = result()
        with torch.no_grad():
            without_graph = result()
        (dx,) = torch.autograd.grad(y, x, torch.randn_like(y))
        for value in (y, without_graph, dx):
            assert value.is_contiguous(memory_format=of_x), name
        torch.testing.assert_close(without_graph, y, rtol=1e-4, atol=1e-5)


def test_a_weight_in_rows_follows_without_a_copy():
    x, weight = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 1, 1)
    assert following(weight, x) is weight
    last = weight.contiguous(memory_format=torch.channels_last).as_strided(weight.shape, (3, 1, 3, 3))
    assert suggests_channels_last(last) and not suggests_channels_last(following(last, x))
    assert following(last, x).data_ptr() == last.data_ptr()
    assert following(last, x.contiguous(memory_format=torch.channels_last)) is last
