"""Triton's launchers where a dimension is 0, forward and backward: nothing is launched, and sums over nothing are zeros."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import facegan.ops  # noqa: F401  (registers the operators)
from facegan import backend

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0), (0, 0, 0, 0)]
FORMATS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float32, torch.bfloat16, torch.float64]
LRELU = ("lrelu", 0.2, 1.5, 0.7)

Draw = Callable[..., Tensor]
Case = Callable[[tuple[int, ...], Draw], tuple[Any, ...]]

# operator -> its arguments for a map of a shape
CASES: dict[str, Case] = {
    "bias_act": lambda shape, draw: (draw(*shape), draw(shape[1]), 1, *LRELU),
    "bias_act_backward": lambda shape, draw: (draw(*shape), draw(*shape), 1, True, *LRELU),
    "bias_act_double_backward": lambda shape, draw: (draw(*shape), draw(shape[1]), draw(*shape), draw(*shape), 1, "tanh", 0.2, 1.5, None),
    "modulate": lambda shape, draw: (draw(*shape), draw(*shape[:2])),
    "modulate_backward": lambda shape, draw: (draw(*shape), draw(*shape), draw(*shape[:2])),
    "modulated_epilogue": lambda shape, draw: (
        draw(*shape),
        draw(*shape[:2]),
        draw(1, 1, *shape[2:]),
        draw(shape[1]),
        None,
        [0, 0, 0, 0],
        *LRELU,
    ),  # fmt: skip
    "regional_epilogue": lambda shape, draw: (
        draw(*shape),
        draw(shape[0], 3, shape[1]),
        draw(1, 2, *shape[2:]),
        draw(1, 1, *shape[2:]),
        draw(shape[1]),
        None,
        [0, 0, 0, 0],
        draw(*shape),
        draw(1, 1, *shape[2:]),
        *LRELU,
    ),  # fmt: skip
    "modulated_epilogue_backward": lambda shape, draw: (
        draw(*shape),
        draw(*shape),
        draw(*shape[:2]),
        draw(1, 1, *shape[2:]),
        1,
        *LRELU,
    ),  # fmt: skip
    "modulated_epilogue_double_backward": lambda shape, draw: (
        draw(*shape),
        draw(3, *shape[:2]),
        draw(1, 1, *shape[2:]),
        draw(*shape),
        draw(*shape),
        draw(*shape[:2]),
        draw(1, 1, *shape[2:]),
        *LRELU,
    ),  # fmt: skip
    "pointwise": lambda shape, draw: (draw(*shape), draw(shape[0], 3, shape[1])),
    "pointwise_backward": lambda shape, draw: (draw(shape[0], 3, *shape[2:]), draw(*shape), draw(shape[0], 3, shape[1])),
    "filtered_lrelu_slope": lambda shape, draw: (
        draw(shape[0], shape[1], shape[2] + 1, shape[3] + 1),
        draw(*shape),
        draw(4),
        draw(4, 4),
        draw(shape[1]),
        2,
        2,
        (4, 4, 5, 3),
        1.4,
        0.2,
        0.9,
        False,
        True,
    ),  # fmt: skip
    "adain": lambda shape, draw: (draw(*shape), draw(*shape), 0.7, None, 1e-5),
    "adain_backward": lambda shape, draw: (draw(*shape), draw(*shape), draw(*shape), 0.7, None, 1e-5),
    "adain_affine": lambda shape, draw: (draw(*shape), draw(*shape[:2]), draw(*shape[:2]), 1e-5),
    "adain_affine_backward": lambda shape, draw: (draw(*shape), draw(*shape), draw(*shape[:2]), 1e-5),
}


@pytest.mark.parametrize("dtype,memory_format", product(DTYPES, FORMATS), ids=lambda value: str(value)[6:])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("operator", CASES)
def test_sums_over_nothing_are_zeros(operator, shape, dtype, memory_format):
    def draw(*of: int) -> Tensor:
        x = torch.randn(of, device=DEVICE).to(dtype)
        return x.contiguous(memory_format=memory_format) if len(of) == 4 else x

    arguments = CASES[operator](shape, draw)
    found, expected = (backend.kernel(operator, name, DEVICE)(*arguments) for name in ("triton", "reference"))
    as_tuple = (lambda result: result) if isinstance(found, tuple) else (lambda result: (result,))
    for ours, theirs in zip(as_tuple(found), as_tuple(expected), strict=True):
        assert ours.shape == theirs.shape
        assert torch.equal(ours.double().cpu(), theirs.double().cpu())


@pytest.mark.parametrize("memory_format", FORMATS, ids=lambda value: str(value)[6:])
@pytest.mark.parametrize("shape", [(0, 4, 6, 6), (2, 0, 6, 6)], ids=str)
@pytest.mark.parametrize("up,down", [(1, 1), (2, 1), (1, 2)])
def test_no_planes_to_filter(shape, up, down, memory_format):
    x, f = torch.randn(shape, device=DEVICE).contiguous(memory_format=memory_format), torch.ones(4, device=DEVICE)
    arguments = (x, f, (up, up), (down, down), (2, 1, 2, 1), False, 1.0)
    found, expected = (backend.kernel("upfirdn2d", name, DEVICE)(*arguments) for name in ("triton", "reference"))
    assert found.shape == expected.shape and found.numel() == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda value: str(value)[6:])
@pytest.mark.parametrize("shape", [(2, 3, 0, 5), (2, 3, 5, 0)], ids=str)
def test_a_filter_of_padding_alone_makes_zeros(shape, dtype):
    x, f = torch.randn(shape, device=DEVICE).to(dtype), torch.ones(4, device=DEVICE)
    y = backend.kernel("upfirdn2d", "triton", DEVICE)(x, f, (1, 1), (1, 1), (3, 3, 3, 3), False, 1.0)
    assert y.shape == (2, 3, shape[2] + 3, shape[3] + 3)
    assert torch.count_nonzero(y) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda value: str(value)[6:])
@pytest.mark.parametrize("n,inputs,outputs", [(0, 3, 4), (2, 3, 0), (2, 0, 4)])
def test_a_fused_layer_without_samples_outputs_or_inputs(n, inputs, outputs, dtype):
    x, w, s = (torch.randn(shape, device=DEVICE).to(dtype) for shape in ((n, inputs, 6, 6), (outputs, inputs, 3, 3), (n, inputs)))
    bias = torch.randn(outputs, device=DEVICE).to(dtype)
    y = backend.kernel("modulated_conv2d_fused", "triton", DEVICE)(x, w, s, None, None, bias, 1, True, "linear", 0.0, 1.0, None)
    assert y.shape == (n, outputs, 6, 6)
    assert torch.equal(y, bias[None, :, None, None].expand_as(y))  # the sum over no inputs is 0
