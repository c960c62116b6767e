"""The weight's gradient of a convolution on the CPU beside its definition in float64, and which calls the kernel serves."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import backend
from facegan.ops import conv2d

native = pytest.importorskip("facegan_kernels.native", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.unavailable("cpu") is not None, reason=str(native.unavailable("cpu")))

# n, h, w, channels in, channels out, kernel, stride, padding, transposed
SHAPES = [
    (2, 9, 7, 16, 12, 3, 1, 1, False),
    (3, 8, 8, 24, 7, 3, 1, 1, False),
    (1, 17, 5, 3, 10, 3, 2, 0, False),
    (5, 4, 4, 40, 14, 3, 1, 1, False),
    (2, 70, 66, 8, 8, 3, 1, 1, False),
    (2, 6, 11, 17, 9, 5, 1, 2, False),
    (4, 9, 9, 1, 1, 3, 2, 1, False),
    (2, 3, 3, 18, 25, 7, 1, 3, False),
    (2, 2, 2, 8, 6, 5, 3, 4, False),
    (2, 300, 3, 9, 2, 3, 1, 1, False),
    (2, 5, 9, 11, 16, 3, 2, 0, True),
    (3, 4, 4, 32, 13, 3, 2, 1, True),
    (1, 1, 1, 8, 8, 3, 1, 1, False),
]


def draw(*size: int) -> Tensor:
    return torch.randn(size).contiguous(memory_format=torch.channels_last)


def convolution(shape: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor, tuple[Any, ...]]:
    """x, w, dy and the arguments of aten::convolution."""
    n, h, w, channels, outputs, kernel, stride, padding, transposed = shape
    torch.manual_seed(sum(shape))
    weight = draw(channels, outputs, kernel, kernel) if transposed else draw(outputs, channels, kernel, kernel)
    x, options = draw(n, channels, h, w), ((stride, stride), (padding, padding), (1, 1), transposed, (0, 0), 1)
    return x, weight, draw(*torch.convolution(x, weight, None, *options).shape), options


def kernel(dy: Tensor, x: Tensor, w: Tensor, options: tuple[Any, ...]) -> Tensor | None:
    from facegan_kernels.native.conv2d_weight_grad import conv2d_weight_grad

    return conv2d_weight_grad(dy, x, w, options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_the_gradient_in_float64(shape):
    x, w, dy, options = convolution(shape)
    wide = w.double().requires_grad_()
    function = F.conv_transpose2d if shape[-1] else F.conv2d
    y = function(x.double(), wide, stride=shape[6], padding=shape[7])
    (truth,) = torch.autograd.grad(y, wide, dy.double())
    found = kernel(dy, x, w, options)
    assert found is not None and found.shape == w.shape and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-6 * truth.abs().max().item())


@pytest.mark.parametrize("rows", ["dy", "x", "w"])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4], (4, 9, 7, 32, 13, 3, 2, 1, True)], ids=str)
def test_maps_in_rows_are_brought_to_channels_last(shape, rows: str):
    x, w, dy, options = convolution(shape)
    expected = kernel(dy, x, w, options)
    given = {name: t.contiguous() if name == rows else t for name, t in dict(dy=dy, x=x, w=w).items()}
    found = kernel(given["dy"], given["x"], given["w"], options)
    assert found is not None and expected is not None and torch.equal(found, expected)
    assert found.stride() == given["w"].stride()


def test_threads_change_no_bit():
    x, w, dy, options = convolution((4, 33, 31, 24, 20, 3, 1, 1, False))
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(kernel(dy, x, w, options))
    torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_what_it_leaves_to_pytorch():
    x, w, dy, options = convolution(SHAPES[0])
    assert kernel(dy, x, w, options) is not None
    assert kernel(dy.double(), x.double(), w.double(), options) is None
    small = convolution((3, 4, 4, 32, 13, 3, 1, 1, False))  # 48 pixels: to bring rows to channels_last takes longer than is won
    assert kernel(small[2].contiguous(), small[0], small[1], small[3]) is None
    assert kernel(small[2], small[0], small[1].contiguous(), small[3]) is None
    assert kernel(dy[:0], x[:0], w, options) is None
    assert kernel(dy, x, w, (*options[:2], (2, 2), *options[3:])) is None
    assert kernel(dy, x, w, (*options[:5], 2)) is None
    assert kernel(dy, x, w, ((1, 2), *options[1:])) is None
    pixel = convolution((2, 4, 4, 8, 8, 1, 1, 0, False))
    assert kernel(pixel[2], pixel[0], pixel[1], pixel[3]) is None


def test_maps_that_it_cannot_read_are_refused():
    x, _, dy, _ = convolution(SHAPES[0])
    operator = torch.ops.facegan.conv2d_weight_grad
    for maps in ((dy.contiguous(), x), (dy, x.contiguous()), (dy.double(), x), (dy[:1], x), (dy[0], x)):
        with pytest.raises(RuntimeError, match="takes float32 maps in channels_last"):
            operator(*maps, 3, 3, 1, 1)


def test_fake_kernel():
    x, _, dy, _ = convolution(SHAPES[0])
    torch.library.opcheck(torch.ops.facegan.conv2d_weight_grad, (dy, x, 3, 3, 1, 1), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(("chosen", "calls"), [("native", 1), ("auto", 1), ("reference", 0)])
def test_conv2d_takes_it_where_the_backend_is_native(chosen, calls, monkeypatch):
    served: list[Tensor | None] = []
    module = importlib.import_module("facegan.ops.conv2d")  # the package has a function of that name
    recorded = {"conv2d_weight_grad": lambda *args: served.append(kernel(*args)) or served[-1]}
    monkeypatch.setattr(module, "_native", lambda _, name: recorded.get(name))
    x, w, dy, _ = convolution(SHAPES[0])
    w.requires_grad_()
    with backend.use_backend(chosen):
        y = conv2d(x, w, padding=1)
    y.backward(dy)
    assert len(served) == calls and all(each is not None for each in served)


@pytest.mark.parametrize("stride", [1, 2])
def test_second_order(stride):
    """Gradients of a penalty on the input's gradient, by the weight, beside PyTorch's in float64."""
    x, w, dy, _ = convolution((2, 9, 9, 16, 8, 3, stride, 1, False))

    def penalty(x: Tensor, w: Tensor, dy: Tensor, function: Any) -> tuple[Tensor, ...]:
        x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
        (g,) = torch.autograd.grad((function(x, w, stride=stride, padding=1) ** 2 * dy).sum(), x, create_graph=True)
        return torch.autograd.grad((g**2).sum(), (x, w))

    with backend.use_backend("native"):
        found = penalty(x, w, dy, conv2d)
    for mine, truth in zip(found, penalty(x.double(), w.double(), dy.double(), F.conv2d), strict=True):
        torch.testing.assert_close(mine.double(), truth, rtol=1e-4, atol=1e-5 * truth.abs().max().item())
