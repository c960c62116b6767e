"""The passes around a synthesis layer's convolution, toRGB and the whole layer as one kernel, on every backend, against float64."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan import backend
from facegan.ops import conv2d_resample, modulated_conv2d, setup_filter

UNPADDED = [0, 0, 0, 0]
# act, alpha, gain, clamp
OPTIONS = [
    ("lrelu", 0.2, 1.3, 1.0),
    ("relu", 0.2, -0.8, 0.7),
    ("linear", 0.2, 1.1, 0.7),
    ("lrelu", 0.1, -1.4, None),
    ("relu", 0.2, 1.4, 9.0),
]
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 67, 3, 2), (3, 130, 1, 1), (2, 5, 13, 11), (1, 2, 37, 41), (2, 16, 8, 8)]
EMPTY = [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)]
# which of d, noise, b there are; once all combinations
SOME = [(True, "one", True), (True, "each", False), (False, "one", False), (False, None, True)]
ALL = list(product([True, False], ["one", "each", None], [True, False]))


def f64(*tensors):
    return [None if t is None else t.detach().double().cpu() for t in tensors]


def epilogue(x, d, noise, b, act, alpha, gain, clamp):
    """In words of PyTorch's own functions, for autograd."""
    if d is not None:
        x = x * d[:, :, None, None]
    for term in (noise, None if b is None else b[None, :, None, None]):
        x = x if term is None else x + term
    x = {"linear": lambda v: v, "relu": F.relu, "lrelu": lambda v: F.leaky_relu(v, alpha)}[act](x) * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def backward(dy, y, d, noise, noise_batch, act, alpha, gain, clamp):
    """The formulas of `modulated_epilogue_backward` as the reference states them, y and the clamp as constants."""
    with torch.no_grad():
        kept = torch.ones_like(y) if clamp is None else (y.abs() < clamp).double()
        below = {"linear": 1.0, "relu": 0.0, "lrelu": alpha}[act]
        slope = kept * gain * torch.where(y * gain > 0, torch.ones_like(y), torch.full_like(y, below))
    g = dy * slope
    with_noise = 0 * g if noise is None or d is None else g * noise
    sums = torch.stack([(dy * y * kept).sum((2, 3)), with_noise.sum((2, 3)), g.sum((2, 3))])
    dn = g.sum((0, 1) if noise_batch == 1 else 1, keepdim=True)
    return g if d is None else g * d[:, :, None, None], sums, dn


@pytest.fixture
def operands(draw, device):
    """operands(shape, dtype, format, with_d, noise, with_b) -> x, d, noise, b; noise is "one" for the batch, "each" sample, None."""

    def operands(shape, dtype, memory_format, with_d=True, noise="one", with_b=True):
        n, c, height, width = shape
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        d = (0.5 + torch.rand(n, c, dtype=wide)).to(device) if with_d else None
        noise = draw(1 if noise == "one" else n, 1, height, width, dtype=dtype) if noise else None
        return draw(*shape, dtype=dtype, memory_format=memory_format), d, noise, draw(c, dtype=dtype) if with_b else None

    return operands


def stored(y, clamp):
    """Clamped values as the dtype holds them, and a limit that tells them from the rest."""
    return y, clamp if clamp is None else torch.tensor(clamp).to(y.dtype).item()


@pytest.mark.parametrize("act,alpha,gain,clamp", OPTIONS)
def test_epilogue(kernel, operands, close, act, alpha, gain, clamp, dtype, memory_format):
    for present in ALL if dtype == torch.float32 and clamp == 1 else SOME:
        x, d, noise, b = operands((2, 5, 3, 7), dtype, memory_format, *present)
        before = x.clone()
        y = kernel("modulated_epilogue")(x, d, noise, b, None, UNPADDED, act, alpha, gain, clamp)
        assert y.dtype == dtype and y.stride() == x.stride() and y.data_ptr() != x.data_ptr()
        close(y, epilogue(*f64(x, d, noise, b), act, alpha, gain, clamp))
        assert torch.equal(x, before)


@pytest.mark.parametrize("taps,padding", [((1, 3, 3, 1), [2, 1, 2, 1]), ((1, 2, 1), [1, -1, 0, 2])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_epilogue_with_a_filter(kernel, operands, close, draw, taps, padding, dtype, memory_format):
    x, d, _, b = operands((2, 5, 9, 8), dtype, memory_format)
    f = torch.tensor(taps, dtype=torch.float32, device=x.device) / sum(taps)
    height, width = 9 + padding[0] + padding[1] - len(taps) + 1, 8 + padding[2] + padding[3] - len(taps) + 1
    noise = draw(2, 1, height, width, dtype=dtype)
    y = kernel("modulated_epilogue")(x, d, noise, b, f, padding, "lrelu", 0.2, 1.3, 1.0)
    two_axes = f.double().cpu()[:, None] * f.double().cpu()  # symmetric, so that convolution is correlation
    padded = F.pad(x.double().cpu(), (padding[2], padding[3], padding[0], padding[1]))
    filtered = F.conv2d(padded, two_axes.expand(5, 1, -1, -1), groups=5)
    assert y.is_contiguous(memory_format=memory_format)
    close(y, epilogue(filtered, *f64(d, noise, b), "lrelu", 0.2, 1.3, 1.0))


@pytest.mark.parametrize("act,alpha,gain,clamp", OPTIONS)
def test_epilogue_backward(kernel, operands, draw, close, act, alpha, gain, clamp, dtype, memory_format):
    for present in ALL if dtype == torch.float32 and clamp == 1 else SOME:
        y, d, noise, _ = operands((2, 5, 3, 7), dtype, memory_format, *present)
        y, limit = stored(y if clamp is None else y.clamp(-clamp, clamp), clamp)
        dy = draw(2, 5, 3, 7, dtype=dtype, memory_format=memory_format)
        noise_batch = {"one": 1, "each": 2, None: 0}[present[1]]
        dz, sums, dn = kernel("modulated_epilogue_backward")(dy, y, d, noise, noise_batch, act, alpha, gain, clamp)
        expected_dz, expected_sums, expected_dn = backward(*f64(dy, y, d, noise), noise_batch, act, alpha, gain, limit)
        assert dz.dtype == dn.dtype == dtype and dz.stride() == dy.stride()
        assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        close(dz, expected_dz)
        close(sums, expected_sums)
        close(dn, expected_dn if noise_batch else torch.empty(0))


@pytest.mark.parametrize("act,gain,clamp", [("lrelu", 1.3, 1.0), ("lrelu", -1.4, None), ("linear", 1.1, 0.7)])
@pytest.mark.parametrize("noise", ["one", "each", None])
def test_gradients_of_the_layer(kernel, operands, draw, close, act, gain, clamp, noise, memory_format):
    """dx, dd = (S0 - S1 - b S2) / d, the noise's gradient and db = sum S2, against autograd from x: y is not shared."""
    x, d, noise, b = operands((2, 5, 6, 7), torch.float64, memory_format, noise=noise)
    dy = draw(2, 5, 6, 7, dtype=torch.float64, memory_format=memory_format)
    options = (act, 0.2, gain, clamp)
    y = kernel("modulated_epilogue")(x, d, noise, b, None, UNPADDED, *options)
    noise_batch = 0 if noise is None else noise.shape[0]
    dz, sums, dn = kernel("modulated_epilogue_backward")(dy, y, d, noise, noise_batch, *options)
    leaves = [None if t is None else t.requires_grad_() for t in f64(x, d, noise, b)]
    wanted = [t for t in leaves if t is not None]
    expected = torch.autograd.grad(epilogue(*leaves, *options), wanted, dy.double().cpu())
    found = [dz, (sums[0] - sums[1] - b * sums[2]) / d, dn, sums[2].sum(0)]
    for actual, right in zip((t for t, leaf in zip(found, leaves, strict=True) if leaf is not None), expected, strict=True):
        close(actual, right)


# whether there is d, the noise, gradients of the sums and of the noise's gradient
SECOND_ORDER = [(True, "one", True, True), (True, "each", True, False), (True, None, False, True), (False, None, True, True),
                (False, "one", True, False), (True, "each", False, False)]  # fmt: skip


@pytest.mark.parametrize("act,alpha,gain,clamp", OPTIONS[:4])
def test_double_backward(kernel, operands, draw, close, act, alpha, gain, clamp, dtype, memory_format):
    shape = (2, 5, 3, 7)
    for with_d, noise, of_sums, of_noise in SECOND_ORDER:
        y, d, noise, _ = operands(shape, dtype, memory_format, with_d, noise)
        y, limit = stored(y if clamp is None else y.clamp(-clamp, clamp), clamp)
        dy, gdz = (draw(*shape, dtype=dtype, memory_format=memory_format) for _ in range(2))
        noise_batch = 2 if noise is None else noise.shape[0]
        gsums = draw(3, 2, 5, dtype=torch.float64 if dtype == torch.float64 else torch.float32) if of_sums else None
        gdn = draw(noise_batch, 1, 3, 7, dtype=dtype) if of_noise else None
        found = kernel("modulated_epilogue_double_backward")(gdz, gsums, gdn, dy, y, d, noise, act, alpha, gain, clamp)

        leaves = [None if t is None else t.requires_grad_() for t in f64(dy, y, d, noise)]
        outer = zip(backward(*leaves, noise_batch, act, alpha, gain, limit), f64(gdz, gsums, gdn), strict=True)
        outer = [(v, g) for v, g in outer if g is not None]
        wanted = [t for t in leaves if t is not None]
        gradients = iter(torch.autograd.grad([v for v, _ in outer], wanted, [g for _, g in outer], allow_unused=True))
        expected = [None if t is None else next(gradients) for t in leaves]
        for actual, right, like in zip(found, expected, (dy, y, d, noise), strict=True):
            if right is None:
                assert actual.shape == (0,)
            else:
                assert actual.dtype == like.dtype and actual.stride() == like.stride()
                close(actual, right)


def check_all(kernel, operands, draw, close, shape, dtype, memory_format, noise="one", options=OPTIONS[0]):
    """Every operator of the layer at one shape."""
    x, d, noise, b = operands(shape, dtype, memory_format, noise=noise)
    dy, gdz = (draw(*shape, dtype=dtype, memory_format=memory_format) for _ in range(2))
    y = kernel("modulated_epilogue")(x, d, noise, b, None, UNPADDED, *options)
    close(y, epilogue(*f64(x, d, noise, b), *options))
    y, limit = stored(y, options[3])
    limited = (*options[:3], limit)
    found = kernel("modulated_epilogue_backward")(dy, y, d, noise, noise.shape[0], *options)
    leaves = [t.requires_grad_() for t in f64(dy, y, d, noise)]
    expected = backward(*leaves, noise.shape[0], *limited)
    for actual, right in zip(found, expected, strict=True):
        close(actual, right)
    cotangents = [gdz, *(torch.randn_like(t) for t in found[1:])]
    expected = torch.autograd.grad(expected, leaves, f64(*cotangents))
    found = kernel("modulated_epilogue_double_backward")(*cotangents, dy, y, d, noise, *options)
    for actual, right in zip(found, expected, strict=True):
        close(actual, right)
    close(kernel("modulate")(x, d), x.double() * d.double()[:, :, None, None])
    dx, ds = kernel("modulate_backward")(dy, x, d)
    close(dx, dy.double() * d.double()[:, :, None, None])
    close(ds, (dy.double() * x.double()).sum((2, 3)))
    for t in (y, dx):
        assert x.numel() == 0 or t.stride() == x.stride()


@pytest.mark.parametrize("shape", SHAPES + EMPTY, ids=str)
def test_shapes(kernel, operands, draw, close, shape, memory_format):
    check_all(kernel, operands, draw, close, shape, torch.float32, memory_format)


@settings.get_profile("kernels")
@given(
    n=st.integers(1, 2),
    c=st.integers(1, 70),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    noise=st.sampled_from(["one", "each"]),
    options=st.sampled_from(OPTIONS),
    channels_last=st.booleans(),
)
def test_any_shape(kernel, operands, draw, close, n, c, height, width, noise, options, channels_last):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    check_all(kernel, operands, draw, close, (n, c, height, width), torch.float64, memory_format, noise, options)


@pytest.mark.parametrize("noise", ["one", "each"])
def test_several_tiles_per_program(target, kernel, operands, draw, close, memory_format, noise, monkeypatch):
    """As on large tensors, where a program walks over many tiles of pixels."""
    if target[0] == "triton":
        from facegan_kernels.triton import layout

        monkeypatch.setattr(layout, "ENOUGH_PROGRAMS", 1)
    check_all(kernel, operands, draw, close, (2, 34, 9, 15), torch.float32, memory_format, noise)


def test_other_strides(kernel, operands, draw, close):
    """Gaps, and arguments whose formats differ: results follow the first."""
    x, d, noise, b = operands((2, 5, 6, 14), torch.float32, torch.contiguous_format, noise="each")
    x, noise, d, b = x[..., ::2], noise[..., 1::2], d.T.contiguous().T, b.repeat_interleave(2)[::2]
    options = ("lrelu", 0.2, 1.3, 1.0)
    y = kernel("modulated_epilogue")(x, d, noise, b, None, UNPADDED, *options)
    close(y, epilogue(*f64(x, d, noise, b), *options))
    dy = draw(2, 5, 7, 6).transpose(2, 3)
    y_last = y.contiguous(memory_format=torch.channels_last)
    expected = backward(*f64(dy, y, d, noise), 2, *options)
    for gradient in (dy, dy.contiguous()):
        for actual, right in zip(kernel("modulated_epilogue_backward")(gradient, y_last, d, noise, 2, *options), expected, strict=True):
            close(actual, right)
    dx, ds = kernel("modulate_backward")(dy.contiguous(), y_last, d)
    assert dx.is_contiguous()
    close(ds, (dy.double() * y.double()).sum((2, 3)))
    close(kernel("modulate")(x, d), x.double() * d.double()[:, :, None, None])


def test_styles_of_the_activations_dtype(kernel, draw, close, memory_format):
    x, s = draw(2, 5, 4, 3, dtype=torch.bfloat16, memory_format=memory_format), draw(2, 5, dtype=torch.bfloat16)
    close(kernel("modulate")(x, s), x.double() * s.double()[:, :, None, None])


def test_not_a_number_stays(kernel, operands):
    x, d, noise, b = operands((1, 2, 2, 2), torch.float32, torch.contiguous_format)
    x[0, 1, 0, 1] = float("nan")
    for act in ("linear", "relu", "lrelu"):
        y = kernel("modulated_epilogue")(x, d, noise, b, None, UNPADDED, act, 0.2, 1.0, 0.5)
        assert torch.equal(y.isnan(), x.isnan())


@pytest.mark.parametrize(
    "shape,out",
    [((1, 67, 9, 11), 1), ((1, 67, 9, 11), 3), ((1, 67, 9, 11), 5), ((3, 32, 8, 8), 3), ((2, 7, 5, 3), 20), ((0, 3, 4, 4), 3)],
    ids=str,
)
def test_pointwise(kernel, draw, close, shape, out, dtype, memory_format):
    n, c, height, width = shape
    x = draw(*shape, dtype=dtype, memory_format=memory_format)
    dy = draw(n, out, height, width, dtype=dtype, memory_format=memory_format)
    w = draw(n, out, c, dtype=torch.float64 if dtype == torch.float64 else torch.float32) / c**0.5
    y, (dx, dw) = kernel("pointwise")(x, w), kernel("pointwise_backward")(dy, x, w)
    assert y.dtype == dx.dtype == dtype and dw.dtype == w.dtype
    assert n == 0 or (dx.stride() == x.stride() and y.is_contiguous(memory_format=memory_format))
    rounded, x, dy = f64(w.to(dtype), x, dy)
    close(y, torch.einsum("nihw,noi->nohw", x, rounded))
    close(dx, torch.einsum("nohw,noi->nihw", dy, rounded))
    close(dw, torch.einsum("nohw,nihw->noi", dy, x))


@pytest.mark.parametrize("shape,out,size,padding", [((2, 5, 7, 6), 3, 3, 1), ((2, 5, 7, 6), 3, 3, 0), ((1, 70, 12, 11), 35, 1, 0)], ids=str)
@pytest.mark.parametrize("flip_weight", [True, False])
def test_implicit_gemm(target, kernel, operands, draw, close, monkeypatch, shape, out, size, padding, flip_weight, dtype, memory_format):
    if target[0] != "triton":
        pytest.skip("the implicit GEMM is Triton's; test_winograd.py has the native form of the operator")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    n, c, height, width = shape
    x, s, _, _ = operands(shape, dtype, memory_format)
    weight = draw(out, c, size, size, dtype=dtype) / (c * size * size) ** 0.5
    larger = 2 * padding - size + 1
    _, d, noise, b = operands((n, out, height + larger, width + larger), dtype, memory_format, noise="each" if padding else "one")
    for index, present in enumerate([(d, noise, b), (None, None, None), (d, None, b), (None, noise, None)]):
        if index and dtype != torch.float32:
            break
        y = kernel("modulated_conv2d_fused")(x, weight, s, *present, padding, flip_weight, "lrelu", 0.2, 1.3, 1.0)
        assert y.dtype == dtype and y.is_contiguous(memory_format=memory_format)
        taps = weight.double().cpu() if flip_weight else weight.double().cpu().flip(2, 3)
        modulated = F.conv2d(x.double().cpu() * s.double().cpu()[:, :, None, None], taps, padding=padding)
        close(y, epilogue(modulated, *f64(*present), "lrelu", 0.2, 1.3, 1.0))


@pytest.fixture(params=["reference", "native", "triton"])
def served(request):
    """Every backend of this machine's CPU, without its GPU."""
    reason = backend.unavailable("modulated_conv2d", request.param, "cpu")
    if reason:
        pytest.skip(reason)
    with backend.use_backend(request.param):
        yield request.param


def per_sample(x, weight, styles, f, demodulate=True, **options):
    """The paper's form (eqs. 1 and 3): each sample with a weight of its own."""
    w = weight[None] * styles[:, None, :, None, None]
    w = w / (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt() if demodulate else w
    return torch.cat([conv2d_resample(x[n : n + 1], w[n], f, **options) for n in range(len(x))])


OVERFLOWING = [dict(padding=1), dict(padding=2), dict(up=2, padding=1, flip_weight=False), dict(down=2, padding=1), dict(up=2)]


CHANNELS = {"reference": 512, "native": 512, "triton": 48}  # the interpreter is slow; 3000 times 48 x 9 overflows as well


def half_layer(channels, outputs=6, size=3, dtype=torch.float32):
    """x, weight and styles as float16 holds them, of samples of very different styles."""
    x, weight = torch.randn(4, channels, 4, 4).half(), torch.randn(outputs, channels, size, size).half()
    scales = torch.tensor([1.0, 30.0, 3000.0, 1e-3])[:, None]
    styles = (scales * (1 + 0.3 * torch.randn(4, channels))).half()
    return x, weight, styles.to(dtype), scales.double()


def near(actual, expected, each=True):
    """Within float16's means of the largest entry, of each sample if `each`: its digits, or its smallest steps of 2^-24."""
    steps = 2 * 2**-24 if actual.dtype == torch.float16 else 0.0
    actual, expected = actual.detach().double(), expected.detach().double()
    actual, expected = (t.flatten(1) if each else t.flatten()[None] for t in (actual, expected))
    assert actual.isfinite().all()
    error = ((actual - expected).abs().amax(1) - steps) / expected.abs().amax(1)
    assert (error < 1e-2).all(), error


@pytest.mark.parametrize("options", OVERFLOWING, ids=str)
@pytest.mark.parametrize("size", [3, 1])
@pytest.mark.parametrize("styles_dtype", [torch.float16, torch.float32])
def test_float16_of_large_styles(served, options, size, styles_dtype):
    """First and second order, to x, the weight and the styles, of samples with styles from a thousandth to thousands."""
    x, weight, styles, scales = half_layer(CHANNELS[served], size=size, dtype=styles_dtype)
    f = setup_filter()

    def orders(layer, *inputs):
        inputs = [t.detach().requires_grad_() for t in inputs]
        y = layer(*inputs)
        wide = y.double()
        first = torch.autograd.grad((wide * wide.detach()).sum() / 8, inputs, create_graph=True)
        # R1's penalty, and path length's brought to one size for all samples
        penalty = (first[0].double().square()).sum() / 8
        penalty = penalty + (first[2].double() * scales).square().sum() / 64 if styles_dtype == torch.float32 else penalty
        return y, *first, *torch.autograd.grad(penalty, inputs[1:])

    found = orders(lambda x, w, s: modulated_conv2d(x, w, s, resample_filter=f, **options), x, weight, styles)
    with backend.use_backend("reference"):
        expected = orders(lambda x, w, s: per_sample(x, w, s, f.double(), **options), x.double(), weight.double(), styles.double())
    for name, actual, truth in zip("y x w s ww ss".split(), found, expected, strict=True):
        near(actual, truth, each=name not in ("w", "ww"))


@pytest.mark.parametrize("options", OVERFLOWING[:3], ids=str)
def test_float16_without_a_graph(served, options):
    x, weight, styles, _ = half_layer(CHANNELS[served])
    with torch.no_grad():
        y = modulated_conv2d(x, torch.nn.Parameter(weight), styles, **options)
    with backend.use_backend("reference"):
        near(y, per_sample(x.double(), weight.double(), styles.double(), setup_filter().double(), **options))


def test_float16_of_styles_and_weights_that_are_zeros(served):
    x, weight, styles, _ = half_layer(channels=32)
    styles[1], weight[2] = 0, 0
    inputs = [t.requires_grad_() for t in (x, weight, styles)]
    bias = torch.randn(6)
    y = modulated_conv2d(*inputs, padding=1, bias=bias)
    assert torch.equal(y[1], bias.half()[:, None, None].expand(6, 4, 4))
    assert torch.equal(y[:, 2], bias.half()[2].expand(4, 4, 4))
    first = torch.autograd.grad(y.float().square().mean(), inputs, create_graph=True)
    second = torch.autograd.grad(first[0].float().square().sum(), inputs[1:])
    assert not any(g.isnan().any() for g in (*first, *second))
    assert modulated_conv2d(x[:0], weight, styles[:0], padding=1).shape == (0, 6, 4, 4)
