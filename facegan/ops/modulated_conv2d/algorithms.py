"""Which algorithm runs a synthesis layer, and what it computes without a graph.

A rule chooses, by the layer's size, the backend and, on a GPU, by how much arithmetic it can do for a byte it moves; an answer that
was measured (`measured.py`) counts before the rule. `use_algorithm` and FACEGAN_ALGORITHM pin `library` or `fused` where both serve.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facegan.errors import FaceganError
from facegan.ops.activation import LINEAR, Activation
from facegan.ops.conv2d import Resampling, by_winograd, conv2d, resampling
from facegan.ops.formats import following
from facegan.ops.modulated_conv2d import measured
from facegan.ops.modulated_conv2d.reference import UNPADDED, demodulation
from facegan.ops.registration import Operators, operators

ENVIRONMENT_VARIABLE = "FACEGAN_ALGORITHM"
FEW = 4  # output channels of a toRGB layer, at most
# The GEMM re-reads its input once per tap from cache; beyond these the library's convolution cannot lose.
MOST_CHANNELS, LEAST_PIXELS = 128, 64 * 64
# Winograd's transforms cost as much as they save below these (benchmarks/test_modulated_conv2d.py, on the CPU).
LEAST_CHANNELS_CPU, LEAST_PIXELS_CPU = 64, 16 * 16
LEAST_PREPACKED = 1 << 14  # elements of a weight: looking whether it has changed costs more than preparing a smaller one

_pinned: ContextVar[str | None] = ContextVar("facegan_algorithm", default=None)


class Algorithm(Enum):
    """How a layer is run. With a graph, `LIBRARY` and `FUSED` are one node that keeps x and y alone (`autograd.SynthesisLayer`)."""

    REFERENCE = "reference"  # PyTorch's own operators and graph
    POINTWISE = "pointwise"  # toRGB: the styles multiply the weight, which is tiny, and x is read once and never scaled
    COMPOSED = "composed"  # operators one after the other, each with its own gradient; a compiler recomputes by itself
    LIBRARY = "library"  # the library's convolution (oneDNN, cuDNN) between two fused passes
    PREPACKED = "prepacked"  # the same for inference, with what is made of a weight that stays kept from call to call
    FUSED = "fused"  # one kernel of our own: an implicit GEMM in Triton; for inference on a CPU, Winograd's filtering


REFERENCE, POINTWISE, COMPOSED, LIBRARY, PREPACKED, FUSED = Algorithm  # to look one up in an Enum takes Python 3.11 0.4 microseconds


class Layer(NamedTuple):
    """The arguments of `modulated_conv2d`, checked."""

    x: Tensor  # [N, I, H, W]
    weight: Tensor  # [O, I, K, K], as the caller gave it
    styles: Tensor  # [N, I]
    demodulate: bool
    f: Tensor | None  # the resampling filter
    up: int
    down: int
    padding: int
    flip_weight: bool  # correlates; False convolves
    noise: Tensor | None  # [1 or N, 1, H', W'] in x's dtype
    bias: Tensor | None  # [O]
    activation: Activation


class Operands(NamedTuple):
    """A layer as the registered operators of a backend take it."""

    x: Tensor
    w: Tensor  # in x's dtype
    s: Tensor | None  # the styles
    d: Tensor | None  # demodulation coefficients [N, O]
    noise: Tensor | None
    b: Tensor | None  # in x's dtype
    f: Tensor | None  # with its gain
    steps: Resampling
    activation: Activation
    ops: Operators


def requested_algorithm() -> str:
    """Return what has been asked for: "auto", or the algorithm that is pinned."""
    return _pinned.get() or _checked(os.environ.get(ENVIRONMENT_VARIABLE) or "auto", ENVIRONMENT_VARIABLE)


@contextmanager
def use_algorithm(name: str) -> Iterator[None]:
    """Pin "library" or "fused" for the synthesis layers run inside the block; "auto" has the algorithm chosen."""
    token = _pinned.set(_checked(name, "algorithm"))
    try:
        yield
    finally:
        _pinned.reset(token)


def _checked(name: str, origin: str) -> str:
    if name not in ("auto", *measured.CHOICES):
        raise FaceganError(f"{origin} is {name!r}; expected one of auto, {', '.join(measured.CHOICES)}.")
    return name


def wants_graph(layer: Layer) -> bool:
    """Whether a gradient of the layer may be asked for."""
    return torch.is_grad_enabled() and torch._C._any_requires_grad(layer.x, layer.weight, layer.styles, layer.noise, layer.bias)


def choose(layer: Layer, backend: str, whole: bool = True) -> Algorithm:
    """Choose the algorithm of a layer.

    Args:
        layer: whose activation is linear, relu or lrelu, or else runs after it.
        backend: that serves `modulated_conv2d`.
        whole: `FUSED` would serve all of the layer, not the convolution alone, which is no matter to Winograd's filtering.

    Raises:
        FaceganError: "fused" is pinned, and the backend has no such algorithm.
    """
    if backend == "reference":
        return REFERENCE
    x, weight, styles, demodulate, _, up, down, padding, _, noise, _, _ = layer
    outputs, _, size, _ = weight.shape
    resamples = up > 1 or down > 1
    if size == 1 and not resamples and outputs <= FEW and not demodulate and padding == 0 and noise is None:
        return POINTWISE
    # A 1 x 1 kernel resamples in a filter of its own.
    if torch.compiler.is_compiling() or x.numel() == 0 or (size == 1 and resamples):
        return COMPOSED
    graph, cpu = wants_graph(layer), x.device.type == "cpu"
    # of a network, not made for this call, and large enough that it pays to keep what is made of it
    stays = isinstance(weight, torch.nn.Parameter) and weight.numel() >= LEAST_PREPACKED and weight.dtype == x.dtype == styles.dtype
    keeps = backend == "native" and stays and not graph
    library = PREPACKED if keeps else LIBRARY
    if resamples:
        return library
    requested = requested_algorithm()
    if requested == "fused" and not (backend == "triton" or (backend == "native" and cpu)):
        raise FaceganError(
            f"algorithm 'fused' is asked for, but the {backend} backend serves modulated_conv2d on {x.device.type} and has no such"
            " algorithm; ask for backend 'triton', or for algorithm 'auto' to fall back."
        )
    pixels = x.shape[2] * x.shape[3]
    if requested == "library":
        return library
    if backend == "native":
        possible = keeps and cpu and x.dtype == torch.float32 and size == 3 and padding == 1
        many = min(weight.shape[:2]) >= LEAST_CHANNELS_CPU and pixels >= LEAST_PIXELS_CPU
        return FUSED if possible and (many or requested == "fused") else library
    if x.dtype == torch.float64 or not whole:
        return library
    if requested == "fused":
        return FUSED
    if max(weight.shape[:2]) > MOST_CHANNELS or pixels < LEAST_PIXELS:
        return library
    key = (list(x.shape), list(weight.shape), str(x.dtype), x.stride(1) == 1, demodulate, noise is not None)
    candidates = {name: partial(_without_a_graph, layer, Algorithm(name), backend) for name in measured.CHOICES}
    return Algorithm(measured.choose(key, x.device, candidates))


def _without_a_graph(layer: Layer, algorithm: Algorithm, backend: str) -> Tensor:
    d = demodulation(layer.weight, layer.styles) if layer.demodulate else None
    return value(operands(layer, d, operators(backend)), algorithm)


def operands(layer: Layer, d: Tensor | None, ops: Operators) -> Operands:
    """Return a layer and its demodulation coefficients as the operators of a backend take them."""
    x, f, up = layer.x, layer.f, layer.up
    taps = 1 if f is None else (f.shape[0], f.shape[-1])
    steps = resampling(layer.weight.shape[2], taps, up, layer.down, layer.padding, flip_weight=layer.flip_weight)
    f = f if f is None or up == 1 else f * float(up if f.ndim == 1 else up * up)  # makes up for the inserted zeros
    b = None if layer.bias is None else layer.bias.to(x.dtype)
    return Operands(x, layer.weight.to(x.dtype), layer.styles, d, layer.noise, b, f, steps, layer.activation, ops)


def value(given: Operands, algorithm: Algorithm) -> Tensor:
    """Compute a layer by `LIBRARY`, `PREPACKED` or `FUSED`, without a graph."""
    x, w, s, d, noise, b, f, steps, activation, ops = given
    if algorithm is FUSED:
        y: Tensor = ops.modulated_conv2d_fused.kernel(x, w, s, d, noise, b, steps.padding, steps.flip_weight, *activation)
        return y
    if algorithm is LIBRARY and ops.backend == "native" and requested_algorithm() != "library":  # with weights that change
        layer: dict[str, Any] = dict(s=s, d=d, noise=noise, b=b, flip_weight=steps.flip_weight, activation=activation)
        made = by_winograd(x, w, steps.options, **layer)
        if made is not None:
            return made
    y = ops.modulated_epilogue.kernel(convolved(given, algorithm), d, noise, b, *filter_after(f, steps), *activation)
    return y


def convolved(given: Operands, algorithm: Algorithm) -> Tensor:
    """Compute the part of a layer up to its convolution, without modulation where `s` is None; a graph takes `COMPOSED`, without s."""
    x, w, s, _, _, _, f, steps, _, ops = given
    if algorithm is FUSED:
        s = x.new_ones(x.shape[:2]) if s is None else s
        y: Tensor = ops.modulated_conv2d_fused.kernel(x, w, s, None, None, None, steps.padding, steps.flip_weight, *LINEAR)
        return y
    z = x if s is None else convolution_input(x, s, f, steps, ops)
    if algorithm is PREPACKED:
        y = ops.prepacked_conv2d.kernel(z, w, steps.stride, steps.padding, steps.transposed, steps.flip_weight)
        return y
    if algorithm is COMPOSED:
        return conv2d(z, steps.weight(w), **steps.convolution)
    return torch.convolution(z, following(steps.weight(w), z), None, *steps.options)


def convolution_input(x: Tensor, s: Tensor, f: Tensor | None, steps: Resampling, ops: Operators) -> Tensor:
    """Filter x where a layer scales down, and scale it by the styles."""
    if steps.before is None:
        y: Tensor = ops.modulate(x, s)
    elif torch.is_grad_enabled():  # the fused form's gradient would divide by s
        y = ops.modulate(filtered(x, f, steps.before, False, ops), s)
    else:
        y = ops.modulated_epilogue.kernel(x, s, None, None, f, steps.before, *LINEAR)
    return y


def filter_after(f: Tensor | None, steps: Resampling) -> tuple[Tensor | None, Sequence[int]]:
    """Return the epilogue's filter and its padding."""
    return (None, UNPADDED) if steps.after is None else (f, steps.after)


def filtered(x: Tensor, f: Tensor | None, padding: Sequence[int], flip: bool, ops: Operators) -> Tensor:
    """Filter x without resampling."""
    y: Tensor = ops.upfirdn2d(x, f, (1, 1), (1, 1), padding, flip, 1.0)
    return y
