from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan.backend import BackendUnavailable
from facegan.errors import FaceganError
from facegan.ops import bias_act
from facegan.ops.activation import DEFAULT_GAINS

ACTS = {
    "linear": lambda v, alpha: v,
    "relu": lambda v, alpha: np.maximum(v, 0),
    "lrelu": lambda v, alpha: np.where(v > 0, v, alpha * v),
    "tanh": lambda v, alpha: np.tanh(v),
    "sigmoid": lambda v, alpha: 1 / (1 + np.exp(-v)),
}
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, eq. 14
UNFUSED = {
    "elu": lambda v, alpha: np.where(v > 0, v, np.expm1(v)),
    "selu": lambda v, alpha: SELU_SCALE * np.where(v > 0, v, SELU_ALPHA * np.expm1(v)),
    "softplus": lambda v, alpha: np.logaddexp(0, v),
    "swish": lambda v, alpha: v / (1 + np.exp(-v)),
}


def restated(x, b, dim, act, alpha, gain, clamp):
    v = x.double().numpy()
    if b is not None:
        v = np.moveaxis(np.moveaxis(v, dim, -1) + b.double().numpy(), -1, dim)
    v = {**ACTS, **UNFUSED}[act](v, alpha) * gain
    return torch.from_numpy(v if clamp is None else np.clip(v, -clamp, clamp))


def operator(x, b, act, gain=1.3, clamp=None, dim=1):
    return torch.ops.facegan_reference.bias_act(x, b, dim, act, 0.2, gain, clamp)


@pytest.mark.parametrize("act", [*ACTS, *UNFUSED])
@pytest.mark.parametrize("gain", [None, 1.0, 0.7, -1.5, 0.0])
@pytest.mark.parametrize("clamp", [None, 0.4, 0.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_agrees_with_numpy(path, act, gain, clamp, biased, dtype, tolerance):
    x = torch.randn(3, 5, 7, 2).to(dtype)
    b = torch.randn(5).to(dtype) if biased else None
    before = x.clone()
    expected = restated(x, b, 1, act, 0.1, DEFAULT_GAINS[act] if gain is None else gain, clamp)
    y = bias_act(x, b, act=act, alpha=0.1, gain=gain, clamp=clamp)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, **tolerance(dtype))
    torch.testing.assert_close(x, before, rtol=0, atol=0)  # nothing is done in place on the caller's tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape,dim", [((2, 3, 5, 7), 1), ((1, 13, 1, 1), 1), ((0, 3, 4, 4), 1), ((4, 6), -1), ((2, 3, 11), 0), ((17,), 0)])
def test_shapes_and_formats(dtype, shape, dim, tolerance):
    x, b = torch.randn(shape).to(dtype), torch.randn(shape[dim])
    expected = restated(x, b.to(dtype), dim, "lrelu", 0.2, 2**0.5, None)
    y = bias_act(x, b, dim=dim)
    torch.testing.assert_close(y.double(), expected, **tolerance(dtype))
    for act in UNFUSED:
        y = bias_act(x, b, dim=dim, act=act, clamp=1.5)
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), restated(x, b.to(dtype), dim, act, 0.2, DEFAULT_GAINS[act], 1.5), **tolerance(dtype))
    if x.ndim == 4:
        y = bias_act(x.contiguous(memory_format=torch.channels_last), b)
        # of a map without elements PyTorch's rule suggests rows, whatever its strides (formats.py)
        assert y.is_contiguous(memory_format=torch.channels_last if y.numel() else torch.contiguous_format)
        torch.testing.assert_close(y.double(), expected, **tolerance(dtype))
        transposed = bias_act(x.transpose(2, 3), b)
        torch.testing.assert_close(transposed.transpose(2, 3).double(), expected, **tolerance(dtype))


@pytest.mark.parametrize("act", UNFUSED)
@pytest.mark.parametrize("options", [dict(), dict(gain=1.3), dict(gain=-0.7, clamp=0.9)])
def test_gradients_of_what_is_not_fused(path, act, options):
    x, b = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, dtype=torch.float64, requires_grad=True)
    x.data[0, 0] *= 10  # where exponentials saturate
    function = lambda x, b: bias_act(x, b, act=act, **options)  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, b))
    assert torch.autograd.gradgradcheck(function, (x, b), atol=1e-4)


@pytest.mark.parametrize("options", [dict(gain=1.0), dict(), dict(gain=-1.5, clamp=0.4)])
@pytest.mark.parametrize("alpha", [-0.3, -2.0])
@pytest.mark.parametrize("biased", [False, True])
def test_a_slope_below_zero_may_be_negative(path, options, alpha, biased):
    x, b = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, dtype=torch.float64, requires_grad=True)
    inputs = (x, b) if biased else (x,)
    y = bias_act(*inputs, act="lrelu", alpha=alpha, **options)
    gain = options.get("gain", 2**0.5)
    expected = restated(x.detach(), b.detach() if biased else None, 1, "lrelu", alpha, gain, options.get("clamp"))
    torch.testing.assert_close(y.detach(), expected)
    assert torch.autograd.gradcheck(lambda *t: bias_act(*t, act="lrelu", alpha=alpha, **options), inputs)
    assert torch.autograd.gradgradcheck(lambda *t: bias_act(*t, act="lrelu", alpha=alpha, **options), inputs)


@pytest.mark.parametrize("act", [*ACTS, *UNFUSED])
@pytest.mark.parametrize("options", [dict(gain=0.0), dict(clamp=0.0), dict(gain=0.0, clamp=0.0)])
def test_a_gain_or_clamp_of_zero_has_zeros_of_every_order(path, act, options):
    x, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    x.data[0, 0, :3] = torch.tensor([float("inf"), -float("inf"), 1e30])
    y = bias_act(x, b, act=act, **options)
    first = torch.autograd.grad(y, (x, b), torch.randn_like(y).requires_grad_(), create_graph=True)
    assert not y.any() and not any(g.any() for g in first)
    second = torch.autograd.grad(sum(g.square().sum() + g.sum() for g in first), (x, b), allow_unused=True, materialize_grads=True)
    assert not any(g.any() for g in second)


@pytest.mark.parametrize("gain", [1.0, -1.7])
@pytest.mark.parametrize("biased", [False, True])
def test_the_result_of_linear_may_be_written_to(path, gain, biased):
    """As NVIDIA's discriminator does, then a penalty as R1's through both orders."""
    x, b, z = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 4), (3,), (2, 3, 4)))
    before = x.detach().clone()
    y = bias_act(x * 1, b if biased else None, act="linear", gain=gain)
    y.add_(z)
    (first,) = torch.autograd.grad((y.square() * y).sum(), x, create_graph=True)
    v = gain * (before + (b.detach()[:, None] if biased else 0)) + z.detach()
    torch.testing.assert_close(first.detach(), 3 * gain * v.square())
    second = torch.autograd.grad(first.square().sum(), (x, b, z), allow_unused=True, materialize_grads=True)
    of_v = 36 * gain**2 * v**3  # d/dv of (3 gain v^2)^2
    torch.testing.assert_close(second[0], gain * of_v)
    torch.testing.assert_close(second[2], of_v)
    torch.testing.assert_close(second[1], gain * of_v.sum((0, 2)) if biased else torch.zeros(3, dtype=torch.float64))


def test_linear_keeps_no_map(path):
    saved = []
    x, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = bias_act(x, b, act="linear", gain=1.5)
        torch.autograd.grad(y, (x, b), torch.randn_like(y).requires_grad_(), create_graph=True)
    assert not [t for t in saved if t.numel() >= x.numel()]


def test_the_identity_has_a_result_of_its_own(path):
    x = torch.randn(2, 3)
    y = bias_act(x, act="linear")
    assert y.data_ptr() != x.data_ptr() and torch.equal(x, y)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_gradients_of_both_orders(act, clamp):
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64, requires_grad=True)
    for function in (lambda x, b: bias_act(x, b, act=act, gain=1.3, clamp=clamp), lambda x, b: operator(x, b, act, 1.3, clamp)):
        assert torch.autograd.gradcheck(function, (x, b))
        assert torch.autograd.gradgradcheck(function, (x, b))


@pytest.mark.parametrize("act", ACTS)
def test_operator_gradients_agree_with_native_autograd(act):
    x, b = torch.randn(3, 5, 2, requires_grad=True), torch.randn(5, requires_grad=True)
    cotangent = torch.randn(3, 5, 2)
    native = torch.autograd.grad(bias_act(x, b, act=act, gain=-0.7), (x, b), cotangent)
    registered = torch.autograd.grad(operator(x, b, act, -0.7), (x, b), cotangent)
    torch.testing.assert_close(registered, native)


@pytest.mark.parametrize("act", ["lrelu", "tanh", "linear"])
@pytest.mark.parametrize("biased", [False, True])
def test_opcheck(act, biased):
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    b = torch.randn(3, requires_grad=True) if biased else None
    torch.library.opcheck(torch.ops.facegan_reference.bias_act.default, (x, b, 1, act, 0.2, 1.0, 0.5))
    dy, y = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5, requires_grad=True)
    torch.library.opcheck(torch.ops.facegan_reference.bias_act_backward.default, (dy, y, 1, biased, act, 0.2, 1.5, 0.5))


def test_fake_kernels_know_the_strides_of_results():
    """Also of tensors that are dense in neither format."""
    x = torch.randn(2, 3, 4, 5).transpose(2, 3)
    torch.library.opcheck(torch.ops.facegan_reference.bias_act.default, (x, torch.randn(3), 1, "lrelu", 0.2, 1.0, None))
    torch.library.opcheck(torch.ops.facegan_reference.modulate.default, (x, torch.randn(2, 3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, b: bias_act(x, b),
        lambda x, b: operator(x, b, "lrelu", 2**0.5),
        lambda x, b: bias_act(x, b, act="swish", clamp=0.5),
        lambda x, b: bias_act(x, b, alpha=-0.5),
        lambda x, b: bias_act(x, b, gain=0.0),
        lambda x, b: bias_act(x, b, act="linear").add_(x),
    ],
)
def test_compiles_whole(function):
    x, b = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    cotangent = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(compiled(x, b), function(x, b))
    expected = torch.autograd.grad(function(x, b), (x, b), cotangent)
    torch.testing.assert_close(torch.autograd.grad(compiled(x, b), (x, b), cotangent), expected)


@pytest.mark.parametrize(
    "arguments,words",
    [
        (dict(act="gelu"), "act is 'gelu'; expected one of linear"),
        (dict(b=torch.zeros(4)), r"b has shape \[4\]; expected \[3\]"),
        (dict(b=torch.zeros(3), dim=4), "dim is 4"),
        (dict(alpha=float("inf")), "alpha is inf"),
        (dict(gain=float("nan")), "gain is nan"),
        (dict(gain=float("inf")), "gain is inf"),
        (dict(clamp=float("nan")), "clamp is nan"),
        (dict(clamp=-1.0), "clamp is -1.0"),
        (dict(x=torch.zeros(2, 3, dtype=torch.int64)), "x has dtype torch.int64"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(FaceganError, match=words):
        bias_act(**{"x": torch.zeros(2, 3), **arguments})


def test_a_single_number(path):
    x = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    y = bias_act(x, act="lrelu", gain=3.0)
    y.backward()
    torch.testing.assert_close((y.detach(), x.grad), (torch.tensor(-1.2).double(), torch.tensor(0.6).double()))


def test_forward_mode_is_right_or_refused(path):
    """A kernel that knows nothing of tangents would lose them without a word."""
    x, tangent = torch.randn(2, 3), torch.randn(2, 3)
    if path == "registered":
        with pytest.raises(BackendUnavailable, match=r"bias_act: the kernels of backend 'native' know neither .* nor forward-mode"):
            torch.func.jvp(bias_act, (x,), (tangent,))
    else:
        _, found = torch.func.jvp(lambda x: bias_act(x, act="relu", gain=1.0), (x,), (tangent,))
        torch.testing.assert_close(found, torch.where(x > 0, tangent, 0.0))
