"""Upsample, FIR filter, downsample: zero-insert by `up`, pad, convolve with f, keep every `down`-th pixel.

Per axis, with x[H] zero-inserted to H * up and padded by (p0, p1):
`y[o] = gain * sum_k f[k] * x_padded[o * down + K - 1 - k]`, so that y has `(H * up + p0 + p1 - K) // down + 1` pixels.
The adjoint has the same form with up and down swapped and the filter flipped, hence one registered operator serves every
order of gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.formats import empty_like_format, memory_format
from facegan.ops.registration import operators, register, uncast

Pair = int | Sequence[int]


def setup_filter(
    taps: Sequence[float] | Sequence[Sequence[float]] | Tensor = (1, 3, 3, 1),
    *,
    normalize: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """Make a filter for the operators here.

    Args:
        taps: [K], applied along both axes, or [KH, KW]; [1, 3, 3, 1] is StyleGAN2's.
        normalize: scale the taps to sum 1.
        device: where the filter lies; None for the default device, or that of `taps`.

    Returns:
        float32 [K] or [KH, KW].

    Raises:
        FaceganError: there are no taps, or they have another rank.
    """
    f = torch.as_tensor(taps, dtype=torch.float32, device=device)
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise FaceganError(f"setup_filter: taps have shape {list(f.shape)}; expected [K] or [KH, KW] with at least one tap.")
    return f / f.sum() if normalize else f


def upfirdn2d(
    x: Tensor, f: Tensor | None, up: Pair = 1, down: Pair = 1, padding: Pair = 0, flip_filter: bool = False, gain: float = 1.0
) -> Tensor:
    """Zero-insert, pad, filter and decimate each channel on its own: the low-pass filtering of Karras et al. 2019, section 2.1.

    Per axis, with x zero-inserted and padded: `y[o] = gain * sum_k f[k] * x_padded[o * down + K - 1 - k]`.

    Args:
        x: [N, C, H, W] floating point.
        f: filter [K] (along both axes) or [KH, KW], a constant without gradient; None for the single tap 1.
        up: factor, or (vertical, horizontal) factors, of zero-insertion.
        down: factor, or (vertical, horizontal) factors, of decimation.
        padding: pixels added after zero-insertion: p, (vertical, horizontal) or (top, bottom, left, right); negative crops.
        flip_filter: False convolves, True correlates.
        gain: factor of the result; up * up keeps the brightness when zero-inserting.

    Returns:
        [N, C, (H up + p - K) // down + 1, ...] in x's dtype and memory format, p the sum of the padding along the axis.

    Raises:
        FaceganError: x is no floating point map, f does not fit, a factor is not positive, or nothing would be left of the map.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    up, down, padding = _pair("up", up), _pair("down", down), four_sides(padding)
    _check(x, f, up, down, padding)
    chosen = backend.select("upfirdn2d", x)
    if chosen == "reference":
        return upfirdn2d_ref(x, f, up, down, padding, flip_filter, gain)
    f = x.new_ones(1) if f is None else f
    y: Tensor = operators(chosen).upfirdn2d(x, f, up, down, padding, flip_filter, gain)
    return y


def upsample2d(x: Tensor, f: Tensor | None, up: Pair = 2, padding: Pair = 0, flip_filter: bool = False, gain: float = 1.0) -> Tensor:
    """Enlarge a map; zero-inserted pixels are made up for in brightness.

    Args:
        x: [N, C, H, W] floating point.
        f: as in `upfirdn2d`.
        up: factor, or (vertical, horizontal) factors.
        padding: pixels added to the result: p, (vertical, horizontal) or (top, bottom, left, right); negative crops.
        flip_filter: as in `upfirdn2d`.
        gain: factor of the result.

    Returns:
        [N, C, H * up + p, W * up + p] in x's dtype and memory format, p the sum of the padding along the axis.

    Raises:
        FaceganError: as `upfirdn2d`.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    up = _pair("up", up)
    pads = padded_for(_taps(f), padding, up=up)
    return upfirdn2d(x, f, up=up, padding=pads, flip_filter=flip_filter, gain=gain * up[0] * up[1])


def downsample2d(x: Tensor, f: Tensor | None, down: Pair = 2, padding: Pair = 0, flip_filter: bool = False, gain: float = 1.0) -> Tensor:
    """Reduce a map, filtered against aliasing first.

    Args:
        x: [N, C, H, W] floating point.
        f: as in `upfirdn2d`.
        down: factor, or (vertical, horizontal) factors.
        padding: pixels added before decimation: p, (vertical, horizontal) or (top, bottom, left, right); negative crops.
        flip_filter: as in `upfirdn2d`.
        gain: factor of the result.

    Returns:
        [N, C, (H + p) // down, (W + p) // down] in x's dtype and memory format, p the sum of the padding along the axis.

    Raises:
        FaceganError: as `upfirdn2d`.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    down = _pair("down", down)
    return upfirdn2d(x, f, down=down, padding=padded_for(_taps(f), padding, down=down), flip_filter=flip_filter, gain=gain)


def filter2d(x: Tensor, f: Tensor | None, padding: Pair = 0, flip_filter: bool = False, gain: float = 1.0) -> Tensor:
    """Filter a map; outside of x is zero.

    Args:
        x: [N, C, H, W] floating point.
        f: as in `upfirdn2d`.
        padding: pixels added: p, (vertical, horizontal) or (top, bottom, left, right); negative crops.
        flip_filter: as in `upfirdn2d`.
        gain: factor of the result.

    Returns:
        [N, C, H + p, W + p] in x's dtype and memory format, p the sum of the padding along the axis.

    Raises:
        FaceganError: as `upfirdn2d`.
        BackendUnavailable: the backend that was asked for by name cannot serve.
    """
    return downsample2d(x, f, down=1, padding=padding, flip_filter=flip_filter, gain=gain)


def padded_for(taps: Sequence[int], padding: Pair, up: Sequence[int] = (1, 1), down: Sequence[int] = (1, 1)) -> tuple[int, int, int, int]:
    """Return `padding` and what a filter of [KH, KW] taps needs around the zero-inserted map to keep it centred, as four numbers.

    One of the two factors of an axis is 1.
    """
    (kh, kw), (top, bottom, left, right), (uh, uw), (dh, dw) = taps, four_sides(padding), up, down
    return (top + (kh + uh - dh) // 2, bottom + (kh - uh - dh + 1) // 2, left + (kw + uw - dw) // 2, right + (kw - uw - dw + 1) // 2)


def upfirdn2d_ref(
    x: Tensor, f: Tensor | None, up: Pair = 1, down: Pair = 1, padding: Pair = 0, flip_filter: bool = False, gain: float = 1.0
) -> Tensor:
    """Compute `upfirdn2d` in PyTorch as depthwise convolutions, transposed for `up`; arguments as there."""
    up, down, pads = _pair("up", up), _pair("down", down), four_sides(padding)
    f = x.new_ones(1) if f is None else f.to(device=x.device, dtype=x.dtype)
    if x.numel() == 0:  # convolutions reject empty channels; the sum (0) keeps the graph
        return x.new_zeros(_output_shape(x, _taps(f), up, down, pads)) + x.sum()
    with uncast(x):
        if f.ndim == 2:
            return _depthwise(x, f * gain, up, down, pads, flip_filter)
        if f.shape[0] <= _OUTER_PRODUCT_TAPS:
            return _depthwise(x, f[:, None] * (f * gain), up, down, pads, flip_filter)
        x = _depthwise(x, f[None, :] * gain, (1, up[1]), (1, down[1]), (0, 0, *pads[2:]), flip_filter)
        return _depthwise(x, f[:, None], (up[0], 1), (down[0], 1), (*pads[:2], 0, 0), flip_filter)


_OUTER_PRODUCT_TAPS = 6  # up to here one pass with K * K taps beats two passes with K


def _depthwise(x: Tensor, f: Tensor, up: Sequence[int], down: Sequence[int], pads: Sequence[int], flip_filter: bool) -> Tensor:
    """The op for one [KH, KW] filter."""
    channels, (kh, kw), (top, bottom, left, right) = x.shape[1], f.shape, pads
    if up[0] == up[1] == 1:
        weight = (f if flip_filter else f.flip(0, 1)).expand(channels, 1, kh, kw)
        if top == bottom >= 0 and left == right >= 0:
            return F.conv2d(x, weight, stride=tuple(down), padding=(top, left), groups=channels)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, stride=tuple(down), groups=channels)
    # The transposed convolution yields all positions where filter and image meet: K - 1 pads before, K - up after.
    crop = (kh - 1 - top, kh - up[0] - bottom, kw - 1 - left, kw - up[1] - right)
    trim = (max(min(crop[:2]), 0), max(min(crop[2:]), 0))
    weight = (f.flip(0, 1) if flip_filter else f).expand(channels, 1, kh, kw)
    format = torch.contiguous_format if torch._C._are_functorch_transforms_active() else memory_format(x)
    x = F.conv_transpose2d(x, weight, stride=tuple(up), padding=trim, groups=channels)
    rest = (trim[1] - crop[2], trim[1] - crop[3], trim[0] - crop[0], trim[0] - crop[1])
    if any(rest):
        x = F.pad(x, rest)
    if down[0] == down[1] == 1:
        return x
    return x[:, :, :: down[0], :: down[1]].contiguous(memory_format=format)


def _pair(name: str, value: Pair) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int | float) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= 1 for v in pair):
        raise FaceganError(f"upfirdn2d: {name} is {value}; expected a positive integer or two of them (vertical, horizontal).")
    return pair


def four_sides(padding: Pair) -> tuple[int, int, int, int]:
    """Return a padding as (top, bottom, left, right)."""
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if isinstance(padding, float) or len(padding) not in (2, 4) or any(isinstance(side, float) for side in padding):
        raise FaceganError(f"upfirdn2d: padding is {padding}; expected p, (vertical, horizontal) or (top, bottom, left, right).")
    if len(padding) == 2:
        return padding[0], padding[0], padding[1], padding[1]
    return tuple(padding)  # type: ignore[return-value]


def _taps(f: Tensor | None) -> tuple[int, int]:
    return (1, 1) if f is None else (f.shape[0], f.shape[-1])


def _output_shape(
    x: Tensor, taps: tuple[int, int], up: Sequence[int], down: Sequence[int], pads: Sequence[int]
) -> tuple[int, int, int, int]:
    sides = (x.shape[2] * up[0] + pads[0] + pads[1] - taps[0], x.shape[3] * up[1] + pads[2] + pads[3] - taps[1])
    return x.shape[0], x.shape[1], sides[0] // down[0] + 1, sides[1] // down[1] + 1


def adjoint_padding(
    sizes: Sequence[int], out: Sequence[int], taps: Sequence[int], up: Sequence[int], down: Sequence[int], padding: Sequence[int]
) -> list[int]:
    """Return the padding with which the flipped filter, up and down swapped, maps `out` pixels back to `sizes`: the adjoint's."""
    pads = []
    for axis, k in enumerate(taps):
        before = padding[2 * axis]
        pads += [k - 1 - before, sizes[axis] * up[axis] - out[axis] * down[axis] + before - up[axis] + 1]
    return pads


def _check(x: Tensor, f: Tensor | None, up: Sequence[int], down: Sequence[int], pads: Sequence[int]) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise FaceganError(f"upfirdn2d: x is {x.dtype} {list(x.shape)}; expected a floating point [N, C, H, W].")
    if f is not None and (f.ndim not in (1, 2) or f.numel() == 0):
        raise FaceganError(f"upfirdn2d: f has shape {list(f.shape)}; expected [K] or [KH, KW] with at least one tap.")
    if f is not None and f.requires_grad:
        raise FaceganError("upfirdn2d: f requires a gradient, but the filter is a constant; pass f.detach().")
    out = _output_shape(x, _taps(f), up, down, pads)
    if out[2] < 1 or out[3] < 1:
        raise FaceganError(
            f"upfirdn2d: x of {x.shape[2]} x {x.shape[3]} pixels with padding {tuple(pads)} is smaller than the filter; "
            f"expected room for at least one output pixel."
        )


class _UpFirDn2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int], flip: bool, gain: float, ops: Any
    ) -> Tensor:
        y: Tensor = ops.upfirdn2d.kernel(x, f, up, down, padding, flip, gain)
        ctx.save_for_backward(f)
        ctx.geometry = (x.shape[2:], y.shape[2:], up, down, padding)
        ctx.flip, ctx.gain, ctx.ops = flip, gain, ops
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (f,), (sizes, out, up, down, padding) = ctx.saved_tensors, ctx.geometry
        pads = adjoint_padding(sizes, out, _taps(f), up, down, padding)
        return ctx.ops.upfirdn2d(dy, f, down, up, pads, not ctx.flip, ctx.gain), *(None,) * 7


register(
    "upfirdn2d",
    "upfirdn2d(Tensor x, Tensor f, int[2] up, int[2] down, SymInt[4] padding, bool flip_filter, float gain) -> Tensor",
    fake=lambda x, f, up, down, padding, flip, gain: empty_like_format(x, _output_shape(x, _taps(f), up, down, padding)),
    autograd=_UpFirDn2d,
    reference=upfirdn2d_ref,
)
