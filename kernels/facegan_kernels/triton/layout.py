"""Memory formats: tiles [pixels, channels] of a dense [N, C, H, W] tensor, whichever of the two is contiguous in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def place(C, P, steps, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """This program's sample, its block of `steps` tiles of pixels and its block of channels; neighbours in memory run together."""
    pid = tl.program_id(0)
    across, along = tl.cdiv(C, CHANNELS), tl.cdiv(P, PIXELS * steps)
    if CHANNELS_LAST:
        block_c, pid = pid % across, pid // across
        block_p, n = pid % along, pid // along
    else:
        block_p, pid = pid % along, pid // along
        block_c, n = pid % across, pid // across
    return n.to(tl.int64), block_p, block_c * CHANNELS + tl.arange(0, CHANNELS)


@triton.jit
def offsets(n, p, c, C, P, CHANNELS_LAST: tl.constexpr):
    """Offsets [pixels, channels] into a dense [N, C, P] or [N, P, C] tensor, in 64 bits where they may exceed 31."""
    if CHANNELS_LAST:
        return n * C * P + (p.to(tl.int64) * C)[:, None] + c[None, :]
    else:
        return n * C * P + p[:, None] + (c.to(tl.int64) * P)[None, :]


@triton.jit
def factors(d, masks, n, p, c, in_p, in_c, C, P, mask_stride, REGIONS: tl.constexpr, ACC: tl.constexpr):
    """d [N, 1 + REGIONS, C] at pixels and channels, [pixels or 1, channels]: `d_0 + sum_k masks_k (d_k - d_0)`, masks [.., REGIONS, P]."""
    d += n * (1 + REGIONS) * C + c
    own = tl.load(d, in_c, other=0.0).to(ACC)
    factor = own[None, :]
    for k in tl.static_range(REGIONS):
        beyond = tl.load(d + (k + 1) * C, in_c, other=0.0).to(ACC) - own
        mask = tl.load(masks + n * mask_stride + k * P + p, in_p, other=0.0).to(ACC)
        factor = factor + mask[:, None] * beyond[None, :]
    return factor


Launch = TypeVar("Launch", bound=Callable[..., Any])


def on_its_device(launch: Launch) -> Launch:
    """Decorates a function that launches kernels: Triton takes the current GPU, which need not be that of the first tensor."""

    @wraps(launch)
    def wrapper(x: Tensor, *args: Any) -> Any:
        with torch.cuda.device_of(x):
            return launch(x, *args)

    return cast(Launch, wrapper)


ENOUGH_PROGRAMS = 512  # of 128 threads or more: about four for each multiprocessor of a large GPU


class Tiles(NamedTuple):
    """How a [N, C, H, W] tensor is cut up: `steps` tiles [PIXELS, CHANNELS] per program, one after another along the pixels."""

    pixels: int
    channels: int
    steps: int
    blocks_p: int
    blocks_c: int
    programs: int


def tiles(x: Tensor, elements: int, most_steps: int) -> Tiles:
    """A tile of `elements`, a power of two: 64 of what is contiguous, and more of one where there are fewer channels.

    The plane's size does not count: a tile is larger than small planes, whose time is a launch's, and so fewer kernels are compiled.
    """
    (n, c), plane = x.shape[:2], x.shape[2] * x.shape[3]
    all_channels = triton.next_power_of_2(c)
    channels = min(64 if is_channels_last(x) else elements // max(64, elements // 64), all_channels)
    pixels = elements // channels
    blocks_c, steps = triton.cdiv(c, channels), 1
    # long programs write fewer partial sums, but enough of them should be left to fill a GPU
    while steps < most_steps and n * blocks_c * triton.cdiv(plane, 2 * steps * pixels) >= ENOUGH_PROGRAMS:
        steps *= 2
    blocks_p = triton.cdiv(plane, pixels * steps)
    return Tiles(pixels, channels, steps, blocks_p, blocks_c, n * blocks_p * blocks_c)


def to_dense(x: Tensor) -> Tensor:
    """x in the format that its strides suggest, NCHW or channels_last, with the strides of fresh memory (as facegan/ops/formats.py)."""
    return _as_format(x, _format(x))


def _format(x: Tensor) -> torch.memory_format:
    """Rows where there is nothing to lie in any order."""
    return torch._prims_common.suggest_memory_format(x) if x.numel() else torch.contiguous_format


def match_layout(x: Tensor, other: Tensor) -> Tensor:
    """x laid out as the dense tensor `other`."""
    if x.stride() == other.stride() and x.shape == other.shape:
        return x
    return _as_format(x, _format(other))


def _as_format(x: Tensor, memory_format: torch.memory_format) -> Tensor:
    x = x.contiguous(memory_format=memory_format)
    if 1 not in x.shape and 0 not in x.shape:
        return x
    strides = torch.empty(x.shape, device="meta", memory_format=memory_format).stride()
    return x if x.stride() == strides else x.as_strided(x.shape, strides)


def is_channels_last(x: Tensor) -> bool:
    """Of a dense x; where both are true, because sizes are 1, they are the same order in memory."""
    return bool(torch._prims_common.suggest_memory_format(x) == torch.channels_last)


def acc_type(x: Tensor) -> tl.dtype:
    """`acc_dtype` for a kernel."""
    return tl.float64 if x.dtype == torch.float64 else tl.float32


_TYPES = {torch.float64: tl.float64, torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def operand(dtype: torch.dtype) -> tl.dtype:
    """The type that tl.dot should see: Triton's interpreter multiplies matrices of bfloat16 as if they were integers."""
    return tl.float32 if triton.knobs.runtime.interpret else _TYPES[dtype]
