from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facegan.errors import FaceganError
from facegan.ops import modulated_conv2d, no_weight_gradients, setup_filter, upfirdn2d
from facegan.ops.modulated_conv2d.reference import demodulation


def restated(x, weight, styles, demodulate, up=1, down=1, padding=0, noise=None, bias=None, act="linear", gain=1.0, clamp=None):
    """The paper's form: a weight per sample, run as one grouped convolution of a plane upsampled beforehand."""
    n, i, h, w = x.shape
    o, k = weight.shape[0], weight.shape[-1]
    w2 = weight[None] * styles[:, None, :, None, None]  # eq. 1
    if demodulate:
        w2 = w2 / (w2.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()  # eq. 3
    f = setup_filter().to(x.dtype)
    if up == 2:
        x = upfirdn2d(x, f, up=2, padding=(padding + 2, padding + 1) * 2, gain=4)
    elif down == 2:
        x = upfirdn2d(x, f, padding=padding + 1)
    else:
        x = F.pad(x, (padding,) * 4)
    y = F.conv2d(x.reshape(1, n * i, *x.shape[2:]), w2.reshape(n * o, i, k, k), stride=down, groups=n)
    y = y.view(n, o, *y.shape[2:])
    y = y + (0 if noise is None else noise) + (0 if bias is None else bias[:, None, None])
    y = {"linear": lambda v: v, "lrelu": lambda v: torch.where(v > 0, v, 0.2 * v)}[act](y) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


def sample(dtype=torch.float64, n=2, i=3, o=5, kernel=3, size=(4, 5)):
    x = torch.randn(n, i, *size, dtype=dtype, requires_grad=True)
    weight = torch.randn(o, i, kernel, kernel, dtype=dtype, requires_grad=True)
    return x, weight, (1 + 0.5 * torch.randn(n, i, dtype=dtype)).requires_grad_()


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("resample", [dict(), dict(up=2), dict(down=2)])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_agrees_with_the_grouped_form(path, kernel, resample, demodulate, dtype, tolerance):
    scale = 0.2  # keeps undemodulated results of order one
    x, weight, styles = (t.detach() for t in sample(kernel=kernel, size=(6, 8)))
    weight = weight * scale
    x, weight, styles = (t.to(dtype) for t in (x, weight, styles))
    noise = torch.randn(2, 1, 6 * resample.get("up", 1) // resample.get("down", 1), 8 * resample.get("up", 1) // resample.get("down", 1))
    bias = torch.randn(5)
    options = dict(demodulate=demodulate, padding=kernel // 2, act="lrelu", gain=1.4, clamp=2.0, **resample)
    wide = [t.double() for t in (x, weight, styles)]
    expected = restated(*wide, noise=noise.to(dtype).double(), bias=bias.to(dtype).double(), **options)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = modulated_conv2d(x.contiguous(memory_format=memory_format), weight, styles, noise=noise, bias=bias, **options)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(y.double(), expected, **tolerance(dtype))


@pytest.mark.parametrize("n,i,o", [(0, 3, 5), (1, 1, 1), (3, 7, 2)])
@pytest.mark.parametrize("noise", [None, torch.randn(5, 5), torch.randn(1, 1, 5, 5)])
def test_shapes(path, n, i, o, noise):
    x, weight, styles = sample(n=n, i=i, o=o, size=(5, 5))
    noise = None if noise is None else noise.double()
    y = modulated_conv2d(x, weight, styles, padding=1, noise=noise)
    assert y.shape == (n, o, 5, 5)
    if n:
        torch.testing.assert_close(y, restated(x, weight, styles, True, padding=1, noise=noise))
    y.sum().backward()
    assert x.grad.shape == x.shape


def test_demodulation_gives_unit_variance():
    x, weight, styles = sample(torch.float32, n=4, i=64, o=32, size=(32, 32))
    y = modulated_conv2d(x, 7 * weight, 3 * styles, padding=1)[:, :, 1:-1, 1:-1]
    assert y.var().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("options", [dict(), dict(up=2), dict(down=2), dict(demodulate=False), dict(clamp=1.0)])
def test_gradients_of_both_orders(path, options):
    x, weight, styles = sample(i=2, o=2, size=(4, 4))
    side = 4 * options.get("up", 1) // options.get("down", 1)
    noise = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def layer(x, weight, styles, noise, bias):
        return modulated_conv2d(x, weight, styles, padding=1, noise=noise, bias=bias, act="lrelu", **options)

    assert torch.autograd.gradcheck(layer, (x, weight, styles, noise, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (x, weight, styles, noise, bias), fast_mode=True)


def test_tanh_and_no_activation_of_their_own(path):
    x, weight, styles = sample(i=2, o=2, size=(3, 3))
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    y = modulated_conv2d(x, weight, styles, padding=1, bias=bias, act="tanh", gain=0.7)
    expected = torch.tanh(restated(x, weight, styles, True, padding=1, bias=bias)) * 0.7
    torch.testing.assert_close(y, expected)
    cotangent = torch.randn_like(y)
    inputs = (x, weight, styles, bias)
    torch.testing.assert_close(torch.autograd.grad(y, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent))


@pytest.mark.parametrize("kernel,demodulate", [(3, True), (1, False)])
@pytest.mark.parametrize("act", ["elu", "selu", "softplus", "swish"])
def test_activations_that_are_not_fused(path, kernel, demodulate, act):
    x, weight, styles = sample(i=2, o=2, kernel=kernel, size=(3, 3))
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    options = dict(padding=kernel // 2, demodulate=demodulate)

    def layer(*inputs):
        return modulated_conv2d(*inputs[:3], bias=inputs[3], act=act, gain=0.7, clamp=2.0, **options)

    z = restated(x, weight, styles, bias=bias, **options)
    bare = {"elu": F.elu, "selu": F.selu, "softplus": lambda z: z.exp().log1p(), "swish": lambda z: z * z.sigmoid()}[act](z)
    torch.testing.assert_close(layer(x, weight, styles, bias), (0.7 * bare).clamp(-2, 2))
    assert torch.autograd.gradcheck(layer, (x, weight, styles, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (x, weight, styles, bias), fast_mode=True)


@pytest.mark.parametrize("kernel,demodulate", [(3, True), (1, False)])
@pytest.mark.parametrize("options", [dict(gain=0.0), dict(clamp=0.0, act="lrelu")])
def test_a_gain_or_clamp_of_zero(path, kernel, demodulate, options):
    inputs = sample(i=2, o=2, kernel=kernel, size=(3, 3))
    y = modulated_conv2d(*inputs, padding=kernel // 2, demodulate=demodulate, **options)
    first = torch.autograd.grad(y, inputs, torch.randn_like(y), create_graph=True)
    assert not y.any() and not any(g.any() for g in first)


@pytest.mark.parametrize("outputs", [1, 3, 4])
def test_to_rgb(path, outputs):
    x, weight, styles = sample(i=5, o=outputs, kernel=1, size=(3, 4))
    bias = torch.randn(outputs, dtype=torch.float64, requires_grad=True)
    for memory_format in (torch.contiguous_format, torch.channels_last):

        def layer(x, weight, styles, bias, memory_format=memory_format):
            x = x.contiguous(memory_format=memory_format)
            return modulated_conv2d(x, weight, styles, demodulate=False, bias=bias, clamp=3.0)

        expected = restated(x, weight, styles, False, bias=bias, clamp=3.0)
        torch.testing.assert_close(layer(x, weight, styles, bias), expected)
        assert torch.autograd.gradcheck(layer, (x, weight, styles, bias), fast_mode=True)
        assert torch.autograd.gradgradcheck(layer, (x, weight, styles, bias), fast_mode=True)


def test_layer_keeps_its_input_and_output_alone(path):
    """What is saved besides the small tensors: x and y, neither the modulated input nor the convolution's output."""
    if path == "reference":
        pytest.skip("the reference keeps what PyTorch's graph keeps")
    x, weight, styles = sample(torch.float32, size=(16, 16))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = modulated_conv2d(x, weight, styles, padding=1, noise=torch.randn(16, 16), act="lrelu")
    large = {t.data_ptr() for t in saved if t.numel() >= x.numel()}
    assert large == {x.data_ptr(), y.data_ptr()}


def test_no_weight_gradients(path):
    x, weight, styles = sample()
    y = modulated_conv2d(x, weight, styles, padding=1, act="lrelu")
    with no_weight_gradients():
        (dx,) = torch.autograd.grad(y.square().sum(), [x], create_graph=True)
    expected = restated(x, weight, styles, True, padding=1, act="lrelu", gain=2**0.5)
    (dx2,) = torch.autograd.grad(expected.square().sum(), [x], create_graph=True)
    inputs = (x, weight, styles)
    torch.testing.assert_close(torch.autograd.grad(dx.norm(), inputs), torch.autograd.grad(dx2.norm(), inputs))


def test_autocast(path):
    x, weight, styles = sample(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = modulated_conv2d(x, weight, styles, padding=1, act="lrelu")
        y.float().square().mean().backward()
    assert y.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32 and x.grad.dtype == torch.float32


def test_demodulation_stays_wide_under_autocast():
    _, weight, styles = sample(torch.float32, i=64, o=8)
    expected = (weight.double() * styles.double()[:, None, :, None, None]).square().sum((2, 3, 4)).add(1e-8).rsqrt()
    with torch.autocast("cpu", torch.bfloat16):
        d = demodulation(weight, styles)
    assert d.dtype == torch.float32
    torch.testing.assert_close(d.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", [1, 2])
def test_to_rgb_with_padding(path, padding):
    x, weight, styles = sample(o=3, kernel=1)
    y = modulated_conv2d(x, weight, styles, demodulate=False, padding=padding)
    torch.testing.assert_close(y, restated(x, weight, styles, False, padding=padding))


def test_to_rgb_of_no_images(path):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x, weight, styles = sample(n=0, o=3, kernel=1)
        y = modulated_conv2d(x.contiguous(memory_format=memory_format), weight, styles, demodulate=False)
        assert y.shape == (0, 3, 4, 5)
        y.sum().backward()
        assert weight.grad.eq(0).all() and x.grad.shape == x.shape


@pytest.mark.parametrize("formats", [(torch.contiguous_format, torch.channels_last), (torch.channels_last, torch.contiguous_format)])
def test_gradient_of_to_rgb_has_its_inputs_format(formats):
    """As the fake kernel says, whose strides a compiler relies on."""
    x = torch.randn(2, 5, 3, 4).contiguous(memory_format=formats[0])
    dy = torch.randn(2, 3, 3, 4).contiguous(memory_format=formats[1])
    w = torch.randn(2, 3, 5)
    dx, _ = torch.ops.facegan_reference.pointwise_backward(dy, x, w)
    assert dx.stride() == x.stride()
    torch.testing.assert_close(dx, torch.einsum("nohw,noi->nihw", dy, w))


def epilogue_inputs(demodulated, noise_batch, biased, dtype=torch.float64, filtered=False):
    x = torch.randn(2, 3, 3, 2, dtype=dtype, requires_grad=True)
    size = (2, 4) if filtered else (3, 2)
    d = (0.2 + torch.rand(2, 3, dtype=dtype)).requires_grad_() if demodulated else None
    noise = torch.randn(noise_batch, 1, *size, dtype=dtype, requires_grad=True) if noise_batch else None
    return x, d, noise, torch.randn(3, dtype=dtype, requires_grad=True) if biased else None


def epilogue(x, d, noise, b, f=None, act="lrelu", gain=1.2, clamp=None):
    padding = (0, 0, 0, 0) if f is None else (1, -1, 2, 1)
    return torch.ops.facegan_reference.modulated_epilogue(x, d, noise, b, f, padding, act, 0.2, gain, clamp)


@pytest.mark.parametrize(
    "demodulated,noise_batch,biased,filtered",
    [(True, 2, True, False), (True, 1, False, True), (False, 1, True, True), (False, 0, False, False), (True, 0, True, True)],
)
@pytest.mark.parametrize("act,gain,clamp", [("lrelu", 1.2, 1.0), ("relu", -0.7, None), ("linear", 1.0, 0.8)])
def test_epilogue_gradients_of_both_orders(demodulated, noise_batch, biased, filtered, act, gain, clamp):
    inputs = epilogue_inputs(demodulated, noise_batch, biased, filtered=filtered)
    wanted = tuple(t for t in inputs if t is not None)
    f = torch.tensor([1.0, 2.0]) if filtered else None

    def function(*given):
        given = iter(given)
        return epilogue(*(None if t is None else next(given) for t in inputs), f, act, gain, clamp)

    assert torch.autograd.gradcheck(function, wanted)
    assert torch.autograd.gradgradcheck(function, wanted)


OPTIONS = ("lrelu", 0.2, 1.0, 0.5)


@pytest.mark.parametrize("demodulated,noise_batch,biased", [(True, 2, True), (True, 1, False), (False, 0, False)])
def test_opcheck(demodulated, noise_batch, biased):
    x, d, noise, b = epilogue_inputs(demodulated, noise_batch, biased, torch.float32)
    dy, y = torch.randn_like(x).requires_grad_(), torch.randn_like(x).requires_grad_()
    ops, check = torch.ops.facegan_reference, torch.library.opcheck
    check(ops.modulated_epilogue.default, (x, d, noise, b, None, (0, 0, 0, 0), *OPTIONS))
    check(ops.modulated_epilogue_backward.default, (dy, y, d, noise, noise_batch, *OPTIONS))
    gsums = torch.randn(3, 2, 3, requires_grad=True)
    gdn = None if noise is None else torch.randn_like(noise).requires_grad_()
    check(ops.modulated_epilogue_double_backward.default, (torch.randn_like(x).requires_grad_(), gsums, gdn, dy, y, d, noise, *OPTIONS))


def test_opcheck_of_the_filtered_epilogue_and_the_products():
    x, d, noise, b = epilogue_inputs(True, 2, True, torch.float32, filtered=True)
    ops, check = torch.ops.facegan_reference, torch.library.opcheck
    check(ops.modulated_epilogue.default, (x, d, noise, b, torch.tensor([1.0, 2.0]), (1, -1, 2, 1), *OPTIONS))
    s, w, g = torch.randn(2, 3).requires_grad_(), torch.randn(2, 4, 3).requires_grad_(), torch.randn_like(x).requires_grad_()
    check(ops.modulate.default, (x, s))
    check(ops.modulate_backward.default, (g, x, s))
    check(ops.pointwise.default, (x, w))
    check(ops.pointwise_backward.default, (torch.randn(2, 4, 3, 2).requires_grad_(), x, w))


@pytest.mark.parametrize("options", [dict(), dict(up=2)])
def test_compiles_whole(path, options):
    inputs = sample(torch.float32)

    def layer(*inputs):
        return modulated_conv2d(*inputs, padding=1, act="lrelu", **options)

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    y = layer(*inputs)
    cotangent = torch.randn_like(y)
    expected = torch.autograd.grad(y, inputs, cotangent)
    torch.testing.assert_close(torch.autograd.grad(compiled(*inputs), inputs, cotangent), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "arguments,words",
    [
        (dict(x=torch.zeros(3, 4, 4)), r"x is torch.float32 \[3, 4, 4\]"),
        (dict(weight=torch.zeros(5, 2, 3, 3)), r"weight has shape \[5, 2, 3, 3\]; expected \[O, 3, K, K\]"),
        (dict(styles=torch.zeros(1, 3)), r"styles have shape \[1, 3\]; expected \[N, I\] = \[2, 3\]"),
        (dict(bias=torch.zeros(3)), r"bias has shape \[3\]; expected \[5\]"),
        (dict(noise=torch.zeros(4, 5)), r"noise has shape \[4, 5\]; expected \[H, W\]"),
        (dict(act="gelu"), "modulated_conv2d: act is 'gelu'"),
        (dict(up=2, down=2), "up is 2 and down is 2; expected one of the two to be 1"),
    ],
)
def test_bad_arguments(arguments, words):
    defaults = dict(x=torch.zeros(2, 3, 4, 4), weight=torch.zeros(5, 3, 3, 3), styles=torch.zeros(2, 3), padding=1)
    with pytest.raises(FaceganError, match=words):
        modulated_conv2d(**{**defaults, **arguments})
