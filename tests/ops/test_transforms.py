"""torch.func's transforms and forward mode of every public op: right on PyTorch's own graph, refused in a sentence by kernels.

`auto` goes to PyTorch's graph by itself. Expected are derivatives by plain autograd, and finite differences in float64.
"""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from facegan import backend
from facegan.backend import BackendUnavailable, use_backend
from facegan.ops import (
    adain,
    adain_affine,
    bias_act,
    conv2d,
    conv2d_bias_act,
    conv2d_layer,
    conv2d_resample,
    downsample2d,
    filter2d,
    filtered_lrelu,
    linear,
    modulated_conv2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)

F = setup_filter()
# op -> (function, shapes of its differentiable inputs); values are of order one, inputs in float64
OPS = {
    "bias_act": (lambda x, b: bias_act(x, b, act="tanh", gain=0.8), [(2, 3, 4, 4), (3,)]),
    "upfirdn2d": (lambda x: upfirdn2d(x, F, up=2, down=3, padding=3), [(2, 3, 4, 4)]),
    "upsample2d": (lambda x: upsample2d(x, F), [(2, 3, 4, 4)]),
    "downsample2d": (lambda x: downsample2d(x, F), [(2, 3, 4, 4)]),
    "filter2d": (lambda x: filter2d(x, F), [(2, 3, 4, 4)]),
    "filtered_lrelu": (lambda x, b: filtered_lrelu(x, F, F, b, 2, 2, 4, clamp=1.5), [(2, 3, 4, 4), (3,)]),
    "adain": (lambda c, s: adain(c, s, 0.7), [(2, 3, 4, 4), (2, 3, 2, 5)]),
    "adain_affine": (adain_affine, [(2, 3, 4, 4), (2, 3), (2, 3)]),
    "conv2d": (lambda x, w, b: conv2d(x, w, b, padding=1), [(2, 3, 4, 4), (5, 3, 3, 3), (5,)]),
    "conv2d transposed": (lambda x, w: conv2d(x, w, stride=2, transposed=True), [(2, 3, 4, 4), (3, 5, 3, 3)]),
    "conv2d_resample": (lambda x, w: conv2d_resample(x, w, F, up=2, padding=1), [(2, 3, 4, 4), (5, 3, 3, 3)]),
    "conv2d_bias_act": (lambda x, w, b: conv2d_bias_act(x, w, b, padding=1, act="tanh"), [(2, 3, 4, 4), (5, 3, 3, 3), (5,)]),
    "conv2d_layer": (lambda x, w, b: conv2d_layer(x, w, b, F, down=2, padding=1, act="sigmoid"), [(2, 3, 4, 4), (5, 3, 3, 3), (5,)]),
    "linear": (linear, [(2, 3), (4, 3), (4,)]),
    "modulated_conv2d": (
        lambda x, w, s, b: modulated_conv2d(x, w, s, padding=1, bias=b, act="tanh"), [(2, 3, 4, 4), (5, 3, 3, 3), (2, 3), (5,)]
    ),
    "modulated_conv2d up": (lambda x, w, s: modulated_conv2d(x, w, s, padding=1, up=2), [(2, 3, 4, 4), (5, 3, 3, 3), (2, 3)]),
    "modulated_conv2d down": (lambda x, w, s: modulated_conv2d(x, w, s, padding=1, down=2), [(2, 3, 4, 4), (5, 3, 3, 3), (2, 3)]),
    "regional": (
        lambda x, w, s, m: modulated_conv2d(x, w, s, padding=1, act="tanh", masks=m),
        [(2, 3, 4, 4), (5, 3, 3, 3), (2, 2, 3), (2, 1, 4, 4)],
    ),
    "blended": (
        lambda x, w, s, m: modulated_conv2d(x, w, s, padding=1, up=2, act="tanh", masks=m, blend=True),
        [(2, 3, 4, 4), (5, 3, 3, 3), (2, 2, 3), (2, 1, 8, 8)],
    ),
    "toRGB": (lambda x, w, s: modulated_conv2d(x, w, s, demodulate=False), [(2, 5, 4, 4), (3, 5, 1, 1), (2, 5)]),
}  # fmt: skip
CONVOLUTIONS = ("conv2d", "conv2d transposed", "linear")  # of which there is one implementation on every device


@pytest.fixture(params=OPS)
def op(request):
    function, shapes = OPS[request.param]
    return function, tuple(torch.randn(shape, dtype=torch.float64) + 0.3 for shape in shapes)


@pytest.fixture(params=["auto", "reference"])
def asked(request, monkeypatch):
    monkeypatch.setattr(backend, "_default", request.param)


def expected_gradients(function, inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    with use_backend("reference"):
        return torch.autograd.grad(function(*leaves).square().sum(), leaves)


def test_grad(op, asked):
    function, inputs = op
    found = torch.func.grad(lambda *inputs: function(*inputs).square().sum(), tuple(range(len(inputs))))(*inputs)
    torch.testing.assert_close(found, expected_gradients(function, inputs))


def test_gradient_of_a_gradient(op, asked):
    """Hessian-vector products, twice reverse and forward over reverse."""
    function, (x, *rest) = op
    v = torch.randn_like(x)

    def gradient(x):
        return torch.func.grad(lambda x: function(x, *rest).square().sum())(x)

    leaf = x.clone().requires_grad_()
    with use_backend("reference"):
        (first,) = torch.autograd.grad(function(leaf, *rest).square().sum(), leaf, create_graph=True)
    (expected,) = torch.autograd.grad(first, leaf, v)
    torch.testing.assert_close(torch.func.vjp(gradient, x)[1](v)[0], expected)
    torch.testing.assert_close(torch.func.jvp(gradient, (x,), (v,))[1], expected)


def test_jvp(op, asked):
    function, inputs = op
    tangents, step = tuple(torch.randn_like(x) for x in inputs), 1e-6
    y, found = torch.func.jvp(function, inputs, tangents)
    ahead, behind = (function(*(x + side * step * t for x, t in zip(inputs, tangents, strict=True))) for side in (1, -1))
    torch.testing.assert_close(y, function(*inputs))
    torch.testing.assert_close(found, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


def test_vmap(op, asked):
    """Over all inputs, over the first alone, and of gradients for every sample."""
    function, inputs = op
    several = tuple(torch.stack([x, x * 2 - 1, x + 1]) for x in inputs)
    torch.testing.assert_close(torch.func.vmap(function)(*several), torch.stack([function(*one) for one in zip(*several, strict=True)]))
    over_first = torch.func.vmap(function, in_dims=(0, *(None,) * (len(inputs) - 1)))(several[0], *inputs[1:])
    torch.testing.assert_close(over_first, torch.stack([function(x, *inputs[1:]) for x in several[0]]))
    found = torch.func.vmap(torch.func.grad(lambda *inputs: function(*inputs).square().sum()))(*several)
    torch.testing.assert_close(found, torch.stack([expected_gradients(function, one)[0] for one in zip(*several, strict=True)]))


def test_jacobians(op, asked):
    function, (x, *rest) = op
    x = x[:1, :, :2, :2] if x.ndim == 4 and all(r.shape[0] != 2 for r in rest) else x
    reverse, forward = (jacobian(lambda x: function(x, *rest).sum((0, 1)))(x) for jacobian in (torch.func.jacrev, torch.func.jacfwd))
    torch.testing.assert_close(reverse, forward)


def test_dual_numbers(op, asked):
    function, inputs = op
    tangents = tuple(torch.randn_like(x) for x in inputs)
    with forward_ad.dual_level():
        y = function(*(forward_ad.make_dual(x, t) for x, t in zip(inputs, tangents, strict=True)))
        found = forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(found, torch.func.jvp(function, inputs, tangents)[1])


@pytest.mark.parametrize("name", OPS)
def test_kernels_refuse_in_a_sentence(path, name):
    """The convolutions alone serve; what asks for a backend by name is told what to do."""
    if path == "reference":
        pytest.skip("PyTorch's own graph serves")
    function, shapes = OPS[name]
    inputs = tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)
    transforms = (
        lambda: torch.func.grad(lambda *inputs: function(*inputs).sum())(*inputs),
        lambda: torch.func.vmap(function)(*(x[None] for x in inputs)),
        lambda: torch.func.jvp(function, inputs, inputs),
    )
    for transform in transforms:
        if name in CONVOLUTIONS:
            transform()
        else:
            with pytest.raises(BackendUnavailable, match=r"backend 'native' know neither torch.func's .*use_backend\('reference'\)"):
                transform()


def test_functional_call(path):
    """No transform: the parameters of a module replaced for one call, on kernels too, with their gradients."""
    layer = torch.nn.Module()
    layer.weight, layer.bias = torch.nn.Parameter(torch.randn(5, 3, 3, 3)), torch.nn.Parameter(torch.randn(5))
    layer.forward = lambda x, s: modulated_conv2d(x, layer.weight, s, padding=1, bias=layer.bias, act="lrelu")
    x, s = torch.randn(2, 3, 4, 4), torch.rand(2, 3)
    replaced = {"weight": torch.randn(5, 3, 3, 3, requires_grad=True), "bias": torch.randn(5, requires_grad=True)}
    y = torch.func.functional_call(layer, replaced, (x, s))
    with use_backend("reference"):
        expected = modulated_conv2d(x, replaced["weight"], s, padding=1, bias=replaced["bias"], act="lrelu")
    torch.testing.assert_close(y, expected)
    leaves = list(replaced.values())
    cotangent = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent), rtol=1e-4, atol=1e-5
    )
