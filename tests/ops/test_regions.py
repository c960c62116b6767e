"""Synthesis layers whose styles vary by region, against restatements in float64: pixels one by one, layers of one style each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops import modulated_conv2d, modulated_conv2d_ref, setup_filter, upfirdn2d

ACTIVATIONS = {
    "linear": lambda v: v,
    "relu": F.relu,
    "lrelu": lambda v: torch.where(v > 0, v, 0.2 * v),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
}
RESAMPLED = [dict(), dict(up=2), dict(down=2)]


def plain(x, weight, styles, up=1, down=1, kernel_first=False):
    """One style for a sample: weights of its own, a plane upsampled beforehand; without demodulation."""
    f, pad = setup_filter().to(x.dtype), weight.shape[-1] // 2
    results = []
    for sample, style in zip(x, styles, strict=True):
        plane, w = sample[None], weight * style[None, :, None, None]
        if up == 2:
            plane = upfirdn2d(plane, f, up=2, padding=(pad + 2, pad + 1) * 2, gain=4)
        elif down == 2:
            plane = upfirdn2d(plane, f, padding=pad + 1)
        else:
            plane = F.pad(plane, (pad,) * 4)
        results.append(F.conv2d(plane, w, stride=down))
    return torch.cat(results)


def coefficients(weight, styles):
    return (weight[None] * styles[:, None, :, None, None]).square().sum((2, 3, 4)).add(1e-8).rsqrt()


def finished(z, noise, bias, act, gain, clamp):
    z = z + (0 if noise is None else noise) + (0 if bias is None else bias[:, None, None])
    y = ACTIVATIONS[act](z) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


def shared(x, weight, styles, masks, demodulate=True, noise=None, bias=None, act="linear", gain=1.0, clamp=None, **resample):
    """Every pixel of x times the styles of its place, a plain convolution, every pixel of the result times coefficients of its place."""
    n, (height, width) = x.shape[0], x.shape[2:]
    masks = masks.expand(n, -1, -1, -1)
    inner = F.interpolate(masks, (height, width), mode="area")
    scaled = torch.empty_like(x)
    for i in range(n):
        for row in range(height):
            for column in range(width):
                m = inner[i, :, row, column]
                scaled[i, :, row, column] = x[i, :, row, column] * (styles[i, 0] * (1 - m.sum()) + m @ styles[i, 1:])
    z = plain(scaled, weight, torch.ones_like(styles[:, 0]), **resample)
    if demodulate:
        d = torch.stack([coefficients(weight, each) for each in styles.unbind(1)], 1)
        for i in range(n):
            for row in range(z.shape[2]):
                for column in range(z.shape[3]):
                    m = masks[i, :, row, column]
                    z[i, :, row, column] *= d[i, 0] * (1 - m.sum()) + m @ d[i, 1:]
    return finished(z, noise, bias, act, gain, clamp)


def blended(x, weight, styles, masks, demodulate=True, noise=None, bias=None, act="linear", gain=1.0, clamp=None, **resample):
    """A layer for each style, then (1 - sum m) y_0 + sum m_k y_k."""
    shares = torch.cat([1 - masks.sum(1, keepdim=True), masks], 1)
    total = 0
    for k, each in enumerate(styles.unbind(1)):
        z = plain(x, weight, each, **resample)
        z = z * coefficients(weight, each)[:, :, None, None] if demodulate else z
        total = total + shares[:, k : k + 1] * finished(z, noise, bias, act, gain, clamp)
    return total


RESTATED = {False: shared, True: blended}


def sample(dtype=torch.float64, n=2, i=3, o=5, kernel=3, size=(4, 6), count=2, each=True, up=1, down=1):
    """x, weight, styles [n, 1 + count, i], masks [n or 1, count, ..], which do not overlap and whose sum is at most 1."""
    x = torch.randn(n, i, *size, dtype=torch.float64)
    weight, styles = (
        0.3 * torch.randn(o, i, kernel, kernel, dtype=torch.float64),
        1 + 0.5 * torch.randn(n, 1 + count, i, dtype=torch.float64),
    )
    out = [side * up // down for side in size]
    masks = torch.rand(n if each else 1, 1 + count, *out, dtype=torch.float64).softmax(1)[:, 1:]
    return x.to(dtype), weight.to(dtype), styles.to(dtype), masks


@pytest.fixture(params=["reference", "registered", "native"])
def path(request, monkeypatch):
    """PyTorch's own graph; the registered operators by their PyTorch forms, as on any backend; the compiled kernels."""
    if request.param == "native" and backend.unavailable("modulated_conv2d", "native", "cpu") is not None:
        pytest.skip("no compiled library")
    if request.param == "registered":
        import facegan_kernels

        from facegan.ops import registration

        monkeypatch.setattr(backend, "_selected", {})
        monkeypatch.setattr(backend, "_found", {})
        monkeypatch.setattr(facegan_kernels, "find", lambda op, *_: backend._references[op])
        monkeypatch.setitem(registration._operators, "native", registration.operators("reference"))
    monkeypatch.setattr(backend, "_default", "reference" if request.param == "reference" else "native")
    return request.param


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("resample", RESAMPLED, ids=str)
@pytest.mark.parametrize("kernel,demodulate", [(3, True), (3, False), (1, True)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values(path, blend, resample, kernel, demodulate, dtype, tolerance):
    for count, each in ((1, False), (2, True), (3, False)):
        x, weight, styles, masks = sample(dtype, kernel=kernel, count=count, each=each, **resample)
        noise, bias = torch.randn(2 if each else 1, 1, *masks.shape[2:]).to(dtype), torch.randn(5).to(dtype)
        options = dict(demodulate=demodulate, act="lrelu", gain=1.4, clamp=2.0, **resample)
        wide = [t.double() for t in (x, weight, styles, masks)]
        expected = RESTATED[blend](*wide, noise=noise.double(), bias=bias.double(), **options)
        options.update(padding=kernel // 2, noise=noise, bias=bias, masks=masks, blend=blend)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            y = modulated_conv2d(x.contiguous(memory_format=memory_format), weight, styles, **options)
            assert y.dtype == dtype and y.is_contiguous(memory_format=memory_format)
            torch.testing.assert_close(y.double(), expected, **tolerance(dtype))
        torch.testing.assert_close(modulated_conv2d_ref(x, weight, styles, **options), y, **tolerance(dtype))


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations(path, blend, act):
    x, weight, styles, masks = sample()
    bias = torch.randn(5, dtype=torch.float64)
    y = modulated_conv2d(x, weight, styles, padding=1, bias=bias, act=act, gain=0.7, clamp=0.9, masks=masks, blend=blend)
    torch.testing.assert_close(y, RESTATED[blend](x, weight, styles, masks, bias=bias, act=act, gain=0.7, clamp=0.9))


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (3, 1)], ids=str)
@pytest.mark.parametrize("n,i,o", [(1, 1, 1), (3, 7, 2)])
def test_odd_shapes(path, blend, size, n, i, o):
    for up in (1, 2):
        x, weight, styles, masks = sample(n=n, i=i, o=o, size=size, up=up)
        y = modulated_conv2d(x, weight, styles, padding=1, up=up, masks=masks, blend=blend)
        torch.testing.assert_close(y, RESTATED[blend](x, weight, styles, masks, up=up))


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("outputs,count,clamp", [(1, 1, None), (3, 2, None), (4, 3, None), (3, 1, 0.5)])
def test_to_rgb(path, blend, outputs, count, clamp):
    """One convolution of x, times styles that vary, is the blended colours but for what is clamped."""
    x, weight, styles, masks = sample(o=outputs, kernel=1, count=count)
    bias = torch.randn(outputs, dtype=torch.float64)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=memory_format)
        y = modulated_conv2d(x, weight, styles, demodulate=False, bias=bias, clamp=clamp, masks=masks, blend=blend)
        assert y.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(y, RESTATED[blend](x, weight, styles, masks, demodulate=False, bias=bias, clamp=clamp))


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize(
    "options", [dict(), dict(up=2), dict(down=2), dict(demodulate=False, clamp=1.0), dict(act="tanh"), "toRGB"], ids=str
)
def test_gradients_of_both_orders(path, blend, options):
    """To x, the weight, all styles, masks, noise and bias."""
    rgb = options == "toRGB"
    options = dict(demodulate=False) if rgb else dict(act="lrelu", padding=1) | options
    x, weight, styles, masks = sample(
        i=2, o=2, size=(4, 2), kernel=1 if rgb else 3, each=not rgb, **{k: v for k, v in options.items() if k in ("up", "down")}
    )
    noise = None if rgb else torch.randn(1, 1, *masks.shape[2:], dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, weight, styles, masks, torch.randn(2, dtype=torch.float64), noise) if t is not None]

    def layer(x, weight, styles, masks, bias, noise=None):
        return modulated_conv2d(x, weight, styles, noise=noise, bias=bias, masks=masks, blend=blend, **options)

    assert torch.autograd.gradcheck(layer, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, inputs, fast_mode=True)


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("channels", [8, 64])
def test_with_and_without_a_graph(path, blend, up, channels):
    """A network's weight, of which a backend keeps what it makes; 64 channels take Winograd's filtering on a CPU."""
    x, weight, styles, masks = sample(torch.float32, i=channels, o=channels, size=(16, 16), count=1, up=up)
    weight = torch.nn.Parameter(weight)
    options = dict(padding=1, up=up, act="lrelu", bias=torch.randn(channels), noise=torch.randn(16 * up, 16 * up), masks=masks, blend=blend)
    y = modulated_conv2d(x, weight, styles, **options)
    with torch.no_grad():
        found = modulated_conv2d(x, weight, styles, **options)
        exact = modulated_conv2d_ref(*(t.double() for t in (x, weight, styles)), **options)
    for result in (y, found):
        torch.testing.assert_close(result.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("resample", RESAMPLED, ids=str)
@pytest.mark.parametrize("blend", [False, True])
def test_masks_of_zeros_and_of_ones(path, blend, resample):
    """No mask: the first style's layer. A mask everywhere: that of its style."""
    x, weight, styles, masks = sample(torch.float32, i=8, o=8, size=(8, 8), **resample)
    options = dict(padding=1, act="lrelu", bias=torch.randn(8), **resample)
    empty, full = torch.zeros_like(masks), torch.zeros_like(masks)
    full[:, 1] = 1
    for given, row in ((empty, 0), (full, 2)):
        y = modulated_conv2d(x, weight, styles, masks=given, blend=blend, **options)
        torch.testing.assert_close(y, modulated_conv2d(x, weight, styles[:, row], **options), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blend", [False, True])
def test_masks_of_zeros_to_the_bit(blend):
    """Of the compiled kernels around the library's convolution, where the plain layer takes the same."""
    if backend.unavailable("modulated_conv2d", "native", "cpu") is not None:
        pytest.skip("no compiled library")
    for up in (1, 2):
        x, weight, styles, masks = sample(torch.float32, i=8, o=8, size=(8, 8), count=1, up=up)
        options = dict(padding=1, up=up, act="lrelu", bias=torch.randn(8), noise=torch.randn(8 * up, 8 * up))
        with backend.use_backend("native"), torch.no_grad():
            expected = modulated_conv2d(x, weight, styles[:, 0], **options)
            y = modulated_conv2d(x, weight, styles, masks=torch.zeros_like(masks), blend=blend, **options)
        assert torch.equal(y, expected)


@pytest.mark.parametrize("blend", [False, True])
def test_float16_of_styles_in_the_thousands(path, blend):
    """Also where one region's are ordinary ones, and the layer before demodulation overflows."""
    x, weight, styles, masks = sample(torch.float32, n=3, i=64, o=6, count=2)
    scales = torch.tensor([[1.0, 6000, 1], [3000, 3000, 5000], [1e-3, 1, 30]])
    styles = styles * scales[:, :, None]
    y = modulated_conv2d(x.half(), weight.half(), styles.half(), padding=1, masks=masks, blend=blend)
    wide = [t.half().double() for t in (x, weight, styles)]
    expected = RESTATED[blend](*wide, masks)
    assert y.isfinite().all()
    error = (y.double() - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert (error < 4e-3).all(), error


def test_autocast(path):
    x, weight, styles, masks = sample(torch.float32)
    x.requires_grad_()
    for blend in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            y = modulated_conv2d(x, weight, styles, padding=1, act="lrelu", masks=masks, blend=blend)
        assert y.dtype == torch.bfloat16
        (dx,) = torch.autograd.grad(y.float().square().mean(), [x])
        assert dx.dtype == torch.float32 and dx.isfinite().all()


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("kernel,demodulate", [(3, True), (1, False)])
def test_no_images(path, blend, kernel, demodulate):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x, weight, styles, _ = sample(n=0, o=3, kernel=kernel, size=(4, 4))
        x, weight = x.contiguous(memory_format=memory_format).requires_grad_(), weight.requires_grad_()
        masks = torch.rand(1, 2, 4, 4)
        y = modulated_conv2d(x, weight, styles, padding=kernel // 2, demodulate=demodulate, masks=masks, blend=blend)
        assert y.shape == (0, 3, 4, 4)
        y.sum().backward()
        assert weight.grad.eq(0).all() and x.grad.shape == x.shape


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("up", [1, 2])
def test_compiles_whole(path, blend, up):
    x, weight, styles, masks = sample(torch.float32, up=up)
    inputs = [t.requires_grad_() for t in (x, weight, styles, masks)]

    def layer(x, weight, styles, masks):
        return modulated_conv2d(x, weight, styles, padding=1, up=up, act="lrelu", masks=masks, blend=blend)

    y = layer(*inputs)
    cotangent = torch.randn_like(y)
    expected = torch.autograd.grad(y, inputs, cotangent)
    found = torch.autograd.grad(torch.compile(layer, fullgraph=True, backend="aot_eager")(*inputs), inputs, cotangent)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "arguments,words",
    [
        (dict(styles=torch.zeros(2, 3)), r"styles have shape \[2, 3\] and masks \[1, 2, 4, 4\]; expected \[N, 1 \+ K, I\]"),
        (dict(styles=torch.zeros(2, 2, 3)), r"styles have shape \[2, 2, 3\] and masks \[1, 2, 4, 4\]"),
        (dict(masks=torch.zeros(2, 4, 4)), r"styles have shape \[2, 3, 3\] and masks \[2, 4, 4\]"),
        (dict(masks=torch.zeros(1, 0, 4, 4), styles=torch.zeros(2, 1, 3)), "at least one"),
        (dict(masks=torch.zeros(3, 2, 4, 4)), r"masks have shape \[3, 2, 4, 4\]; expected \[1 or 2, 2, 4, 4\], the size of"),
        (dict(masks=torch.zeros(1, 2, 8, 8)), r"masks have shape \[1, 2, 8, 8\]; expected \[1 or 2, 2, 4, 4\]"),
        (dict(masks=None), r"styles have shape \[2, 3, 3\]; expected \[N, I\]"),
    ],
)
def test_bad_arguments(arguments, words):
    defaults = dict(x=torch.zeros(2, 3, 4, 4), weight=torch.zeros(5, 3, 3, 3), styles=torch.zeros(2, 3, 3), masks=torch.zeros(1, 2, 4, 4))
    with pytest.raises(FaceganError, match=words):
        modulated_conv2d(**{**defaults, **arguments}, padding=1)
