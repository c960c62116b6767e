"""The CUDA kernels of csrc/cuda, run by a CPU: compiled as C++ over tests/kernels/emulation, against float64 oracles.

What this shows is indexing, masks, reductions and barriers, for every dtype, layout and alignment; not speed, and not what nvcc
makes of the code. Results lie inside larger buffers of NaN, so that an element left out, read from or written outside is seen.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
DTYPES = list(TOLERANCE)
ACTIVATIONS = ["linear", "relu", "lrelu", "tanh", "sigmoid"]
LAYOUTS = [False, True]


@pytest.fixture
def ops(emulated: Any) -> Any:
    """The launchers, which are given their results."""
    return torch.ops.facegan_emulated_launchers


@pytest.fixture(params=["forward", "reverse"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FACEGAN_EMULATION_ORDER", request.param)
    return str(request.param)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class Arena:
    """Tensors inside larger buffers of NaN, `shift` elements off an address of 16 bytes."""

    def __init__(self, generator: torch.Generator, shift: int = 0) -> None:
        self.generator, self.shift = generator, shift
        self.buffers: list[tuple[Tensor, Tensor]] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, last: bool = False) -> Tensor:
        numel = math.prod(shape)
        buffer = torch.full((numel + 128,), math.nan, dtype=dtype)
        flat = buffer[64 + self.shift :][:numel]
        n, c, *rest = shape if len(shape) == 4 else (0, 0)
        x = flat.view(n, *rest, c).permute(0, 3, 1, 2) if last else flat.view(shape)
        self.buffers.append((buffer, flat))
        return x

    def random(self, shape: tuple[int, ...], dtype: torch.dtype, last: bool = False, offset: float = 0.0) -> Tensor:
        x = self.empty(shape, dtype, last)
        return x.copy_(torch.randn(shape, generator=self.generator, dtype=torch.float64) + offset)

    def check(self) -> None:
        """Nothing outside of the tensors was written."""
        for buffer, flat in self.buffers:
            start = flat.storage_offset()
            assert buffer[:start].isnan().all() and buffer[start + flat.numel() :].isnan().all()


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Within the dtype's rounding of the largest value."""
    bound = TOLERANCE[dtype] * max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
    torch.testing.assert_close(actual.double(), expected.double(), atol=bound, rtol=0)


def act(v: Tensor, kind: str, alpha: float, gain: float, clamp: float) -> Tensor:
    forms = {"linear": v, "relu": F.relu(v), "lrelu": torch.where(v < 0, v * alpha, v), "tanh": v.tanh(), "sigmoid": v.sigmoid()}
    y = forms[kind] * gain
    return y.clamp(-clamp, clamp) if clamp >= 0 else y


def slope(y: Tensor, kind: str, alpha: float, gain: float, clamp: float) -> tuple[Tensor, Tensor, Tensor]:
    """dy/dv, its derivative by y, and where y is not clamped; v = act^-1(y)."""
    one, a = torch.ones_like(y), y / gain
    forms = {"linear": one, "relu": (a > 0).to(y), "lrelu": torch.where(a > 0, one, alpha * one), "tanh": 1 - a * a, "sigmoid": a * (1 - a)}
    second = {"tanh": -2 * a, "sigmoid": 1 - 2 * a}.get(kind, 0 * one)
    passes = (y.abs() < clamp).to(y) if clamp >= 0 else one
    return forms[kind] * gain * passes, second * passes, passes


# [outer, c, inner]: NCHW planes, channels_last rows, no bias, odd sizes, few rows, one column
EXTENTS = [(3, 5, 64), (2, 3, 49), (70, 16, 1), (37, 7, 1), (1, 1, 1000), (1, 1, 640), (2, 1, 2048), (1, 300, 8), (2, 2, 1)]


@pytest.mark.parametrize("extents", EXTENTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_bias_act(ops: Any, generator: torch.Generator, extents: tuple[int, int, int], dtype: torch.dtype, kind: str) -> None:
    arena = Arena(generator, shift=1 if extents[2] == 64 and kind == "relu" else 0)
    outer, c, inner = extents
    options = (ACTIVATIONS.index(kind), 0.2, -1.5, 1.25 if kind in ("lrelu", "tanh") else -1.0)
    parameters = (kind, *options[1:])
    biased = extents != (1, 1, 1000)
    x, dy, ddx = (arena.random(extents, dtype) for _ in range(3))
    b, ddb = (arena.random((c,), dtype) if biased else None for _ in range(2))

    y = arena.empty(extents, dtype)
    ops.bias_act(x, b, y, outer, c, inner, *options)
    column = torch.zeros(1, 1, 1) if b is None else b.double()[:, None]
    close(y, act(x.double() + column, *parameters), dtype)

    first, second, _ = slope(y.double(), *parameters)
    dx, db = arena.empty(extents, dtype), arena.empty((c,), dtype) if biased else None
    ops.bias_act_backward(dy, y, dx, db, outer, c, inner, *options)
    expected = dy.double() * first
    close(dx, expected, dtype)
    if db is not None:
        close(db, expected.sum((0, 2)), dtype)

    d_dy, d_y = arena.empty(extents, dtype), arena.empty(extents, dtype)
    ops.bias_act_double_backward(ddx, ddb, dy, y, d_dy, d_y, outer, c, inner, *options)
    t = ddx.double() + (0 if ddb is None else ddb.double()[:, None])
    close(d_dy, t * first, dtype)
    close(d_y, t * dy.double() * second, dtype)
    arena.check()


def fir(x: Tensor, f: Tensor, up: tuple[int, int], down: tuple[int, int], pads: tuple[int, ...], flip: bool, gain: float) -> Tensor:
    """Zero-insertion, padding, convolution and decimation, one after the other, in float64."""
    x, f = x.double(), f.double()
    n, c, h, w = x.shape
    inserted = x.new_zeros(n, c, h * up[0], w * up[1])
    inserted[:, :, :: up[0], :: up[1]] = x
    padded = F.pad(inserted, (pads[2], pads[3], pads[0], pads[1]))
    kernel = torch.outer(f, f) if f.ndim == 1 else f
    kernel = kernel if flip else kernel.flip(0, 1)
    y = F.conv2d(padded.reshape(n * c, 1, *padded.shape[2:]), kernel[None, None] * gain)
    return y.reshape(n, c, *y.shape[2:])[:, :, :: down[0], :: down[1]]


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "up", "down", "pads", "taps"),
    [
        ((2, 8, 9, 16), 1, 1, (2, 1, 2, 1), (4,)),
        ((1, 3, 13, 17), 1, 1, (1, 2, 1, 2), (4,)),
        ((2, 16, 8, 8), 2, 1, (2, 1, 2, 1), (4,)),
        ((1, 8, 5, 20), 2, 1, (1, 3, 3, 2), (4,)),
        ((1, 8, 16, 32), 1, 2, (1, 1, 1, 1), (4,)),
        ((1, 5, 11, 37), 1, 2, (2, 0, 1, 3), (3,)),
        ((1, 8, 10, 12), 2, 1, (-1, 2, -2, 3), (3,)),
        ((1, 8, 40, 300), 1, 1, (1, 1, 1, 1), (3,)),
        ((1, 8, 70, 9), 2, 1, (2, 1, 2, 1), (4,)),
        ((1, 4, 9, 7), 3, 2, (4, 2, 3, 5), (6,)),
        ((1, 16, 9, 7), 1, 1, (2, 1, 1, 2), (4, 3)),
        ((1, 8, 9, 7), 2, 2, (5, 5, 5, 5), (12,)),
    ],
)
def test_upfirdn2d(
    ops: Any, generator: torch.Generator, shape: Any, up: int, down: int, pads: Any, taps: Any, dtype: torch.dtype, last: bool
) -> None:
    arena = Arena(generator)
    x, f = arena.random(shape, dtype, last), arena.random(taps, wide(dtype))
    for flip in (False, True):
        expected = fir(x, f, (up, up), (down, down), pads, flip, 1.7)
        y = arena.empty(tuple(expected.shape), dtype, last)
        kw = taps[1] if len(taps) == 2 else 0
        sizes = (*shape, *expected.shape[2:], last, taps[0], kw, up, up, down, down, pads[0], pads[2])
        ops.upfirdn2d(x, f, y, *sizes, flip, 1.7)
        close(y, expected, dtype)
    arena.check()


def statistics(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    mean = (x * weight).sum((2, 3), keepdim=True)
    return mean, (((x - mean) ** 2 * weight).sum((2, 3), keepdim=True) + eps).sqrt()


def adain(c: Tensor, s: Tensor, alpha: float, mask: Tensor | None, eps: float) -> Tensor:
    m = c.new_ones(c.shape[0], 1, *c.shape[2:]) if mask is None else mask
    of_style = s.new_ones(s.shape[0], 1, *s.shape[2:]) if mask is None else mask
    (mean_c, sigma_c), (mean_s, sigma_s) = (statistics(t, w / w.sum((2, 3), keepdim=True), eps) for t, w in ((c, m), (s, of_style)))
    return (1 - alpha * m) * c + alpha * m * (sigma_s * (c - mean_c) / sigma_c + mean_s)


# the last two are streamed, not held; (.., 2, 2), (.., 5, 3) share blocks among planes
MAPS = [(3, 16, 8, 8), (2, 5, 7, 9), (2, 24, 2, 2), (1, 3, 5, 3)]
MAPS += [(2, 3, 32, 32), (2, 3, 40, 48), (1, 8, 48, 48), (1, 8, 136, 124), (1, 3, 97, 93)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MAPS)
def test_adain(ops: Any, generator: torch.Generator, shape: Any, dtype: torch.dtype, last: bool, masked: bool) -> None:
    if shape[2] > 90 and not (dtype in (torch.float32, torch.bfloat16) and masked):
        pytest.skip("the large planes are emulated for two dtypes, with a mask")
    arena, (n, c, h, w), alpha, eps = Arena(generator), shape, 0.7, 1e-5
    style_shape = shape if masked else (n, c, 4, 6)
    content, dy = arena.random(shape, dtype, last, offset=3.0), arena.random(shape, dtype, last)
    style = arena.random(style_shape, dtype, last, offset=-2.0)
    mask = arena.random((n, 1, h, w), wide(dtype)).abs_() if masked else None
    sizes = (n, c, h * w, style_shape[2] * style_shape[3], last, alpha, eps)

    y = arena.empty(shape, dtype, last)
    ops.adain(content, style, mask, y, *sizes)
    leaves = [t.double().detach().requires_grad_() for t in (content, style)]
    expected = adain(*leaves, alpha, None if mask is None else mask.double(), eps)
    close(y, expected.detach(), dtype)
    d_content, d_style = arena.empty(shape, dtype, last), arena.empty(style_shape, dtype, last)
    ops.adain_backward(dy, content, style, mask, d_content, d_style, *sizes)
    for actual, wanted in zip((d_content, d_style), torch.autograd.grad(expected, leaves, dy.double()), strict=True):
        close(actual, wanted, dtype)
    arena.check()


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MAPS[:-1])
def test_adain_affine(ops: Any, generator: torch.Generator, shape: Any, dtype: torch.dtype, last: bool) -> None:
    if shape[2] > 90 and dtype in (torch.float64, torch.float16):
        pytest.skip("the large planes are emulated for two dtypes")
    arena, (n, c, h, w), eps = Arena(generator), shape, 1e-5
    x, dy = arena.random(shape, dtype, last, offset=1.0), arena.random(shape, dtype, last)
    scale, shift = (arena.random((n, c), wide(dtype)) for _ in range(2))
    y = arena.empty(shape, dtype, last)
    ops.adain_affine(x, scale, shift, y, n, c, h * w, last, eps)
    leaves = [t.double().detach().requires_grad_() for t in (x, scale, shift)]
    mean, sigma = statistics(leaves[0], torch.tensor(1 / (h * w), dtype=torch.float64), eps)
    expected = leaves[1][:, :, None, None] * (leaves[0] - mean) / sigma + leaves[2][:, :, None, None]
    close(y, expected.detach(), dtype)
    dx, d_scale, d_shift = arena.empty(shape, dtype, last), *(arena.empty((n, c), wide(dtype)) for _ in range(2))
    ops.adain_affine_backward(dy, x, scale, dx, d_scale, d_shift, n, c, h * w, last, eps)
    for actual, wanted in zip((dx, d_scale, d_shift), torch.autograd.grad(expected, leaves, dy.double()), strict=True):
        close(actual, wanted, dtype)
    arena.check()


LAYERS = [(2, 16, 8, 8), (2, 5, 7, 9), (1, 8, 40, 40), (3, 3, 16, 16), (2, 320, 4, 4), (2, 24, 2, 4)]


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LAYERS)
def test_modulate(ops: Any, generator: torch.Generator, order: str, shape: Any, dtype: torch.dtype, last: bool) -> None:
    if order == "reverse" and dtype != torch.float32:
        pytest.skip("the order of threads does not depend on the dtype")
    arena, (n, c, h, w) = Arena(generator), shape
    x, g, s = arena.random(shape, dtype, last), arena.random(shape, dtype, last), arena.random((n, c), wide(dtype))
    y, dx, ds = arena.empty(shape, dtype, last), arena.empty(shape, dtype, last), arena.empty((n, c), wide(dtype))
    ops.modulate(x, s, y, n, c, h * w, last)
    ops.modulate_backward(g, x, s, dx, ds, n, c, h * w, last)
    factor = s.double()[:, :, None, None]
    close(y, x.double() * factor, dtype)
    close(dx, g.double() * factor, dtype)
    close(ds, (g.double() * x.double()).sum((2, 3)), wide(dtype))
    arena.check()


@pytest.mark.parametrize(("noise_batch", "full"), [(0, False), (0, True), (1, True), (2, True), (2, False)])
@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, *shape[1:]) for shape in LAYERS])
def test_modulated_epilogue(
    ops: Any, generator: torch.Generator, order: str, shape: Any, dtype: torch.dtype, last: bool, noise_batch: int, full: bool
) -> None:
    if order == "reverse" and dtype != torch.float32:
        pytest.skip("the order of threads does not depend on the dtype")
    arena, (n, c, h, w) = Arena(generator), shape
    kind, options = "lrelu", (2, 0.2, 1.4, 1.1)
    parameters = (kind, *options[1:])
    x, dy, gdz = (arena.random(shape, dtype, last) for _ in range(3))
    d, gsums = (arena.random((n, c), wide(dtype)), arena.random((3, n, c), wide(dtype))) if full else (None, None)
    b = arena.random((c,), dtype) if full else None
    noise, gdn = (arena.random((noise_batch, 1, h, w), dtype) if noise_batch else None for _ in range(2))
    if not full:
        gdn = None
    factor = torch.ones(n, c, 1, 1).double() if d is None else d.double()[:, :, None, None]
    added = torch.zeros(1, 1, 1, 1).double() if noise is None else noise.double()

    y = arena.empty(shape, dtype, last)
    ops.modulated_epilogue(x, d, noise, b, None, y, n, c, h, w, h, w, last, noise_batch, 0, 0, 0, 0, *options)
    column = 0 if b is None else b.double()[:, None, None]
    close(y, act(x.double() * factor + added + column, *parameters), dtype)

    first, _, passes = slope(y.double(), *parameters)
    g = dy.double() * first
    dz, sums = arena.empty(shape, dtype, last), arena.empty((3, n, c), wide(dtype))
    dn = arena.empty((noise_batch, 1, h, w), dtype) if noise_batch else None
    kept = noise if full else None  # noise comes with d only
    ops.modulated_epilogue_backward(dy, y, d, kept, dz, sums, dn, n, c, h * w, last, noise_batch if full else 0, noise_batch, *options)
    close(dz, g * factor, dtype)
    with_noise = g * (added if full else 0)
    close(sums, torch.stack([(t).sum((2, 3)) for t in (dy.double() * y.double() * passes, with_noise, g)]), wide(dtype))
    if dn is not None:
        close(dn, g.sum((0, 1) if noise_batch == 1 else 1, keepdim=True), dtype)

    g0, g1, g2 = (torch.zeros(3, n, c, 1, 1) if gsums is None else gsums[..., None, None]).double()
    d_dy = arena.empty(shape, dtype, last)
    d_y = arena.empty(shape, dtype, last) if full else None
    d_d = arena.empty((n, c), wide(dtype)) if full else None
    d_noise = arena.empty((noise_batch, 1, h, w), dtype) if full and noise_batch else None
    batches = (noise_batch if full else 0, noise_batch if full else 0)
    ops.modulated_epilogue_double_backward(gdz, gsums, gdn, dy, y, d, kept, d_dy, d_y, d_d, d_noise, n, c, h * w, last, *batches, *options)
    inner = gdz.double() * factor + g1 * added + g2 + (0 if gdn is None else gdn.double())
    close(d_dy, first * inner + g0 * y.double() * passes, dtype)
    if d_y is not None and d_d is not None:
        close(d_y, g0 * dy.double() * passes, dtype)
        close(d_d, (gdz.double() * g).sum((2, 3)), wide(dtype))
    if d_noise is not None:
        close(d_noise, (g1 * g).sum((0, 1) if noise_batch == 1 else 1, keepdim=True), dtype)
    arena.check()


@pytest.mark.parametrize("noise_batch", [0, 1, 2])
@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 8, 9, 9), (2, 16, 17, 33), (2, 3, 7, 6), (2, 8, 35, 131)])
def test_modulated_epilogue_with_filter(
    ops: Any, generator: torch.Generator, order: str, shape: Any, dtype: torch.dtype, last: bool, noise_batch: int
) -> None:
    if order == "reverse" and dtype != torch.float32:
        pytest.skip("the order of threads does not depend on the dtype")
    arena, (n, c, h, w), pads = Arena(generator), shape, (1, 1, 1, 1)
    x, f = arena.random(shape, dtype, last), arena.random((4,), wide(dtype))
    filtered = fir(x, f, (1, 1), (1, 1), pads, False, 1.0)
    oh, ow = filtered.shape[2:]
    d, b = arena.random((n, c), wide(dtype)), arena.random((c,), dtype)
    noise = arena.random((noise_batch, 1, oh, ow), dtype) if noise_batch else None
    y = arena.empty((n, c, oh, ow), dtype, last)
    ops.modulated_epilogue(x, d, noise, b, f, y, n, c, h, w, oh, ow, last, noise_batch, 4, 0, 1, 1, 2, 0.2, 1.4, -1.0)
    z = filtered * d.double()[:, :, None, None] + b.double()[:, None, None] + (0 if noise is None else noise.double())
    close(y, act(z, "lrelu", 0.2, 1.4, -1.0), dtype)
    arena.check()


@pytest.mark.parametrize(("regions", "filtered", "added"), [(1, True, False), (2, False, False), (0, True, True), (3, False, True)])
@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 8, 9, 17), (2, 3, 7, 6), (2, 16, 8, 8)])
def test_regional_epilogue(
    ops: Any, generator: torch.Generator, order: str, shape: Any, dtype: torch.dtype, last: bool, regions: int, filtered: bool, added: bool
) -> None:
    if order == "reverse" and dtype != torch.float32:
        pytest.skip("the order of threads does not depend on the dtype")
    arena, (n, c, h, w) = Arena(generator), shape
    x, f = arena.random(shape, dtype, last), arena.random((4,), wide(dtype)) if filtered else None
    z = x.double() if f is None else fir(x, f, (1, 1), (1, 1), (1, 1, 1, 1), False, 1.0)
    oh, ow = z.shape[2:]
    d, b, noise = arena.random((n, 1 + regions, c), wide(dtype)), arena.random((c,), dtype), arena.random((1, 1, oh, ow), dtype)
    mask_batch, weight_batch = (n, 1) if filtered else (1, n)
    masks = arena.random((mask_batch, regions, oh, ow), wide(dtype)) if regions else None
    weight = arena.random((weight_batch, 1, oh, ow), wide(dtype)) if added else None
    onto = arena.random((n, c, oh, ow), dtype, last) if added else None
    y = arena.empty((n, c, oh, ow), dtype, last)
    batches = (mask_batch if regions else 0, 1, weight_batch if added else 0)
    taps = (4, 0, 1, 1) if filtered else (0, 0, 0, 0)
    ops.regional_epilogue(x, d, masks, noise, b, f, onto, weight, y, n, c, h, w, oh, ow, last, regions, *batches, *taps, 2, 0.2, 1.4, 1.3)
    rows = d.double()[..., None, None]
    own = rows[:, 0] * (1 - (0 if masks is None else masks.double().sum(1, keepdim=True)))
    factor = own + sum(rows[:, k] * masks.double()[:, k - 1 : k] for k in range(1, regions + 1) if masks is not None)
    expected = act(z * factor + noise.double() + b.double()[:, None, None], "lrelu", 0.2, 1.4, 1.3)
    if onto is not None and weight is not None:
        expected = onto.double() + weight.double() * expected
    close(y, expected, dtype)
    arena.check()


@pytest.mark.parametrize("last", LAYOUTS)
def test_sums_of_nothing_are_zero(ops: Any, generator: torch.Generator, last: bool) -> None:
    empty, channels, pixels = torch.empty(2, 3, 0, 4), torch.full((2, 3), math.nan), torch.full((3,), math.nan)
    ops.modulate_backward(empty, empty, torch.ones(2, 3), empty, channels, 2, 3, 0, last)
    ops.bias_act_backward(empty, empty, empty, pixels, 2, 3, 0, 0, 0.2, 1.0, -1.0)
    assert not channels.any() and not pixels.any()
    scale, shift = torch.full((2, 3), math.nan), torch.full((2, 3), math.nan)
    ops.adain_affine_backward(empty, empty, torch.ones(2, 3), empty, scale, shift, 2, 3, 0, last, 1e-5)
    assert not scale.any() and not shift.any()


FAULTS = {
    "null_read": "reads 4 bytes through a null pointer",
    "null_write": "writes 4 bytes through a null pointer",
    "read_past": r"reads 4 bytes \d+ bytes after a tensor of 128 bytes",
    "write_past": r"writes 4 bytes \d+ bytes after a tensor of 128 bytes",
    "write_before": "writes 4 bytes",
    "constant": "writes 4 bytes in an argument that is read only, of 128 bytes",
    "foreign": "writes 4 bytes",
    "shared": "writes 4 bytes",
    "alignment": "accesses address .* not aligned, in .*common.cuh",
    "shuffle": "a barrier or shuffle that not all threads reach",
    "division": "divides an integer by zero in .*faults.cu",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_emulation_tells_what_a_kernel_does_wrong(ops: Any, generator: torch.Generator, order: str, fault: str) -> None:
    """By an error that names the operator, before memory is touched; the next kernel runs as if nothing had been."""
    arena = Arena(generator)
    x, y, foreign = (arena.random((32,), torch.float32) for _ in range(3))
    ops.fault(x, foreign, 0, 0)  # what one call is given is none of the next one's
    before = [buffer.clone() for buffer, _ in arena.buffers]
    with pytest.raises(RuntimeError, match=f"fault: emulation: .*{FAULTS[fault]}.*float"):
        ops.fault(x, y, 1 + list(FAULTS).index(fault), foreign.data_ptr())
    for i in (0, 2):
        assert arena.buffers[i][0].view(torch.int32).equal(before[i].view(torch.int32))
    arena.check()
    ops.fault(x, y, 0, 0)
    assert y.equal(x.flip(0))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (2, 16, 4, 4), (4, 8, 1, 1), (4, 1, 8, 8)], ids=str)
def test_operators(emulated: Any, shape: Any, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    """Above the launchers: formats, dtypes and sizes of results as the fake kernels tell them, values as the reference's."""
    from facegan.ops.registration import _definitions, operators

    torch.manual_seed(7)
    reference, (n, c, h, w) = operators("reference"), shape
    other = torch.channels_last if memory_format is torch.contiguous_format else torch.contiguous_format
    x, g = (torch.randn(shape).to(dtype).contiguous(memory_format=memory_format) for _ in range(2))
    y, far = torch.randn(shape).to(dtype).contiguous(memory_format=other), torch.randn(n, c, h + 2, w).to(dtype)[:, :, 1:-1]
    s, b, noise, f = torch.rand(n, c) + 0.5, torch.randn(c), torch.randn(2, 1, h, w)[:1], torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    act, tanh, pads = ("lrelu", 0.2, 1.3, 1.1), ("tanh", 0.2, 1.3, None), (2, 1, 2, 1)
    gsums = torch.randn(3, n, c, dtype=wide(dtype))
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("bias_act", (far, b.to(dtype), 1, *act)),
        ("bias_act_backward", (g, y, 1, True, *tanh)),
        ("bias_act_double_backward", (y, b.to(dtype), far, x, 1, *tanh)),
        ("upfirdn2d", (x, f, (2, 2), (1, 1), pads, False, 4.0)),
        ("adain", (x, y, 0.7, None, 1e-1)),
        ("adain_backward", (far, x, y, 0.7, None, 1e-1)),
        ("adain_affine", (x, s, s, 1e-1)),
        ("adain_affine_backward", (y, x, s, 1e-1)),
        ("modulate", (x, s)),
        ("modulate_backward", (g, y, s)),
        ("modulated_epilogue", (x, s, noise, b, None, (0, 0, 0, 0), *act)),
        ("modulated_epilogue", (x, s, None, b, f, pads, *act)),
        ("regional_epilogue", (x, torch.rand(n, 3, c), torch.rand(1, 2, h, w), noise, b, None, (0, 0, 0, 0), y, None, *act)),
        ("regional_epilogue", (x, s[:, None], None, None, b, f, pads, far, torch.rand(n, 1, h, w), *act)),
        ("modulated_epilogue_backward", (g, y, s, noise.to(dtype), 1, *act)),
        ("modulated_epilogue_double_backward", (far, gsums, None, g, y, s, noise.to(dtype), *act)),
    ]
    assert {name for name, _ in calls} == {name for name in _definitions if hasattr(torch.ops.facegan_emulated_launchers, name)}
    for name, arguments in calls:
        found, expected = getattr(emulated, name)(*arguments), getattr(reference, name)(*arguments)
        for actual, right in zip(*((v,) if isinstance(v, Tensor) else v for v in (found, expected)), strict=True):
            assert (actual.shape, actual.stride(), actual.dtype) == (right.shape, right.stride(), right.dtype), name
            bound = 8 * TOLERANCE[dtype] * max(1.0, float(right.abs().max()) if right.numel() else 0.0)
            torch.testing.assert_close(actual.double(), right.double(), atol=bound, rtol=0, msg=name)
