"""Bias, activation, gain and clamp in one pass, its gradient with the bias's in one pass, and the gradient of that.

A dense tensor is a matrix [rows, columns] in memory order, and the bias runs along one of its axes: planes by pixels with a
channel per row (NCHW), or pixels by channels with a channel per column (channels_last, [N, C]). So no element needs a division,
and which of the two it is costs a kernel a load that is masked away. An image in channels_last, whose rows of 3 no access of
16 bytes fits, is one long row instead, and knows a channel by the remainder of its place; FEW is their number then, else 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from facegan_kernels.dtypes import acc_dtype

from .activation import activate, activation_of, scalars, times_slope, times_slope_derivative
from .layout import acc_type, match_layout, on_its_device, to_dense
from .tuning import tile


@triton.jit
def _tile(columns, steps, by_row, FEW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's rows [ROWS] and columns [COLUMNS] (of its first tile), and which block of either they are.

    Its further tiles follow along the axis that has no channels: along a row, or down the columns.
    """
    if FEW:  # from one step to the next by FEW tiles, so that a lane keeps its channel
        block_row, block_column = tl.program_id(0) * 0, (tl.program_id(0) // FEW) * FEW * steps + tl.program_id(0) % FEW
        first_row, first_column = block_row, block_column
    else:
        blocks = tl.cdiv(columns, tl.where(by_row > 0, steps, 1) * COLUMNS)
        block_row, block_column = tl.program_id(0) // blocks, tl.program_id(0) % blocks
        first_row = block_row.to(tl.int64) * tl.where(by_row > 0, 1, steps)
        first_column = block_column.to(tl.int64) * tl.where(by_row > 0, steps, 1)
    r = first_row.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = first_column.to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    return r, c, block_row, block_column


@triton.jit
def _channel(block_column, FEW: tl.constexpr, COLUMNS: tl.constexpr):
    """Which of few channels each column is [1, COLUMNS]."""
    first = (block_column.to(tl.int64) * COLUMNS) % FEW
    return ((first.to(tl.int32) + tl.arange(0, COLUMNS)) % FEW)[None, :]


@triton.jit
def _along(
    values, r, c, block_row, block_column, rows, columns, channels, along,
    FEW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """What belongs to a program's one tile out of one value per channel, to broadcast against it.

    They run along the rows (`along` is 1) or the columns (2), or there are none, but zeros (0).
    """
    if FEW:
        channel = _channel(block_column, FEW, COLUMNS)
        chosen = tl.zeros((1, COLUMNS), values.dtype.element_ty)
        for k in tl.static_range(FEW):
            chosen = tl.where(channel == k, tl.load(values + k), chosen)
        return chosen
    else:
        first = (block_row.to(tl.int64) * ROWS) % channels  # divides in 64 bits once, then in 32
        channel = (first.to(tl.int32) + tl.arange(0, ROWS)) % channels
        of_row = tl.load(values + channel, r < tl.where(along == 1, rows, 0), 0.0)
        of_column = tl.load(values + c, c < tl.where(along == 2, columns, 0), 0.0)
        return of_row[:, None] + of_column[None, :]


@triton.jit(do_not_specialize=["rows", "channels", "along"])
def _forward(
    x, b, y, rows, columns, channels, along, slope: tl.float64, gain: tl.float64, clamp: tl.float64,
    FEW: tl.constexpr, ACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    slope, gain, clamp = scalars(slope, gain, clamp, ACC)
    r, c, block_row, block_column = _tile(columns, 1, 0, FEW, ROWS, COLUMNS)
    at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
    v = tl.load(x + at, inside).to(ACC)
    v += _along(b, r, c, block_row, block_column, rows, columns, channels, along, FEW, ROWS, COLUMNS).to(ACC)
    tl.store(y + at, activate(v, ACT, slope, gain, clamp), inside)


@triton.jit(do_not_specialize=["rows", "reads_y", "by_row", "steps"])
def _backward(
    dy, y, dx, sums, rows, columns, reads_y, by_row, steps, slope: tl.float64, gain: tl.float64, clamp: tl.float64,
    FEW: tl.constexpr, ACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """dx, and this program's part of its sums along the other axis: [blocks of columns, rows] or [blocks of rows, columns];
    of few channels [programs, FEW]. y is not read where the slope is one number."""
    read = tl.where(reads_y > 0, columns, 0)
    slope, gain, clamp = scalars(slope, gain, clamp, ACC)
    r, c, block_row, block_column = _tile(columns, steps, by_row, FEW, ROWS, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), ACC)
    for _ in range(steps):
        at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
        g = tl.load(dy + at, inside, 0.0).to(ACC)
        output = tl.load(y + at, (r < rows)[:, None] & (c < read)[None, :], 0.0).to(ACC)
        g = times_slope(g, output, ACT, slope, gain, clamp)
        tl.store(dx + at, g, inside)
        if sums is not None:
            total += g
        if FEW:
            c += FEW * COLUMNS
        else:
            r += tl.where(by_row > 0, 0, ROWS)
            c += tl.where(by_row > 0, COLUMNS, 0)
    if sums is not None:
        if FEW:
            channel = _channel(block_column, FEW, COLUMNS)
            for k in tl.static_range(FEW):
                part = tl.sum(tl.sum(tl.where(channel == k, total, 0.0), 1), 0)
                tl.store(sums + tl.program_id(0).to(tl.int64) * FEW + k, part)
        elif by_row > 0:
            tl.store(sums + block_column.to(tl.int64) * rows + r, tl.sum(total, 1), r < rows)
        else:
            tl.store(sums + block_row.to(tl.int64) * columns + c, tl.sum(total, 0), c < columns)


@triton.jit(do_not_specialize=["rows", "channels", "along"])
def _double_backward(
    ddx, ddb, dy, y, d_dy, d_y, rows, columns, channels, along,
    slope: tl.float64, gain: tl.float64, clamp: tl.float64,
    FEW: tl.constexpr, ACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    slope, gain, clamp = scalars(slope, gain, clamp, ACC)
    r, c, block_row, block_column = _tile(columns, 1, 0, FEW, ROWS, COLUMNS)
    at, inside = r[:, None] * columns + c[None, :], (r < rows)[:, None] & (c < columns)[None, :]
    t, output = tl.load(ddx + at, inside).to(ACC), tl.load(y + at, inside).to(ACC)
    t += _along(ddb, r, c, block_row, block_column, rows, columns, channels, along, FEW, ROWS, COLUMNS).to(ACC)
    tl.store(d_dy + at, times_slope(t, output, ACT, slope, gain, clamp), inside)
    if d_y is not None:
        t *= tl.load(dy + at, inside).to(ACC)
        tl.store(d_y + at, times_slope_derivative(t, output, ACT, gain, clamp), inside)


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
    def tiles(self) -> tuple[int, int]:
        return triton.cdiv(self.rows, self.ROWS), triton.cdiv(self.columns, self.COLUMNS)

    def along(self, values: Tensor | None) -> int:
        """The axis that the channels' values run along: 1 rows, 2 columns, 0 none."""
        return 0 if values is None else 1 if self.by_row else 2


ACROSS = 64  # columns of a tile: 128 bytes or more in a row


def _matrix(x: Tensor, dim: int | None) -> _Matrix:
    """The matrix of a dense x whose channels lie along `dim`. Few shapes of tiles: each is a kernel to be compiled."""
    size, elements = x.numel(), tile(x.element_size())
    if dim is None:  # any shape will do
        dim, channels = 0, 1
        columns = ACROSS if size % ACROSS == 0 else size
    elif x.is_contiguous():
        channels, columns = x.shape[dim], x.shape[dim + 1 :].numel()
    else:  # channels_last: [N, ..., C] in memory
        order = (0, *range(2, x.ndim), 1)
        channels, columns = x.shape[dim], torch.Size(x.shape[i] for i in order[order.index(dim) + 1 :]).numel()
    if columns == 1 and 1 < channels <= 4 and channels * x.element_size() % 16:
        return _Matrix(1, size, channels, True, channels, 1, elements)
    by_row = columns > 1 or channels == 1
    rows, columns = (size // columns, columns) if by_row else (size // channels, channels)
    if channels == 1 and columns == 1:
        rows, columns = 1, size
    if rows == 1 and columns > elements:
        return _Matrix(rows, columns, channels, by_row, 0, 1, elements)
    across = ACROSS if by_row else min(ACROSS, triton.next_power_of_2(columns))
    return _Matrix(rows, columns, channels, by_row, 0, elements // across, across)


@on_its_device
def bias_act(x: Tensor, b: Tensor | None, dim: int, *activation: Any) -> Tensor:
    x = to_dense(x)
    y = torch.empty_like(x)
    if x.numel():
        m, a = _matrix(x, None if b is None else dim), activation_of(activation, x.dtype)
        rows, columns = m.tiles
        _forward[(rows * columns,)](
            x, x if b is None else b.contiguous(), y, *m[:3], m.along(b), a.slope, a.gain, a.clamp,
            m.FEW, a.ACT, m.ROWS, m.COLUMNS, acc_type(x),
        )  # fmt: skip
    return y


@on_its_device
def bias_act_backward(dy: Tensor, y: Tensor, dim: int, bias: bool, *activation: Any) -> tuple[Tensor, Tensor]:
    dy = to_dense(dy)
    y, dx = match_layout(y, dy), torch.empty_like(dy)
    if not y.numel():
        return dx, y.new_zeros(y.shape[dim] if bias else 0)
    m, a = _matrix(dy, dim if bias else None), activation_of(activation, y.dtype)
    # Given a bias a program takes many tiles, so that few partial sums are written, yet enough are left to fill a GPU.
    tiles_r, tiles_c = m.tiles
    steps, along = 1, tiles_c if m.by_row else tiles_r
    if m.FEW:
        steps = max(1, tiles_c // 2048)
        blocks_r, blocks_c = 1, triton.cdiv(tiles_c, steps * m.FEW) * m.FEW
    else:
        if bias:
            steps = min(along, max(1 if m.by_row else triton.cdiv(32, m.ROWS), tiles_r * tiles_c // 2048))
        blocks_r, blocks_c = (tiles_r, triton.cdiv(tiles_c, steps)) if m.by_row else (triton.cdiv(tiles_r, steps), tiles_c)
    sums = None
    if bias:
        shape = (blocks_c, m.FEW) if m.FEW else (blocks_c, m.rows) if m.by_row else (blocks_r, m.columns)
        sums = y.new_empty(shape, dtype=acc_dtype(y.dtype))
    needs_y = a.ACT != "piecewise" or a.slope != 1 or a.clamp != math.inf
    _backward[(blocks_r * blocks_c,)](
        dy, y, dx, sums, m.rows, m.columns, int(needs_y), int(m.by_row), steps, a.slope, a.gain, a.clamp,
        m.FEW, a.ACT, m.ROWS, m.COLUMNS, acc_type(y),
    )  # fmt: skip
    return dx, y.new_empty(0) if sums is None else sums.view(-1, m.channels).sum(0).to(y.dtype)


@on_its_device
def bias_act_double_backward(ddx: Tensor, ddb: Tensor | None, dy: Tensor, y: Tensor, dim: int, *activation: Any) -> tuple[Tensor, Tensor]:
    y = to_dense(y)
    a = activation_of(activation, y.dtype)
    d_dy, d_y = torch.empty_like(y), None if a.ACT == "piecewise" else torch.empty_like(y)
    if y.numel():
        m = _matrix(y, None if ddb is None else dim)
        rows, columns = m.tiles
        _double_backward[(rows * columns,)](
            match_layout(ddx, y), y if ddb is None else ddb.contiguous(), match_layout(dy, y), y, d_dy, d_y,
            *m[:3], m.along(ddb), a.slope, a.gain, a.clamp, m.FEW, a.ACT, m.ROWS, m.COLUMNS, acc_type(y),
        )  # fmt: skip
    return d_dy, y.new_empty(0) if d_y is None else d_y
