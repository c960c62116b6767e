"""Bias, activation, gain and clamp in one pass, its gradient with the bias's in one pass, and the gradient of that.

A dense tensor is a matrix [rows, columns] in memory order, and the bias runs along one of its axes: planes by pixels with a
channel per row (NCHW), or pixels by channels with a channel per column (channels_last, [N, C]). So no element needs a division.
An image in channels_last, whose rows of 3 no access of 16 bytes fits, is one long row instead, and knows a channel by the
remainder of its place; FEW is their number then, else 0.
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
def _tile(rows, columns, steps, FEW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's rows [ROWS] and columns [COLUMNS] (of its first tile), and which block of either they are."""
    blocks = tl.cdiv(columns, COLUMNS)
    block_row, block_column = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    if FEW:  # from one step to the next by FEW tiles, so that a lane keeps its channel
        block_row, block_column = tl.program_id(0) * 0, (tl.program_id(0) // FEW) * FEW * steps + tl.program_id(0) % FEW
    r = block_row.to(tl.int64) * steps * ROWS + tl.arange(0, ROWS)
    c = block_column.to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    return r, c, block_row, block_column


@triton.jit
def _channel(block_column, FEW: tl.constexpr, COLUMNS: tl.constexpr):
    """Which of few channels each column is [1, COLUMNS]."""
    first = (block_column.to(tl.int64) * COLUMNS) % FEW
    return ((first.to(tl.int32) + tl.arange(0, COLUMNS)) % FEW)[None, :]


@triton.jit
def _along(
    values, r, c, block_row, block_column, rows, columns, channels,
    BY_ROW: tl.constexpr, FEW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """What belongs to the tile out of one value per channel, to broadcast against it."""
    if FEW:
        channel = _channel(block_column, FEW, COLUMNS)
        chosen = tl.zeros((1, COLUMNS), values.dtype.element_ty)
        for k in tl.static_range(FEW):
            chosen = tl.where(channel == k, tl.load(values + k), chosen)
        return chosen
    elif BY_ROW:
        first = (block_row.to(tl.int64) * ROWS) % channels  # divides in 64 bits once, then in 32
        return tl.load(values + (first.to(tl.int32) + tl.arange(0, ROWS)) % channels, r < rows)[:, None]
    else:
        return tl.load(values + c, c < columns)[None, :]


@triton.jit(do_not_specialize=["rows", "channels"])
def _forward(
    x, b, y, rows, columns, channels, BY_ROW: tl.constexpr, FEW: tl.constexpr,
    ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    r, c, block_row, block_column = _tile(rows, columns, 1, FEW, ROWS, COLUMNS)
    at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
    v = tl.load(x + at, inside).to(WIDE)
    if b is not None:
        v += _along(b, r, c, block_row, block_column, rows, columns, channels, BY_ROW, FEW, ROWS, COLUMNS).to(WIDE)
    tl.store(y + at, activate(v, ACT, ALPHA, GAIN, CLAMP), inside)


@triton.jit(do_not_specialize=["steps"])
def _backward(
    dy, y, dx, sums, rows, columns, steps, BY_ROW: tl.constexpr, FEW: tl.constexpr,
    ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """dx, and this program's part of its sums along the other axis: [blocks of columns, rows] or [blocks of rows, columns];
    of few channels [programs, FEW]."""
    r, c, block_row, block_column = _tile(rows, columns, steps, FEW, ROWS, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), WIDE)
    for _ in range(steps):
        at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
        g = tl.load(dy + at, inside, 0.0).to(WIDE)
        g = times_slope(g, tl.load(y + at, inside, 0.0).to(WIDE), ACT, ALPHA, GAIN, CLAMP)
        tl.store(dx + at, g, inside)
        if sums is not None:
            if BY_ROW and not FEW:
                tl.store(sums + block_column.to(tl.int64) * rows + r, tl.sum(g, 1), r < rows)
            else:
                total += g
        if FEW:
            c += FEW * COLUMNS
        else:
            r += ROWS
    if sums is not None:
        if FEW:
            channel = _channel(block_column, FEW, COLUMNS)
            for k in tl.static_range(FEW):
                part = tl.sum(tl.sum(tl.where(channel == k, total, 0.0), 1), 0)
                tl.store(sums + tl.program_id(0).to(tl.int64) * FEW + k, part)
        elif not BY_ROW:
            tl.store(sums + block_row.to(tl.int64) * columns + c, tl.sum(total, 0), c < columns)


@triton.jit(do_not_specialize=["rows", "channels"])
def _double_backward(
    ddx, ddb, dy, y, d_dy, d_y, rows, columns, channels, BY_ROW: tl.constexpr, FEW: tl.constexpr,
    ACT: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, CLAMP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    r, c, block_row, block_column = _tile(rows, columns, 1, FEW, ROWS, COLUMNS)
    at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
    t, output = tl.load(ddx + at, inside).to(WIDE), tl.load(y + at, inside).to(WIDE)
    if ddb is not None:
        t += _along(ddb, r, c, block_row, block_column, rows, columns, channels, BY_ROW, FEW, ROWS, COLUMNS).to(WIDE)
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
    FEW: int
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
    elements = tile(x.element_size())
    if not by_row and channels <= 4 and channels * x.element_size() % 16:
        return _Matrix(1, size, channels, True, channels, 1, min(elements, triton.next_power_of_2(size)))
    even = columns & -columns
    across = even if even >= 64 else triton.next_power_of_2(columns)  # a power of two that divides masks nothing
    across = min(across, elements if by_row else elements // 32)  # 32 pixels share what is loaded per channel
    return _Matrix(rows, columns, channels, by_row, 0, min(elements // across, triton.next_power_of_2(rows)), across)


@on_its_device
def bias_act(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    x = dense(x)
    y = torch.empty_like(x)
    if x.numel():
        m = _matrix(x, None if b is None else dim)
        _forward[(m.grid,)](
            x, b if b is None else b.contiguous(), y, *m[:5], act, alpha, gain, rounded(clamp, y.dtype), m.ROWS, m.COLUMNS, _wide(x)
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
    tiles, sums = triton.cdiv(m.rows, m.ROWS), None
    steps = max(triton.cdiv(32, m.ROWS), tiles // 2048) if bias and not m.by_row else 1
    blocks_r, blocks_c = triton.cdiv(tiles, steps), triton.cdiv(m.columns, m.COLUMNS)
    if m.FEW:
        steps = max(1, blocks_c // 2048)
        blocks_c = triton.cdiv(blocks_c, steps * m.FEW) * m.FEW
    if bias:
        shape = (blocks_c, m.FEW) if m.FEW else (blocks_c, m.rows) if m.by_row else (blocks_r, m.columns)
        sums = y.new_empty(shape, dtype=wide(y.dtype))
    _backward[(blocks_r * blocks_c,)](
        dy, y, dx, sums, m.rows, m.columns, steps, m.by_row, m.FEW, act, alpha, gain, rounded(clamp, y.dtype), m.ROWS, m.COLUMNS, _wide(y)
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
            like(ddx, y), ddb if ddb is None else ddb.contiguous(), like(dy, y), y, d_dy, d_y, *m[:5],
            act, alpha, gain, rounded(clamp, y.dtype), m.ROWS, m.COLUMNS, _wide(y),
        )  # fmt: skip
    return d_dy, y.new_empty(0) if d_y is None else d_y


def _wide(x: Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32
