"""Bias, activation, gain and clamp in one pass, its gradient with the bias's in one pass, and the gradient of that.

A dense tensor is a matrix [rows, columns] in memory order, and the bias runs along one of its axes: planes by pixels with a
channel per row (NCHW), or pixels by channels with a channel per column (channels_last, [N, C]). So no element needs a division.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activation import activate, rounded, times_slope, times_slope_derivative
from .layout import dense, like, on_its_device, wide
from .tuning import tile

_HOMOGENEOUS = ("linear", "relu", "lrelu")  # their slope is a constant but for its steps


@triton.jit
def _tile(rows, columns, steps, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's rows [ROWS] (of its first tile) and columns [COLUMNS], and which block of either they are."""
    blocks = tl.cdiv(columns, COLUMNS)
    block_row, block_column = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    r = block_row.to(tl.int64) * steps * ROWS + tl.arange(0, ROWS)
    c = block_column.to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    return r, c, block_row, block_column


@triton.jit
def _along(values, r, c, block_row, rows, columns, channels, BY_ROW: tl.constexpr, ROWS: tl.constexpr):
    """What belongs to the tile out of one value per channel, to broadcast against it."""
    if BY_ROW:
        first = (block_row.to(tl.int64) * ROWS) % channels  # divides in 64 bits once, then in 32
        return tl.load(values + (first.to(tl.int32) + tl.arange(0, ROWS)) % channels, r < rows)[:, None]
    else:
        return tl.load(values + c, c < columns)[None, :]


@triton.jit(do_not_specialize=["rows", "channels"])
def _forward(
    x, b, y, rows, columns, channels, BY_ROW: tl.constexpr,
    ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    r, c, block_row, _ = _tile(rows, columns, 1, ROWS, COLUMNS)
    at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
    v = tl.load(x + at, inside).to(WIDE)
    if b is not None:
        v += _along(b, r, c, block_row, rows, columns, channels, BY_ROW, ROWS).to(WIDE)
    tl.store(y + at, activate(v, ACT, ALPHA, GAIN, CLAMP), inside)


@triton.jit(do_not_specialize=["steps"])
def _backward(
    dy, y, dx, sums, rows, columns, steps, BY_ROW: tl.constexpr,
    ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """dx, and this program's part of its sums along the other axis: [blocks of columns, rows] or [blocks of rows, columns]."""
    r, c, block_row, block_column = _tile(rows, columns, steps, ROWS, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), WIDE)
    for _ in range(steps):
        at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
        g = tl.load(dy + at, inside, 0.0).to(WIDE)
        g = times_slope(g, tl.load(y + at, inside, 0.0).to(WIDE), ACT, ALPHA, GAIN, CLAMP)
        tl.store(dx + at, g, inside)
        if sums is not None:
            if BY_ROW:
                tl.store(sums + block_column.to(tl.int64) * rows + r, tl.sum(g, 1), r < rows)
            else:
                total += g
        r += ROWS
    if sums is not None:
        if not BY_ROW:
            tl.store(sums + block_row.to(tl.int64) * columns + c, tl.sum(total, 0), c < columns)


@triton.jit(do_not_specialize=["rows", "channels"])
def _double_backward(
    ddx, ddb, dy, y, d_dy, d_y, rows, columns, channels, BY_ROW: tl.constexpr,
    ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    r, c, block_row, _ = _tile(rows, columns, 1, ROWS, COLUMNS)
    at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
    t, output = tl.load(ddx + at, inside).to(WIDE), tl.load(y + at, inside).to(WIDE)
    if ddb is not None:
        t += _along(ddb, r, c, block_row, rows, columns, channels, BY_ROW, ROWS).to(WIDE)
    tl.store(d_dy + at, times_slope(t, output, ACT, ALPHA, GAIN, CLAMP), inside)
    if d_y is not None:
        t *= tl.load(dy + at, inside).to(WIDE)
        tl.store(d_y + at, times_slope_derivative(t, output, ACT, GAIN, CLAMP), inside)


class _Matrix(NamedTuple):
    """A dense tensor in memory order, and how it is cut into tiles [ROWS, COLUMNS]."""

    rows: int
    columns: int
    channels: int
    by_row: bool
    ROWS: int
    COLUMNS: int

    @property
    def grid(self) -> int:
        return triton.cdiv(self.rows, self.ROWS) * triton.cdiv(self.columns, self.COLUMNS)


def _matrix(x: Tensor, dim: int | None) -> _Matrix:
    """The matrix of a dense x whose channels lie along `dim`; without channels it is one row."""
    size, channels = x.numel(), 1 if dim is None else x.shape[dim]
    if dim is None:
        columns = size
    elif x.is_contiguous():
        columns = x.shape[dim + 1 :].numel()
    else:  # channels_last: [N, ..., C] in memory
        order = (0, *range(2, x.ndim), 1)
        columns = torch.Size(x.shape[i] for i in order[order.index(dim) + 1 :]).numel()
    by_row = columns > 1 or dim is None
    rows, columns = (size // columns, columns) if by_row else (size // channels, channels)
    even, elements = columns & -columns, tile(x.element_size())
    across = even if even >= 64 else triton.next_power_of_2(columns)  # a power of two that divides masks nothing
    across = min(across, elements if by_row else elements // 32)  # 32 pixels share what is loaded per channel
    return _Matrix(rows, columns, channels, by_row, min(elements // across, triton.next_power_of_2(rows)), across)


@on_its_device
def bias_act(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    x = dense(x)
    y = torch.empty_like(x)
    if x.numel():
        m = _matrix(x, None if b is None else dim)
        _forward[(m.grid,)](
            x, b if b is None else b.contiguous(), y, *m[:4], act, alpha, gain, rounded(clamp, y.dtype), m.ROWS, m.COLUMNS, _wide(x)
        )
    return y


@on_its_device
def bias_act_backward(
    dy: Tensor, y: Tensor, dim: int, act: str, alpha: float, gain: float, clamp: float | None, bias: bool
) -> tuple[Tensor, Tensor]:
    dy = dense(dy)
    y, dx = like(y, dy), torch.empty_like(dy)
    if not y.numel():
        return dx, y.new_zeros(y.shape[dim] if bias else 0)
    m = _matrix(dy, dim if bias else None)
    # Down the columns a program takes many tiles, so that few partial sums are written, yet enough are left to fill a GPU.
    tiles = triton.cdiv(m.rows, m.ROWS)
    steps = max(triton.cdiv(32, m.ROWS), tiles // 2048) if bias and not m.by_row else 1
    blocks_r, blocks_c = triton.cdiv(tiles, steps), triton.cdiv(m.columns, m.COLUMNS)
    sums = None
    if bias:
        sums = y.new_empty((blocks_c, m.rows) if m.by_row else (blocks_r, m.columns), dtype=wide(y.dtype))
    _backward[(blocks_r * blocks_c,)](
        dy, y, dx, sums, m.rows, m.columns, steps, m.by_row, act, alpha, gain, rounded(clamp, y.dtype), m.ROWS, m.COLUMNS, _wide(y)
    )
    return dx, y.new_empty(0) if sums is None else sums.view(-1, m.channels).sum(0).to(y.dtype)


@on_its_device
def bias_act_double_backward(
    ddx: Tensor, ddb: Tensor | None, dy: Tensor, y: Tensor, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> tuple[Tensor, Tensor]:
    y = dense(y)
    d_dy, d_y = torch.empty_like(y), None if act in _HOMOGENEOUS else torch.empty_like(y)
    if y.numel():
        m = _matrix(y, None if ddb is None else dim)
        _double_backward[(m.grid,)](
            like(ddx, y), ddb if ddb is None else ddb.contiguous(), like(dy, y), y, d_dy, d_y, *m[:4],
            act, alpha, gain, rounded(clamp, y.dtype), m.ROWS, m.COLUMNS, _wide(y),
        )  # fmt: skip
    return d_dy, y.new_empty(0) if d_y is None else d_y


def _wide(x: Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32
