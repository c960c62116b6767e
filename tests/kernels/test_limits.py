"""What happens exactly at a clamp's limit, on every backend: all derivatives are 0 there, those of NaN are not."""

from __future__ import annotations

import math

import pytest
import torch

from facegan import backend
from facegan.ops import bias_act, conv2d_bias_act, conv2d_layer, filtered_lrelu, modulated_conv2d
from facegan.ops.activation import limit_in
from facegan.ops.modulated_conv2d.algorithms import use_algorithm

GPU = torch.cuda.is_available()
TARGETS = [("reference", "cpu"), ("triton", "cuda" if GPU else "cpu"), ("native", "cpu"), ("native", "cuda")]
HALF = 0.5  # a limit that every dtype holds
NAN, INF = math.nan, math.inf
# pre-activation: d y / d x and d^2 y / d x^2, with a gain of 1 and a clamp of 1/2; alpha is 1/4
CASES = {
    "linear": {-INF: (0, 0), -0.5: (0, 0), -0.25: (1, 0), 0: (1, 0), 0.25: (1, 0), 0.5: (0, 0), 2: (0, 0), INF: (0, 0), NAN: (1, 0)},
    "relu": {-INF: (0, 0), -0.5: (0, 0), -0.25: (0, 0), 0.25: (1, 0), 0.5: (0, 0), 2: (0, 0), INF: (0, 0)},
    "lrelu": {-INF: (0, 0), -3: (0, 0), -2: (0, 0), -1: (0.25, 0), 0.25: (1, 0), 0.5: (0, 0), 2: (0, 0), INF: (0, 0), NAN: (0.25, 0)},
    "sigmoid": {-INF: (0, 0), -math.log(3): (0.1875, 0.09375), 0: (0, 0), 1: (0, 0), INF: (0, 0), NAN: (NAN, NAN)},
    "tanh": {-INF: (0, 0), -1: (0, 0), 0: (1, 0), 1: (0, 0), INF: (0, 0), NAN: (NAN, NAN)},
}  # fmt: skip


@pytest.fixture(params=[pytest.param(pair, id="-".join(pair), marks=[pytest.mark.gpu] if pair[1] == "cuda" else []) for pair in TARGETS])
def target(request: pytest.FixtureRequest) -> tuple[str, str]:
    if request.param[1] == "cuda" and not GPU:
        pytest.skip("no CUDA GPU")
    return request.param


def orders(layer, x, *others):
    """y, its gradient by every argument for a cotangent g, and the gradients of (first gradient of x) . outer by g and by x."""
    leaves = [t.clone().requires_grad_() for t in (x, *others)]
    y = layer(*leaves)
    g, outer = (torch.randint(1, 4, y.shape, device=y.device).to(y).requires_grad_() for _ in range(2))
    first = torch.autograd.grad(y, leaves, g, create_graph=True)
    second = torch.autograd.grad(first[0], (g, leaves[0]), outer.view_as(first[0]), allow_unused=True, materialize_grads=True)
    return y.detach(), g.detach(), outer.detach(), [t.detach() for t in first], second


def tiled(values, dtype, device, memory_format=torch.contiguous_format):
    """A map in which every value lies at many places of a vector register, [2, 3, 7, 11]."""
    x = torch.tensor(values, dtype=torch.float64).repeat(2 * 3 * 77)[: 2 * 3 * 77]
    return x.view(2, 3, 7, 11).to(device, dtype).contiguous(memory_format=memory_format)


def by_value(x, table, place):
    """What `table` says of each element of x, in float64."""
    found = torch.full(x.shape, NAN, dtype=torch.float64)
    for value, row in table.items():
        found[x.cpu().isnan() if value != value else x.cpu() == torch.tensor(value, dtype=torch.float64).to(x.dtype)] = float(row[place])
    return found


@pytest.mark.parametrize("act", CASES)
def test_bias_act(target, forced, close, act, dtype, memory_format):
    forced("bias_act")
    table, x = CASES[act], tiled(list(CASES[act]), dtype, target[1], memory_format)
    y, g, outer, (dx, db), (d_g, d_x) = orders(
        lambda x, b: bias_act(x, b, act=act, alpha=0.25, gain=1.0, clamp=HALF), x, torch.zeros(3, dtype=dtype, device=target[1])
    )
    assert y.isnan().equal(x.isnan()) and (y.abs()[~y.isnan()] <= HALF).all()
    slope, curvature = (by_value(x, table, place) for place in range(2))
    expected, rounding = slope * g.double().cpu(), dict(equal_nan=True, rtol=2e-2 if dtype.itemsize == 2 else 1e-5)
    torch.testing.assert_close(dx.double().cpu(), expected, atol=1e-30, **rounding)
    assert torch.equal(dx.double().cpu().abs() < 1e-30, expected == 0)
    torch.testing.assert_close(db.double().cpu(), expected.sum((0, 2, 3)), atol=1e-5, **rounding)
    torch.testing.assert_close(d_g.double().cpu(), slope * outer.double().cpu(), atol=1e-30, **rounding)
    torch.testing.assert_close(d_x.double().cpu(), curvature * (g * outer).double().cpu(), atol=1e-30, **rounding)


@pytest.mark.parametrize("clamp", [0.3, 1 / 3, 0.1, 255.9])
def test_a_limit_that_the_dtype_does_not_hold(target, forced, dtype, clamp):
    """It is the nearest number that the dtype holds; its neighbour below passes."""
    forced("bias_act")
    limit = torch.tensor(clamp, dtype=torch.float64).to(target[1], dtype)
    below = torch.nextafter(limit.cpu(), torch.zeros((), dtype=dtype)).to(limit)
    x = torch.stack([-limit, -below, below, limit, limit * 2]).repeat(9)
    y, g, outer, (dx,), (d_g, _) = orders(lambda x: bias_act(x, None, 0, act="linear", clamp=clamp), x)
    passes = x.abs() < limit
    torch.testing.assert_close(y, torch.where(passes, x, limit.copysign(x)), rtol=0, atol=0)
    torch.testing.assert_close(dx, g * passes, rtol=0, atol=0)
    torch.testing.assert_close(d_g, outer * passes, rtol=0, atol=0)


@pytest.mark.parametrize("op", ["bias_act", "filtered_lrelu"])
def test_a_limit_beyond_the_dtype(target, forced, op, dtype):
    """One that rounds to zero leaves zeros, one that rounds to infinity the largest number."""
    forced(op)
    least, most = torch.finfo(dtype).tiny * torch.finfo(dtype).eps / 4, torch.finfo(dtype).max
    values = [-2.0, 0.0, 1.0, -1.0] if op == "filtered_lrelu" else [-INF, -2.0, 1.0, INF]
    x = torch.tensor(values, device=target[1], dtype=dtype).expand(1, 2, 9, 4).contiguous()
    layer = dict(bias_act=lambda x, clamp: bias_act(x, act="linear", clamp=clamp), filtered_lrelu=lambda x, clamp: plain(x, clamp, 1.0))[op]
    y, _, _, (dx,), (d_g, _) = orders(lambda x: layer(x, least), x)
    assert not y.any() and not dx.any() and not d_g.any()
    if op == "filtered_lrelu":
        return  # whose kernel, a matrix product, spreads infinity over a tile
    y, g, _, (dx,), _ = orders(lambda x: layer(x, INF), x)
    torch.testing.assert_close(y, x.clamp(-most, most), rtol=0, atol=0)
    torch.testing.assert_close(dx, g * x.isfinite(), rtol=0, atol=0)


def test_what_the_dtype_holds():
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        most = torch.finfo(dtype).max
        for clamp in (0.0, 1e-50, 3e-8, 5.9e-8, 1e-5, 0.1, 1 / 3, 1.0, 255.99, 65519.0, 65520.0, 3.4e38, 1e300, INF):
            rounded = torch.tensor(clamp, dtype=torch.float64).to(dtype).item()
            assert limit_in(dtype, clamp) == min(rounded, most)


def plain(x, clamp, slope):
    return filtered_lrelu(x, gain=1.0, slope=slope, clamp=clamp)


def test_filtered_lrelu(target, forced, dtype):
    forced("filtered_lrelu")
    table = {value: row for value, row in CASES["lrelu"].items() if math.isfinite(value)}
    x = tiled(list(table), dtype, target[1])
    _, g, outer, (dx,), (d_g, _) = orders(lambda x: plain(x, HALF, 0.25), x)
    slope = by_value(x, table, 0).to(x)
    torch.testing.assert_close(dx, slope * g, rtol=0, atol=0)
    torch.testing.assert_close(d_g, slope * outer, rtol=0, atol=0)


def test_not_a_number_in_filtered_lrelu(target, forced, dtype):
    """Wherever in a vector register it lies; each map is one pixel, as the kernels' products spread NaN over a tile."""
    forced("filtered_lrelu")
    x = torch.full((1, 9, 1, 1), NAN, dtype=dtype, device=target[1])
    y, g, _, (dx,), _ = orders(lambda x: plain(x, HALF, 0.25), x)
    assert y.isnan().all()
    torch.testing.assert_close(dx, 0.25 * g, rtol=0, atol=0)


def by_layers(kind, x, size):
    """A layer whose convolution is the identity, of x and of the bias (zeros)."""
    weight = torch.zeros(3, 3, size, size, dtype=x.dtype, device=x.device)
    weight[:, :, size // 2, size // 2] = torch.eye(3)
    options = dict(padding=size // 2, act="lrelu", gain=1.0, clamp=HALF)
    if kind == "modulated_conv2d":
        options["demodulate"] = False
        return lambda x, b: modulated_conv2d(x, weight, x.new_ones(x.shape[:2]), bias=b, **options)
    return lambda x, b: dict(conv2d_bias_act=conv2d_bias_act, conv2d_layer=conv2d_layer)[kind](x, weight, b, **options)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["modulated_conv2d", "conv2d_bias_act", "conv2d_layer"])
def test_layers(target, forced, kind, size, dtype):
    forced("modulated_conv2d" if kind == "modulated_conv2d" else "bias_act")
    x = tiled([-0.25, 0.25, 0.5, 0.75, 0.0625], dtype, target[1], torch.channels_last if size == 1 else torch.contiguous_format)
    algorithms = ["auto", "fused"] if kind == "modulated_conv2d" and target[0] == "triton" and dtype != torch.float64 else ["auto"]
    for algorithm in algorithms:
        with use_algorithm(algorithm):
            y, g, outer, (dx, db), (d_g, _) = orders(by_layers(kind, x, size), x, torch.zeros(3, dtype=dtype, device=target[1]))
        slope = torch.where(x < 0, 0.2, 1.0) * (x.abs() < HALF)
        rounding = dict(rtol=1e-2 if dtype.itemsize == 2 else 1e-6, atol=0)
        torch.testing.assert_close(dx.double(), slope.double() * g.double(), **rounding)
        torch.testing.assert_close(d_g.double(), slope.double() * outer.double(), **rounding)
        torch.testing.assert_close(db.double(), (slope.double() * g.double()).sum((0, 2, 3)), **rounding)


def test_the_synthesis_layer_as_a_whole(target, forced, memory_format):
    """Gradients of styles, weight and noise too, with demodulation: of a map whose second half is at the limit, those of the first."""
    forced("modulated_conv2d")
    x = torch.randn(2, 3, 4, 5).to(target[1]).div(16).contiguous(memory_format=memory_format)
    weight, styles, b = (torch.randn(*shape).to(target[1]) for shape in ((5, 3, 3, 3), (2, 3), (5,)))
    noise, limit = torch.zeros(2, 1, 4, 5, device=target[1]), 1024.0
    noise[:, :, 2:] = 4 * limit

    def gradients(rows):
        leaves = [t.clone().requires_grad_() for t in (x, weight, styles, noise, b)]
        torch.manual_seed(1)
        cotangent, outer = torch.randn(2, 5, 4, 5).to(x), torch.randn(x.shape).to(x)
        kw = dict(padding=1, noise=leaves[3], bias=leaves[4], act="lrelu", gain=0.5, clamp=limit)
        y = modulated_conv2d(*leaves[:3], **kw)
        first = torch.autograd.grad(y[:, :, :rows], leaves, cotangent[:, :, :rows], create_graph=True)
        return [*first, *torch.autograd.grad(first[0], leaves[:3], outer, allow_unused=True)]

    for whole, half in zip(gradients(4), gradients(2), strict=True):
        torch.testing.assert_close(whole, half, rtol=1e-5, atol=1e-5)


def test_transforms_see_the_same_rule():
    x = torch.tensor([-0.5, -0.25, 0.25, 0.5, 2.0])
    with backend.use_backend("reference"):

        def layer(x):
            return bias_act(x, None, 0, act="linear", gain=2.0, clamp=0.5)

        passes = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0])
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(lambda v: layer(v).sum()))(x[None])[0], passes)
        torch.testing.assert_close(torch.func.jvp(layer, (x / 2,), (torch.ones(5),))[1], torch.tensor([0.0, 2.0, 2.0, 0.0, 0.0]))


@pytest.mark.parametrize("act", CASES)
def test_cuda_operators(emulated, act, dtype, memory_format):
    """The CUDA kernels, as a CPU runs them."""
    x = tiled(list(CASES[act]), dtype, "cpu", memory_format)
    options = (act, 0.25, 1.0, HALF)
    g, outer = (torch.randint(1, 4, x.shape).to(x) for _ in range(2))
    y = emulated.bias_act(x, None, 1, *options)
    assert y.isnan().equal(x.isnan())
    slope = by_value(x, CASES[act], 0)
    rounding = dict(equal_nan=True, rtol=2e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-30)
    dx, _ = emulated.bias_act_backward(g, y, 1, False, *options)
    torch.testing.assert_close(dx.double(), slope * g.double(), **rounding)
    d_g, _ = emulated.bias_act_double_backward(outer, None, g, y, 1, *options)
    torch.testing.assert_close(d_g.double(), slope * outer.double(), **rounding)
    if act not in ("linear", "relu", "lrelu"):
        return
    # NaN apart, of which zeros times it are added where no sums have a gradient
    slope = slope.where(~x.isnan(), by_value(torch.full_like(x, 0.25), CASES[act], 0))
    x, nothing = x.nan_to_num(0.25, INF, -INF), (None, None)
    y = emulated.modulated_epilogue(x, *nothing, None, None, (0, 0, 0, 0), *options)
    dz, sums, _ = emulated.modulated_epilogue_backward(g, y, *nothing, 0, *options)
    torch.testing.assert_close(dz.double(), slope * g.double(), **rounding)
    inside = torch.where(slope == 0, 0.0, y.double()) if act != "relu" else torch.where(y.abs() < HALF, y.double(), 0.0)
    torch.testing.assert_close(sums[0].double(), (g.double() * inside).sum((2, 3)), **rounding)
    d_dy, *_ = emulated.modulated_epilogue_double_backward(outer, *nothing, g, y, *nothing, *options)
    torch.testing.assert_close(d_dy.double(), slope * outer.double(), **rounding)
    limit = emulated.bias_act(torch.full((40,), INF, dtype=dtype), None, 0, "linear", 0.2, 1.0, INF)
    assert (limit == torch.finfo(dtype).max).all()
    least = torch.finfo(dtype).tiny * torch.finfo(dtype).eps / 4
    assert not emulated.bias_act(torch.ones(40, dtype=dtype), None, 0, "linear", 0.2, 1.0, least).any()
