"""`upfirdn2d`, and the epilogue of a synthesis layer that filters: one launch of a kernel of `fir.py` each.

Tiles are chosen rather than tuned: about as many as registers take without a spill, for which strips of 32 rows load a pixel
1.1 to 1.4 times, halo included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activation import NONE, Activation, activation_of
from .fir import fir, fir_direct
from .layout import acc_type, match_layout, on_its_device, to_dense

TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
FACTORS = {1, 2, 4}
MOST_TAPS = {1: 16, 2: 5}  # by the filter's dimensions; a matrix per row of a 2-D filter fills shared memory
PROGRAMS = 1024  # strips get shorter only while there are fewer: some for each of a GPU's hundred multiprocessors
SUMS = 16384  # elements of all rows of y under way: 128 registers in each of 128 threads


class Parameters(NamedTuple):
    """Of an epilogue, as `fir_epilogue` has them, dense."""

    d: Tensor | None = None
    masks: Tensor | None = None
    noise: Tensor | None = None
    b: Tensor | None = None
    onto: Tensor | None = None
    weight: Tensor | None = None


NONE_GIVEN = Parameters()


@on_its_device
def upfirdn2d(
    x: Tensor, f: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int], flip_filter: bool, gain: float
) -> Tensor:
    """As `facegan.ops.upfirdn2d`: y [N, C, H', W'] of the dtype and memory format of x [N, C, H, W]; f [K] or [KH, KW]."""
    x = to_dense(x)
    y = _result(x, f, up, down, padding)
    if y.numel():
        _filter(x, f, y, up, down, padding, flip_filter, NONE._replace(gain=float(gain)))
    return y


def fir_epilogue(
    x: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    f: Tensor,
    padding: Sequence[int],
    activation: tuple[Any, ...],
    masks: Tensor | None = None,
    onto: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """onto + weight * clamp(gain * act(FIR(x) * d + noise + b)) with FIR = upfirdn2d(x, f, 1, 1, padding).

    d [N, C], or [N, 1 + K, C] with masks [1 or N, K, H', W']; noise and weight [1 or N, 1, H', W'], b [C], onto like the result.
    """
    x = to_dense(x)
    y = _result(x, f, (1, 1), (1, 1), padding)
    if y.numel():
        d, masks, noise, b, weight = (t if t is None else t.contiguous() for t in (d, masks, noise, b, weight))
        parameters = Parameters(d, masks, noise, b, None if onto is None else match_layout(onto, y), weight)
        _filter(x, f, y, (1, 1), (1, 1), padding, False, activation_of(activation, x.dtype), parameters)
    return y


def _result(x: Tensor, f: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int]) -> Tensor:
    height, width = (
        (x.shape[2 + axis] * up[axis] + padding[2 * axis] + padding[2 * axis + 1] - taps) // down[axis] + 1
        for axis, taps in enumerate((f.shape[0], f.shape[-1]))
    )
    memory_format = torch._prims_common.suggest_memory_format(x)
    return torch.empty((*x.shape[:2], height, width), dtype=x.dtype, device=x.device, memory_format=memory_format)


def _filter(
    x: Tensor,
    f: Tensor,
    y: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip_filter: bool,
    act: Activation,
    parameters: Parameters = NONE_GIVEN,
) -> None:
    """Launches a kernel on dense x and y of one memory format."""
    channels_last = not (x.is_contiguous() and y.is_contiguous())
    samples, channels = x.shape[:2]
    if not channels_last and all(v is None for v in parameters):  # then samples are just more planes
        samples, channels = 1, samples * channels
    strides = [
        0 if v is None or v.shape[0] == 1 else math.prod(v.shape[1:]) for v in (parameters.masks, parameters.noise, parameters.weight)
    ]
    tensors, sizes = (x, f.to(x.device).contiguous(), y, *parameters), (channels, *x.shape[2:], *y.shape[2:], *strides)
    options = act._asdict() | {"flip": int(flip_filter), "SEPARABLE": f.ndim == 1, "CHANNELS_LAST": channels_last}
    options["REGIONS"] = 0 if parameters.masks is None else parameters.masks.shape[1]
    if x.dtype in TYPES and {*up, *down} <= FACTORS and max(f.shape) <= MOST_TAPS[f.ndim]:
        _strips(tensors, sizes, samples, up, down, padding, options)
    else:
        total = y.numel()
        where = (*up, *down, padding[0], padding[2], f.shape[0], f.shape[-1])
        fir_direct[(triton.cdiv(total, 256),)](*tensors, total, *sizes, *where, **options, ACC=acc_type(x), BLOCK=256)


def _strips(
    tensors: tuple[Any, ...],
    sizes: tuple[int, ...],
    samples: int,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    options: dict[str, Any],
) -> None:
    """Launches `fir`; its docstring and those below say what the parameters mean."""
    x, f = tensors[:2]
    channels, height, width, out_height, out_width, *strides = sizes
    (kh, kw), channels_last = (f.shape[0], f.shape[-1]), options["CHANNELS_LAST"]
    common = math.gcd(up[0], down[0])
    made, used = up[0] // common, down[0] // common
    first_row, phase = -(padding[0] // up[0]), padding[0] % up[0]
    window = max((kh - 1 - phase + (made - 1) * down[0]) // up[0] + 1, 1)
    pitch = channels if channels_last else 1
    aligned = channels % 16 == 0 if channels_last else width % 16 == out_width % 16 == 0
    unit = 16 if aligned else 1
    vector = 1 if channels_last else max(unit // x.element_size(), 1)
    first_column, before, after = _reach(kw, up[1], down[1], padding[2], vector)
    under_way = (triton.cdiv(window, used) + 1) * made
    columns, planes = _tile(channels, channels_last, x.element_size(), vector, f.ndim, up[1] / down[1], under_way)
    across = samples * triton.cdiv(channels, planes) * triton.cdiv(out_width, columns)
    rows = 64
    while rows > 8 and across * triton.cdiv(out_height, rows) < PROGRAMS:
        rows //= 2
    strips = triton.cdiv(out_height, rows)
    steps = triton.cdiv(triton.cdiv(out_height, strips), made)
    operand = tl.float32 if triton.knobs.runtime.interpret else TYPES[x.dtype]  # the interpreter's dot misreads bfloat16
    fir[(across * strips,)](
        *tensors, channels, height, width, out_height, out_width, width * pitch // unit, out_width * pitch // unit, *strides,
        first_row=first_row, first_column=first_column if channels_last else first_column // unit, pad_x=padding[2],
        strips=strips, steps=steps,
        ROWS=(kh, up[0], down[0], made, used, window, phase),
        ALONG=(kw, up[1], down[1], before, after, max(16, triton.next_power_of_2(before + after))),
        TILE=(columns, planes, unit), **options, OPERAND=operand, num_warps=4, num_stages=3,
    )  # fmt: skip


def _reach(taps: int, up: int, down: int, left: int, vector: int) -> tuple[int, int, int]:
    """Where the first tile's main columns of x begin, and how many columns are needed before and after the main ones.

    They begin where the filter does; in NCHW, where a row is contiguous, at a multiple of 32 bytes, and the columns beside
    them are as many as whole accesses of 16 bytes hold.
    """
    first = start = -(left // up)
    if vector > 1:
        start = (first + 8) // 16 * 16
    before, after = max(start - first, 0), max((taps - 1 - left - down) // up + 1 - start, 0)
    return start, triton.cdiv(before, vector) * vector, triton.cdiv(after, vector) * vector


def _tile(
    channels: int, channels_last: bool, element_size: int, vector: int, filter_ndim: int, ratio: float, under_way: int
) -> tuple[int, int]:
    """(columns of y, planes): 64 contiguous bytes of x or more. `ratio` is columns of y per column of x.

    The small tiles of float32 leave room for its products, which are of operands in two terms.
    """
    single = element_size == 4
    if channels_last:
        main, planes = (16, 32) if single else (32, 64)
    else:
        main, planes = max(8 * vector, 32), 16 if single else 32
    if filter_ndim == 2 and single:
        planes = 16
    least = int(max(16, 16 * ratio))
    columns = max(int(min(main * ratio, 64 if filter_ndim == 2 else 128)), least)
    while planes > 16 and (columns * planes * under_way > SUMS or planes >= 2 * channels):
        planes //= 2
    while columns > least and columns * planes * under_way > SUMS:
        columns //= 2
    return columns, planes
