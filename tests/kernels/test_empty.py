"""Tensors without elements: every operator, with every dimension 0, on every backend, the emulated CUDA kernels among them.

Nothing is read or written where there is nothing, and a sum over nothing is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import facegan_kernels
import pytest
import torch

import facegan.ops  # noqa: F401  (registers the operators)
from facegan import backend

EPS = 1e-5
TARGETS = [("triton", "cuda" if torch.cuda.is_available() else "cpu"), ("native", "cpu"), ("native", "cuda"), ("emulated", "cpu")]
SHAPES = [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0), (0, 0, 0, 0)]

Call = tuple[str, list[Any]]


@pytest.fixture(params=[pytest.param(t, id="-".join(t), marks=[pytest.mark.gpu] if t[1] == "cuda" else []) for t in TARGETS])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """(backend, device); "emulated" is the native backend with the CUDA kernels in the place of the CPU's."""
    chosen, device = request.param
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    if chosen != "emulated":
        return chosen, device
    reason = backend.unavailable("adain", "native", "cpu")
    if reason is not None:
        pytest.skip(reason)
    emulated = request.getfixturevalue("emulated")
    compiled = [operator for (name, operator), module in facegan_kernels.KERNELS.items() if module == facegan_kernels.COMPILED]
    assert len(compiled) == 14
    for operator in compiled:
        monkeypatch.setitem(backend._found, (operator, "native", "cpu"), getattr(emulated, operator).default)
    return "native", "cpu"


def adain_calls(draw: Callable[..., Any], shape: tuple[int, ...], layout: torch.memory_format) -> Iterator[Call]:
    n, c, h, w = shape
    x, dy = draw(*shape, memory_format=layout), draw(*shape, memory_format=layout)
    styles = [(draw(*shape, memory_format=layout), None), (draw(*shape, memory_format=layout), draw(n, 1, h, w).abs())]
    styles.append((draw(n, c, 2, 5, memory_format=layout), None))  # a style with pixels, for a content without
    for style, mask in styles:
        yield "adain", [x, style, 0.7, mask, EPS]
        yield "adain_backward", [dy, x, style, 0.7, mask, EPS]
    scale, shift = draw(n, c), draw(n, c)
    yield "adain_affine", [x, scale, shift, EPS]
    yield "adain_affine_backward", [dy, x, scale, EPS]


def bias_act_calls(draw: Callable[..., Any], shape: tuple[int, ...], layout: torch.memory_format) -> Iterator[Call]:
    x, dy, ddx = (draw(*shape, memory_format=layout) for _ in range(3))
    for dim, act, biased in product(range(4), ("lrelu", "tanh"), (True, False)):
        options, b = (act, 0.2, 1.5, 0.8), draw(shape[dim]) if biased else None
        yield "bias_act", [x, b, dim, *options]
        yield "bias_act_backward", [dy, x, dim, biased, *options]
        yield "bias_act_double_backward", [ddx, b, dy, x, dim, *options]


def upfirdn2d_calls(draw: Callable[..., Any], shape: tuple[int, ...], layout: torch.memory_format) -> Iterator[Call]:
    x = draw(*shape, memory_format=layout)
    for taps, (up, down) in product([(4,), (4, 3), (7,)], [(1, 1), (2, 1), (1, 2), (3, 2)]):
        yield "upfirdn2d", [x, draw(*taps), (up, up), (down, down), (4, 3, 5, 4), True, 1.7]


def filtered_lrelu_calls(draw: Callable[..., Any], shape: tuple[int, ...], layout: torch.memory_format) -> Iterator[Call]:
    x, a, b = draw(*shape, memory_format=layout), draw(*shape, memory_format=layout), draw(shape[1])
    for taps, (up, down) in product([((4,), (4,)), ((6,), (4, 3))], [(1, 1), (2, 2), (4, 2)]):
        options = (*(draw(*of) for of in taps), b, up, down, (8, 8, 8, 8), 1.4, 0.2, 0.9, False)
        yield "filtered_lrelu", [x, *options]
        yield "filtered_lrelu_slope", [a, x, *options, False]
        sides = [(shape[2 + i] * up + 16 - taps[0][0] + 1 - taps[1][i if len(taps[1]) == 2 else 0]) // down + 1 for i in range(2)]
        yield "filtered_lrelu_slope", [draw(*shape[:2], *sides, memory_format=layout), x, *options, True]


def modulation_calls(draw: Callable[..., Any], shape: tuple[int, ...], layout: torch.memory_format) -> Iterator[Call]:
    n, c, h, w = shape
    x, dy, gdz, s = *(draw(*shape, memory_format=layout) for _ in range(3)), draw(n, c)
    yield "modulate", [x, s]
    yield "modulate_backward", [dy, x, s]
    options = ("lrelu", 0.2, 1.5, 0.8)
    for noises, full in product((None, 1, n), (True, False)):
        d, b, gsums = (s, draw(c), draw(3, n, c)) if full else (None, None, None)
        noise, gdn = (None if noises is None else draw(noises, 1, h, w) for _ in range(2))
        yield "modulated_epilogue", [x, d, noise, b, None, (0, 0, 0, 0), *options]
        filtered = None if noises is None else draw(noises, 1, h + 4, w + 6)
        yield "modulated_epilogue", [x, d, filtered, b, draw(4), (4, 3, 5, 4), *options]
        masks, table = (draw(noises, 2, h, w), draw(n, 3, c)) if noises is not None and full else (None, None)
        yield "regional_epilogue", [x, table, masks, noise, b, None, (0, 0, 0, 0), dy, noise, *options]
        masks = None if masks is None else draw(noises, 2, h + 4, w + 6)
        yield "regional_epilogue", [x, table, masks, filtered, b, draw(4), (4, 3, 5, 4), None, filtered, *options]
        yield "modulated_epilogue_backward", [dy, x, d, noise, noises or 0, *options]
        if full:
            yield "modulated_epilogue_double_backward", [gdz, gsums, gdn, dy, x, d, noise, *options]
    w = draw(n, 3, c)
    yield "pointwise", [x, w]
    yield "pointwise_backward", [draw(n, 3, *shape[2:], memory_format=layout), x, w]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("calls", [adain_calls, bias_act_calls, upfirdn2d_calls, filtered_lrelu_calls, modulation_calls])
def test_every_operator(kernel, draw, close, memory_format, calls, dtype, shape) -> None:
    def drawn(*shape: int, **options: Any) -> torch.Tensor:
        return draw(*shape, dtype=dtype, **options)

    for operator, arguments in calls(drawn, shape, memory_format):
        expected = backend.kernel(operator, "reference", "cpu")(*[a.cpu() if isinstance(a, torch.Tensor) else a for a in arguments])
        actual = kernel(operator)(*arguments)
        single = isinstance(actual, torch.Tensor)
        for result, value in zip((actual,) if single else actual, (expected,) if single else expected, strict=True):
            assert result.shape == value.shape, operator
            close(result, value)
            if not single:  # a gradient
                assert not result.any(), operator


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_of_a_map_of_another_size(kernel, draw, memory_format, shape) -> None:
    """AdaIN's style has pixels of its own, of which a content without pixels depends on none."""
    n, c = shape[:2]
    x, style = draw(*shape, memory_format=memory_format), draw(n, c, 40, 48, memory_format=memory_format)
    d_content, d_style = kernel("adain_backward")(x, x, style, 1.0, None, EPS)
    assert d_content.shape == x.shape and d_style.shape == style.shape
    assert not d_style.any()
