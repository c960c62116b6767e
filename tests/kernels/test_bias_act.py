"""bias_act on every backend against the float64 reference and its native gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan.ops import bias_act, bias_act_ref

ACTS = ["linear", "relu", "lrelu", "tanh", "sigmoid"]
SHAPES = [
    ((2, 3, 5, 7), 1), ((2, 8, 16, 16), 1), ((1, 130, 1, 1), 1), ((3, 1, 67, 3), 1), ((2, 37, 4, 4), 1), ((5, 64), 1), ((4, 6), 0),
    ((2, 3, 11), 2), ((2, 3, 11), 0), ((17,), 0), ((2, 3, 2, 3, 2), 1), ((0, 3, 4, 4), 1), ((2, 0, 4, 4), 1),
]  # fmt: skip


def expected_gradients(dy, x, b, dim, **options):
    """y and the gradients of x and b in float64, by the reference and PyTorch's autograd."""
    x, b = x.double().cpu().requires_grad_(), b.double().cpu().requires_grad_()
    y = bias_act_ref(x, b, dim, **options)
    return y.detach(), *torch.autograd.grad(y, (x, b), dy.double().cpu())


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("gain,clamp", [(1.0, None), (1.7, 0.4), (-0.6, None), (-0.6, 0.3)])
def test_forward(kernel, draw, close, act, gain, clamp, dtype, memory_format):
    x, b = draw(2, 5, 9, 8, dtype=dtype, memory_format=memory_format), draw(5, dtype=dtype)
    before = x.clone()
    y = kernel("bias_act")(x, b, 1, act, 0.1, gain, clamp)
    assert y.dtype == dtype and y.stride() == x.stride()
    close(y, bias_act_ref(x.double(), b.double(), 1, act, 0.1, gain, clamp))
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("gain,clamp", [(1.3, None), (-0.6, 0.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_the_kernels(kernel, draw, close, act, gain, clamp, dtype, memory_format):
    """Of both orders, against autograd through the float64 reference at the y that the kernel is given."""
    dy, y, ddx = (draw(3, 5, 9, 8, dtype=dtype, memory_format=memory_format) for _ in range(3))
    y = gain * (0.05 + 0.9 * y.sigmoid() if act == "sigmoid" else 0.9 * y.tanh())
    ddb = draw(5, dtype=dtype)
    options = (act, 0.1, gain, clamp)
    dx, db = kernel("bias_act_backward")(dy, y, 1, True, *options)
    d_dy, d_y = kernel("bias_act_double_backward")(ddx, ddb, dy, y, 1, *options)

    # where y comes from: every act has an inverse, relu on its positive half
    a = y.double().cpu() / gain
    below = {"linear": 1.0, "relu": 1.0, "lrelu": 0.1}.get(act)
    v = a.atanh() if act == "tanh" else a.logit() if act == "sigmoid" else torch.where(a > 0, a, a / below)
    v.requires_grad_()
    b = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    g = dy.double().cpu().requires_grad_()
    expected_dx, expected_db = torch.autograd.grad(bias_act_ref(v, b, 1, *options), (v, b), g, create_graph=True)
    assert dx.stride() == dy.stride() and db.dtype == dtype
    close(dx, expected_dx)
    close(db, expected_db)
    outer = ddx.double().cpu(), ddb.double().cpu()
    second = torch.autograd.grad((expected_dx, expected_db), (g, v), outer, allow_unused=True, materialize_grads=True)
    close(d_dy, second[0])
    if act in ("tanh", "sigmoid"):
        # d_y is by y; autograd's is by v, hence times d y / d v
        slope = torch.autograd.grad(bias_act_ref(v, None, 1, *options), v, torch.ones_like(v))[0]
        close(d_y.double().cpu() * slope, second[1], dtype)
    else:
        assert d_y.shape == (0,)


@pytest.mark.parametrize("shape,dim", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_shapes(kernel, draw, close, shape, dim, channels_last):
    if channels_last and len(shape) < 4:
        pytest.skip("channels_last needs four dimensions")
    format = (torch.channels_last if len(shape) == 4 else torch.channels_last_3d) if channels_last else torch.contiguous_format
    x, dy = (draw(*shape, memory_format=format) for _ in range(2))
    b = draw(shape[dim])
    y, dx, db = expected_gradients(dy, x, b, dim)
    options = ("lrelu", 0.2, 2**0.5, None)
    close(kernel("bias_act")(x, b, dim, *options), y)
    actual_dx, actual_db = kernel("bias_act_backward")(dy, y.to(x), dim, True, *options)
    assert actual_dx.shape == dx.shape and actual_db.shape == db.shape
    close(actual_dx, dx)
    close(actual_db, db)


def test_without_a_bias(kernel, draw, close):
    x, dy = draw(2, 3, 5, 7), draw(2, 3, 5, 7)
    close(kernel("bias_act")(x, None, 1, "tanh", 0.2, 0.5, None), 0.5 * x.double().tanh())
    dx, db = kernel("bias_act_backward")(dy, x, 1, False, "relu", 0.2, 2.0, None)
    close(dx, 2 * dy.double() * (x > 0))
    assert db.shape == (0,)
    d_dy, _ = kernel("bias_act_double_backward")(dy, None, dy, x, 1, "relu", 0.2, 2.0, None)
    close(d_dy, 2 * dy.double() * (x > 0))


def test_strides_of_any_kind(kernel, draw, close):
    """Transposed, sliced and expanded arguments, in other formats than the first."""
    x, b = draw(2, 7, 6, 3).mT, draw(14)[::2]
    options = ("lrelu", 0.2, 1.5, None)
    close(kernel("bias_act")(x, b, 1, *options), bias_act_ref(x.double(), b.double(), 1, *options))
    x = draw(2, 14, 6, 5, memory_format=torch.channels_last)[:, ::2, 1:, :3]
    close(kernel("bias_act")(x, b, 1, *options), bias_act_ref(x.double(), b.double(), 1, *options))
    y = draw(2, 7, 6, 5, memory_format=torch.channels_last)
    dy = draw(1, 7, 1, 1).expand(2, 7, 6, 5)
    dx, db = kernel("bias_act_backward")(dy, y, 1, True, *options)
    expected = 1.5 * dy.double() * torch.where(y > 0, 1.0, 0.2)
    close(dx, expected)
    close(db, expected.sum((0, 2, 3)))


def test_sums_of_many_tiles(kernel, draw, close, memory_format):
    """The bias gradient over more rows than one tile holds."""
    dy, y = (draw(3, 24, 13, 20, memory_format=memory_format) for _ in range(2))
    dx, db = kernel("bias_act_backward")(dy, y, 1, True, "linear", 0.2, 1.0, None)
    close(dx, dy)
    close(db, dy.double().sum((0, 2, 3)))
    again = kernel("bias_act_backward")(dy, y, 1, True, "linear", 0.2, 1.0, None)[1]
    torch.testing.assert_close(again, db, rtol=0, atol=0)


@pytest.mark.parametrize("act", ACTS)
def test_not_a_number_stays(kernel, draw, act):
    x = draw(1, 2, 4, 4)
    x[0, 1, 2, 3] = float("nan")
    y = kernel("bias_act")(x, None, 1, act, 0.2, 1.0, 0.5)
    assert y.isnan().sum() == 1 and y[0, 1, 2, 3].isnan()


@pytest.mark.parametrize("act", ["tanh", "sigmoid"])
def test_saturates(kernel, device, close, act):
    x = torch.tensor([-1e30, -200.0, -20.0, 0.0, 20.0, 200.0, 1e30], device=device)
    close(kernel("bias_act")(x, None, 0, act, 0.2, 1.0, None), getattr(torch, act)(x.double()))


@pytest.mark.parametrize("act", ["tanh", "sigmoid"])
def test_every_digit_of_float32(kernel, target, device, act):
    """Relative, at all magnitudes: the native kernels have a polynomial of their own in place of the library's exp."""
    if target[0] == "triton":
        pytest.skip("Triton's tanh is exact to an absolute error")
    magnitudes = torch.logspace(-30, math.log10(80), 20_000, dtype=torch.float64)
    x = torch.cat([-magnitudes, magnitudes, torch.linspace(-20, 20, 20_001, dtype=torch.float64)]).float().to(device)
    expected = getattr(torch, act)(x.double())
    error = (kernel("bias_act")(x, None, 0, act, 0.2, 1.0, None).double() - expected).abs()
    assert (error <= 4e-7 * expected.abs()).all()


@pytest.mark.parametrize("clamp", [0.3, 1 / 3])
def test_no_gradient_where_clamped(kernel, draw, dtype, clamp):
    """Also where the limit is no value of the dtype."""
    x = 4 * draw(64, dtype=dtype)
    y = kernel("bias_act")(x, None, 0, "linear", 0.2, 1.0, clamp)
    dx, _ = kernel("bias_act_backward")(torch.ones_like(x), y, 0, False, "linear", 0.2, 1.0, clamp)
    torch.testing.assert_close(dx, (x.abs() < y.abs().max()).to(dtype), rtol=0, atol=0)


@settings.get_profile("kernels")
@given(
    shape=st.lists(st.integers(1, 21), min_size=1, max_size=4).filter(lambda shape: torch.Size(shape).numel() < 3000),
    place=st.integers(0, 3),
    act=st.sampled_from(ACTS),
    gain=st.sampled_from([1.0, 1.4, -2.0]),
    channels_last=st.booleans(),
)
def test_any_shape(kernel, draw, close, shape, place, act, gain, channels_last):
    dim = place % len(shape)
    format = torch.channels_last if channels_last and len(shape) == 4 else torch.contiguous_format
    x, dy = (draw(*shape, dtype=torch.float64, memory_format=format) for _ in range(2))
    b = draw(shape[dim], dtype=torch.float64)
    y, dx, db = expected_gradients(dy, x, b, dim, act=act, gain=gain, clamp=0.9)
    actual = kernel("bias_act")(x, b, dim, act, 0.2, gain, 0.9)
    close(actual, y)
    actual_dx, actual_db = kernel("bias_act_backward")(dy, actual, dim, True, act, 0.2, gain, 0.9)
    close(actual_dx, dx)
    close(actual_db, db)


@pytest.mark.parametrize("act", ACTS)
def test_the_public_op(forced, draw, act):
    """gradcheck and gradgradcheck through the dispatch."""
    forced("bias_act")
    x, b = draw(2, 3, 4, dtype=torch.float64).requires_grad_(), draw(3, dtype=torch.float64).requires_grad_()
    for clamp in (None, 0.8):
        assert torch.autograd.gradcheck(lambda x, b: bias_act(x, b, act=act, gain=1.3, clamp=clamp), (x, b), fast_mode=True)  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda x, b: bias_act(x, b, act=act, gain=1.3, clamp=clamp), (x, b), fast_mode=True)  # noqa: B023


@pytest.mark.parametrize("gain", [1.0, -1.7])
def test_the_result_of_linear_may_be_written_to(forced, draw, gain):
    """Both orders after an addition in place: nothing that was kept for them has changed."""
    forced("bias_act")
    x, z = (draw(2, 3, 4, 5, dtype=torch.float64).requires_grad_() for _ in range(2))
    b = draw(3, dtype=torch.float64).requires_grad_()
    y = bias_act(x, b, act="linear", gain=gain).add_(z)
    (first,) = torch.autograd.grad((y.square() * y).sum(), x, create_graph=True)
    v = (gain * (x + b[:, None, None]) + z).detach()
    torch.testing.assert_close(first.detach(), 3 * gain * v.square())
    d_x, d_b, d_z = torch.autograd.grad(first.square().sum(), (x, b, z))
    of_v = 36 * gain**2 * v**3
    torch.testing.assert_close(d_x, gain * of_v)
    torch.testing.assert_close(d_b, gain * of_v.sum((0, 2, 3)))
    torch.testing.assert_close(d_z, of_v)


UNFUSED = {
    "elu": (lambda v: torch.where(v > 0, v, v.exp() - 1), {}),
    "selu": (lambda v: 1.0507009873554805 * torch.where(v > 0, v, 1.6732632423543772 * (v.exp() - 1)), {}),
    "softplus": (lambda v: v.exp().log1p(), {}),
    "swish": (lambda v: v * v.sigmoid(), {}),
    "lrelu": (lambda v: torch.where(v > 0, v, -0.3 * v), dict(alpha=-0.3)),
}


@pytest.mark.parametrize("act", UNFUSED)
@pytest.mark.parametrize("gain,clamp", [(1.0, None), (-0.6, 0.3), (1.3, None)])
def test_what_kernels_do_not_know(forced, draw, close, act, gain, clamp, dtype, memory_format):
    """First and second order, against PyTorch's own graph of the formula in float64."""
    forced("bias_act")
    function, options = UNFUSED[act]
    # values that every dtype holds, so that both sides see the same pre-activation; none at the limit
    x, b = (draw(2, 5, 4, 3, memory_format=memory_format) * 8).round() / 16 + 1 / 32, (draw(5) * 8).round() / 16
    cotangent, outer = ((draw(2, 5, 4, 3) * 8).round() / 8 for _ in range(2))

    def orders(layer, dtype, device):
        leaves = [t.to(device, dtype).requires_grad_() for t in (x, b)]
        y = layer(*leaves)
        first = torch.autograd.grad(y, leaves, cotangent.to(y), create_graph=True)
        return y, *first, *torch.autograd.grad((first[0] * outer.to(y)).sum() + y.sum(), leaves)

    found = orders(lambda x, b: bias_act(x, b, act=act, gain=gain, clamp=clamp, **options), dtype, x.device)

    def formula(x, b):
        y = gain * function(x + b[:, None, None])
        return y if clamp is None else y.clamp(-clamp, clamp)

    assert found[0].dtype == dtype and found[0].stride() == x.stride()
    for actual, expected in zip(found, orders(formula, torch.float64, "cpu"), strict=True):
        scale = max(1.0, expected.abs().max().item())  # sums over the map
        close(actual / scale, expected / scale, dtype)


@pytest.mark.parametrize("act", [*ACTS, "swish"])
@pytest.mark.parametrize("options", [dict(gain=0.0), dict(clamp=0.0)])
def test_a_gain_or_clamp_of_zero(forced, draw, act, options, dtype):
    forced("bias_act")
    x, b = draw(2, 3, 4, dtype=dtype).requires_grad_(), draw(3, dtype=dtype).requires_grad_()
    y = bias_act(x, b, act=act, **options)
    assert not y.any() and not any(g.any() for g in torch.autograd.grad(y, (x, b), torch.ones_like(y)))
