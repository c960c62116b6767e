"""What surrounds the convolution of a synthesis layer: `modulate` before it, `modulated_epilogue` after, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facegan_kernels.native import require
from facegan_kernels.native.layout import activation, as_format, dense, like, per_channel, through_float32, wide

require()
_ops = torch.ops.facegan_native
_modulate = _ops.modulate.default
_modulate_backward = _ops.modulate_backward.default
_epilogue = _ops.modulated_epilogue.default
_epilogue_backward = _ops.modulated_epilogue_backward.default
_epilogue_double_backward = _ops.modulated_epilogue_double_backward.default


def _factor(v: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if v is None else per_channel(v, dtype)


def _batch(noise: Tensor | None) -> int:
    return 0 if noise is None else noise.shape[0]


@through_float32()
def modulate(x: Tensor, s: Tensor) -> Tensor:
    """x [N, C, H, W] times s [N, C]."""
    x, channels_last = dense(x)
    n, c, h, w = x.shape
    y = torch.empty_like(x)
    _modulate(x, per_channel(s, wide(x.dtype)), y, n, c, h * w, channels_last)
    return y


@through_float32(1)
def modulate_backward(g: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(dx, ds), ds [N, C] in the wide dtype."""
    g, channels_last = dense(g)
    n, c, h, w = g.shape
    dx, ds = torch.empty_like(g), g.new_empty((n, c), dtype=wide(g.dtype))
    _modulate_backward(g, as_format(x, channels_last), per_channel(s, ds.dtype), dx, ds, n, c, h * w, channels_last)
    return dx, ds


@through_float32(clamp=8)
def modulated_epilogue(
    x: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    f: Tensor | None,
    padding: Sequence[int],
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """`clamp(gain * act(FIR(x) * d + noise + b))`, without the FIR when f is None."""
    x, channels_last = dense(x)
    n, c, h, w = x.shape
    dtype = wide(x.dtype)
    if f is None:
        kh, kw, oh, ow = 0, 0, h, w
        y = torch.empty_like(x)
    else:
        kh, kw = f.shape[0], f.shape[1] if f.ndim == 2 else 0
        oh, ow = h + padding[0] + padding[1] - kh + 1, w + padding[2] + padding[3] - (kw or kh) + 1
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        y = torch.empty((n, c, oh, ow), dtype=x.dtype, device=x.device, memory_format=memory_format)
    sizes = (n, c, h, w, oh, ow, channels_last, _batch(noise), kh, kw, padding[0], padding[2])
    maps = (_factor(d, dtype), _factor(noise, x.dtype), _factor(b, x.dtype), _factor(f, dtype))
    _epilogue(x, *maps, y, *sizes, *activation(act, alpha, gain, clamp, x.dtype))
    return y


@through_float32(1, clamp=7)
def modulated_epilogue_backward(
    dy: Tensor,
    y: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    noise_batch: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dz, sums [3, N, C] in the wide dtype, dn [noise_batch, 1, H, W])."""
    dy, channels_last = dense(dy)
    n, c, h, w = dy.shape
    noise = None if d is None or noise is None else noise.to(dy.dtype).contiguous()
    dz, sums = torch.empty_like(dy), dy.new_empty((3, n, c), dtype=wide(dy.dtype))
    dn = dy.new_empty((noise_batch, 1, h, w) if noise_batch else (0,))
    sizes = (n, c, h * w, channels_last, _batch(noise), noise_batch)
    maps = (dy, as_format(y, channels_last), _factor(d, sums.dtype), noise)
    _epilogue_backward(*maps, dz, sums, dn if noise_batch else None, *sizes, *activation(act, alpha, gain, clamp, dy.dtype))
    return dz, sums, dn


@through_float32(2, clamp=9)
def modulated_epilogue_double_backward(
    gdz: Tensor,
    gsums: Tensor | None,
    gdn: Tensor | None,
    dy: Tensor,
    y: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(d_dy, d_y, d_d, d_noise), empty where there is nothing to give one to."""
    g, channels_last = dense(dy)
    n, c, h, w = g.shape
    dtype = wide(g.dtype)
    noise = None if d is None or gsums is None or noise is None else noise.to(g.dtype).contiguous()
    d_dy, d_y = torch.empty_like(g), g.new_empty(0) if gsums is None else torch.empty_like(g)
    d_d = g.new_empty((0,) if d is None else (n, c), dtype=dtype)
    d_noise = g.new_empty(0) if noise is None else torch.empty_like(noise)
    gdn = None if gdn is None else gdn.to(g.dtype).contiguous()
    maps = (as_format(gdz, channels_last), _factor(gsums, dtype), gdn, g, as_format(y, channels_last), _factor(d, dtype), noise)
    wanted = (None if gsums is None else d_y, None if d is None else d_d, None if noise is None else d_noise)
    sizes = (n, c, h * w, channels_last, _batch(gdn), _batch(noise))
    _epilogue_double_backward(*maps, d_dy, *wanted, *sizes, *activation(act, alpha, gain, clamp, g.dtype))
    return d_dy, like(d_y, y) if gsums is not None else d_y, d_d, d_noise
