"""Winograd's filtering with weights that change, against float64, and where `conv2d` and the layers made of it take it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import backend
from facegan.ops import conv2d, conv2d_bias_act, modulated_conv2d, no_weight_gradients
from facegan.ops.modulated_conv2d.algorithms import use_algorithm

OPTIONS = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1)
SIZES = [
    (1, 16, 16, 4, 4),
    (2, 3, 5, 7, 9),
    (3, 17, 33, 5, 4),
    (1, 64, 40, 13, 1),
    (2, 130, 70, 31, 30),
    (1, 1, 1, 1, 1),
    (5, 24, 18, 2, 3),
]
CLOSE = dict(rtol=1e-5, atol=2e-5)


@pytest.fixture
def module(monkeypatch) -> Any:
    """The module under test, where the layer's size and the processor are of no account."""
    if backend.unavailable("bias_act", "native", "cpu"):
        pytest.skip("no compiled library")
    from facegan_kernels.native import winograd

    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(winograd, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(winograd, "LEAST_TILES", 1)
    monkeypatch.setattr(winograd, "CAPABILITY", torch.backends.cpu.get_cpu_capability())
    return winograd


@pytest.fixture
def calls(module, monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the maps that were convolved."""
    found: list[tuple[int, ...]] = []
    kernel = module._kernel
    monkeypatch.setattr(module, "_kernel", lambda x, *rest: found.append(tuple(x.shape)) or kernel(x, *rest))
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("weight_rows", [False, True])
@pytest.mark.parametrize("flip_weight", [True, False])
def test_both_forms_agree_with_float64(module, size, rows, weight_rows, flip_weight):
    n, i, o, h, w = size
    formats = {False: torch.channels_last, True: torch.contiguous_format}
    weight = (torch.randn(o, i, 3, 3) / (9 * i) ** 0.5).contiguous(memory_format=formats[weight_rows])
    x, dy = (torch.randn(n, c, h, w).contiguous(memory_format=formats[rows]) for c in (i, o))
    wide = weight.double() if flip_weight else weight.double().flip(2, 3)
    y = module.winograd_conv2d(x, weight, OPTIONS, flip_weight=flip_weight)
    dx = module.winograd_conv2d(dy, weight, OPTIONS, x, adjoint=True, flip_weight=flip_weight)
    assert all(t.is_contiguous(memory_format=formats[rows]) for t in (y, dx))
    torch.testing.assert_close(y.double(), F.conv2d(x.double(), wide, padding=1), **CLOSE)
    torch.testing.assert_close(dx.double(), F.conv_transpose2d(dy.double(), wide, padding=1), **CLOSE)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_layer_around_it(module, size):
    n, i, o, h, w = size
    x, weight, s = torch.randn(n, i, h, w), torch.randn(o, i, 3, 3) / (9 * i) ** 0.5, 0.5 + torch.rand(n, i)
    d, b, noise = 0.5 + torch.rand(n, o), torch.randn(o), torch.randn(n if i == 3 else 1, 1, h, w)
    y = module.winograd_conv2d(x, weight, OPTIONS, s=s, d=d, noise=noise, b=b, activation=("lrelu", 0.2, 1.3, 1.5))
    z = F.conv2d(x.double() * s[:, :, None, None], weight.double(), padding=1) * d[:, :, None, None] + noise + b[:, None, None]
    torch.testing.assert_close(y.double(), (F.leaky_relu(z, 0.2) * 1.3).clamp(-1.5, 1.5), **CLOSE)


@pytest.mark.parametrize("size", [(2, 8, 100, 70, 66), (1, 512, 16, 124, 122)], ids=str)
def test_more_tiles_than_are_transformed_at_a_time(module, size):
    """In shares of one transformed weight, and in chunks of one transformed input."""
    n, i, o, h, w = size
    x, weight = torch.randn(n, i, h, w), torch.randn(o, i, 3, 3) / (9 * i) ** 0.5
    y = module.winograd_conv2d(x, weight, OPTIONS)
    torch.testing.assert_close(y.double(), F.conv2d(x.double(), weight.double(), padding=1), **CLOSE)


def one_product_at_a_time(x: Tensor, weight: Tensor) -> Tensor:
    """The direct convolution in float32; a library's own order of summation, and so its rounding, changes with the processor."""
    n, channels, h, w = x.shape
    padded, y = F.pad(x, (1, 1, 1, 1)), x.new_zeros(n, len(weight), h, w)
    for c in range(channels):
        for row in range(3):
            for column in range(3):
                y += weight[:, c, row, column, None, None] * padded[:, c : c + 1, row : row + h, column : column + w]
    return y


def test_rounds_about_as_a_direct_convolution(module):
    for n, i, o, h, w in ((1, 512, 128, 16, 16), (2, 256, 128, 30, 31), (1, 128, 256, 32, 32)):
        x, weight = torch.randn(n, i, h, w), torch.randn(o, i, 3, 3) / (9 * i) ** 0.5
        truth = F.conv2d(x.double(), weight.double(), padding=1)
        direct, ours = one_product_at_a_time(x, weight), module.winograd_conv2d(x, weight, OPTIONS)
        torch.testing.assert_close(direct.double(), truth, **CLOSE)
        assert (ours - truth).abs().max() < 3 * (direct - truth).abs().max()


def test_threads_change_no_bit(module):
    x, weight = torch.randn(2, 33, 67, 70), torch.randn(50, 33, 3, 3)
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(module.winograd_conv2d(x, weight, OPTIONS))
    torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_what_it_leaves_to_pytorch(module):
    x, weight = torch.randn(1, 8, 9, 9), torch.randn(8, 8, 3, 3)
    assert module.winograd_conv2d(x, weight, OPTIONS) is not None
    assert module.winograd_conv2d(x.double(), weight.double(), OPTIONS) is None
    assert module.winograd_conv2d(x, weight.double(), OPTIONS) is None
    assert module.winograd_conv2d(x[:0], weight, OPTIONS) is None
    assert module.winograd_conv2d(x.to("meta"), weight.to("meta"), OPTIONS) is None
    assert module.winograd_conv2d(x, weight[:, :, :1], OPTIONS) is None
    for at, other in ((0, (2, 2)), (1, (0, 0)), (2, (2, 2)), (3, True), (4, (1, 1)), (5, 2)):
        assert module.winograd_conv2d(x, weight, (*OPTIONS[:at], other, *OPTIONS[at + 1 :])) is None


def test_the_rule(monkeypatch):
    winograd = pytest.importorskip("facegan_kernels.native.winograd", exc_type=ImportError)

    def serves(n: int, i: int, o: int, side: int) -> bool:
        return winograd._serves(torch.empty(n, i, side, side), torch.empty(o, i, 3, 3))

    monkeypatch.setattr(winograd, "CAPABILITY", torch.backends.cpu.get_cpu_capability())
    assert serves(1, 256, 128, 16) and serves(1, 128, 256, 64) and serves(4, 512, 512, 8) and serves(1, 512, 512, 13)
    for small in ((1, 127, 512, 64), (1, 512, 127, 64), (16, 128, 128, 64), (1, 512, 512, 12), (3, 512, 512, 8), (0, 512, 512, 64)):
        assert not serves(*small)
    monkeypatch.setattr(winograd, "CAPABILITY", "another")
    assert not serves(1, 512, 512, 64)


def test_arguments_that_do_not_fit_are_refused(module):
    x, weight = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last), torch.randn(4, 8, 3, 3)
    call = torch.ops.facegan.winograd_conv2d
    tail = (True, "linear", 0.0, 1.0, None)
    for maps in ((x.contiguous(), weight), (x.double(), weight), (x, weight.double()), (x, weight[:, :7]), (x[0], weight), (x, weight[0])):
        with pytest.raises(RuntimeError, match="takes a float32 map in channels_last and a 3 x 3 weight"):
            call(*maps, None, None, None, None, *tail)
    for s, d, noise, b in (
        (torch.ones(1, 8), None, None, None), (None, torch.ones(2, 8), None, None), (None, None, torch.ones(3, 1, 9, 9), None),
        (None, None, torch.ones(1, 1, 9, 8), None), (None, None, None, torch.ones(8)), (None, None, None, torch.ones(4).double()),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match="float32 in rows"):
            call(x, weight, s, d, noise, b, *tail)


def test_fake_kernel(module):
    x = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    arguments = (x, torch.randn(4, 8, 3, 3), None, None, None, torch.randn(4), True, "lrelu", 0.2, 1.0, None)
    torch.library.opcheck(torch.ops.facegan.winograd_conv2d, arguments, test_utils=("test_schema", "test_faketensor"))


def penalty(x: Tensor, weight: Tensor, dy: Tensor, layer: Any) -> list[Tensor]:
    """The result, its first gradients, and those of a penalty on the input's gradient."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    gain = torch.ones((), dtype=x.dtype, requires_grad=True)
    y = layer(x, weight * gain)  # no leaf, as with an equalised learning rate
    first = torch.autograd.grad(y, (x, weight), dy, retain_graph=True)
    again = torch.autograd.grad(y, (x, weight), dy, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    with no_weight_gradients():
        (dx,) = torch.autograd.grad((layer(x, weight * gain).square() * dy).sum(), x, create_graph=True)
    return [y.detach(), *first, *torch.autograd.grad((dx * dx.detach().cos()).sum(), (x, weight, gain))]


@pytest.mark.parametrize("size", [(2, 10, 12, 9, 7), (1, 6, 5, 4, 4), (3, 17, 16, 5, 14)], ids=str)
def test_gradients_of_both_orders(module, calls, size, memory_format):
    n, i, o, h, w = size
    x, dy = (torch.randn(n, c, h, w).contiguous(memory_format=memory_format) for c in (i, o))
    weight = torch.randn(o, i, 3, 3) / (9 * i) ** 0.5
    with backend.use_backend("native"):
        found = penalty(x, weight, dy, lambda x, w: conv2d(x, w, padding=1))
    assert len(calls) == 7 and {shape[1] for shape in calls} == {i, o}
    truth = penalty(x.double(), weight.double(), dy.double(), lambda x, w: F.conv2d(x, w, padding=1))
    for ours, exact in zip(found, truth, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5 * max(1.0, exact.abs().max().item()))
    assert found[0].is_contiguous(memory_format=memory_format) and found[1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("graph", [True, False])
def test_a_changed_weight_is_seen(module, calls, graph):
    x, weight = torch.randn(1, 8, 8, 8), torch.nn.Parameter(torch.randn(8, 8, 3, 3) / 8)

    def check(factor: float) -> None:
        with torch.set_grad_enabled(graph):
            y = conv2d(x, weight, padding=1)
        assert y.requires_grad == graph
        torch.testing.assert_close(y.detach().double(), factor * before, **CLOSE)

    before = F.conv2d(x.double(), weight.detach().double(), padding=1)
    with backend.use_backend("native"):
        check(1)
        with torch.no_grad():
            weight.mul_(-2)
        check(-2)
        weight.data.copy_(weight.data * -3)
        check(6)
    assert len(calls) == 3


@pytest.mark.parametrize(("chosen", "served"), [("native", 1), ("auto", 1), ("reference", 0)])
def test_serves_where_the_backend_is_native(module, calls, chosen, served):
    x, weight, bias = torch.randn(1, 8, 8, 8), torch.randn(8, 8, 3, 3), torch.randn(8)
    with backend.use_backend(chosen):
        for layer in (conv2d, conv2d_bias_act):
            layer(x, weight, bias, padding=1)
            layer(x.requires_grad_(), weight, bias, padding=1)
        y = modulated_conv2d(x, weight, torch.ones(1, 8), padding=1)
    assert len(calls) == 5 * served
    y.sum().backward()
    assert len(calls) == 6 * served


def test_transforms_are_not_looked_into(module, calls):
    x, weight = torch.randn(2, 3, 8, 6, 6), torch.randn(8, 8, 3, 3)
    with backend.use_backend("native"):
        y = torch.func.vmap(lambda x: conv2d(x, weight, padding=1))(x)
        _, tangent = torch.func.jvp(lambda x: conv2d(x, weight, padding=1), (x[0],), (x[1],))
    assert not calls
    torch.testing.assert_close(y[1], F.conv2d(x[1], weight, padding=1))
    torch.testing.assert_close(tangent, F.conv2d(x[1], weight, padding=1))


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu", "tanh"])
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_bias_and_activation(module, calls, act, clamp, memory_format):
    activate = dict(linear=lambda y: y, relu=F.relu, lrelu=lambda y: F.leaky_relu(y, 0.2), tanh=torch.tanh)[act]
    tensors = [torch.randn(2, 8, 9, 7).contiguous(memory_format=memory_format), torch.randn(6, 8, 3, 3) / 8, torch.randn(6)]
    dy = torch.randn(2, 6, 9, 7)

    def gradients(wide: bool, layer: Any) -> list[Tensor]:
        x, weight, bias = leaves = [(t.double() if wide else t).clone().requires_grad_() for t in tensors]
        y = layer(x, weight, bias)
        return [y.detach(), *torch.autograd.grad(y, leaves, dy.to(y.dtype))]

    def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = activate(F.conv2d(x, weight, bias, padding=1)) * 1.3
        return y if clamp is None else y.clamp(-clamp, clamp)

    with backend.use_backend("native"):
        found = gradients(False, lambda *t: conv2d_bias_act(*t, padding=1, act=act, gain=1.3, clamp=clamp))
    assert len(calls) == 2
    for ours, truth in zip(found, gradients(True, exact), strict=True):
        torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=1e-5 * max(1.0, truth.abs().max().item()))


@pytest.mark.parametrize("flip_weight", [True, False])
def test_a_synthesis_layer_in_training(module, calls, flip_weight):
    tensors = [torch.randn(2, 8, 9, 7), torch.randn(6, 8, 3, 3) / 8, 0.5 + torch.rand(2, 8), torch.randn(9, 7), torch.randn(6)]
    dy = torch.randn(2, 6, 9, 7)

    def gradients(wide: bool, layer: Any) -> list[Tensor]:
        leaves = [(t.double() if wide else t).clone().requires_grad_() for t in tensors]
        y = layer(*leaves)
        first = torch.autograd.grad(y, leaves, dy.to(y.dtype), create_graph=True)
        second = torch.autograd.grad(first[2].square().sum(), leaves[:4])
        return [t.detach() for t in (y, *first, *second)]

    def exact(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor, bias: Tensor) -> Tensor:
        w = (weight if flip_weight else weight.flip(2, 3)) * styles[:, None, :, None, None]
        w = w / (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        y = torch.stack([F.conv2d(image[None], each, padding=1)[0] for image, each in zip(x, w, strict=True)])
        return F.leaky_relu(y + noise + bias[:, None, None], 0.2) * 1.3

    def ours(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor, bias: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, styles, padding=1, noise=noise, bias=bias, act="lrelu", gain=1.3, flip_weight=flip_weight)

    with backend.use_backend("native"):
        found = gradients(False, ours)
        served = len(calls)
        with use_algorithm("library"), torch.no_grad():
            ours(*tensors)
    assert served >= 4 and len(calls) == served
    for mine, truth in zip(found, gradients(True, exact), strict=True):
        torch.testing.assert_close(mine.double(), truth, rtol=1e-5, atol=2e-5 * max(1.0, truth.abs().max().item()))
