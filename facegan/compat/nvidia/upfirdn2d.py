"""`torch_utils.ops.upfirdn2d`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan import ops
from facegan.compat.arguments import Pair, factors, implementation, paddings
from facegan.errors import FaceganError

FEW_TAPS = 8  # of a 1-D filter: fewer become a 2-D one, which state dicts hold as it is


def setup_filter(
    f: Any,
    device: torch.device | str = torch.device("cpu"),  # noqa: B008 (the signature of theirs)
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> Tensor:
    """Make a filter, float32: [K] of `FEW_TAPS` and more taps, or where `separable`, else [KH, KW]; None is one tap."""
    taps = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    taps = taps[None] if taps.ndim == 0 else taps
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= FEW_TAPS
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    if separable and taps.ndim != 1:
        raise FaceganError(f"setup_filter: f has shape {list(taps.shape)}, and separable is asked for; expected [K].")
    taps = ops.setup_filter(taps, normalize=normalize)
    if flip_filter:
        taps = taps.flip(tuple(range(taps.ndim)))
    return (taps * gain ** (taps.ndim / 2)).to(device=device)


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: Pair = 1,
    down: Pair = 1,
    padding: Pair = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> Tensor:
    """Compute `facegan.ops.upfirdn2d`."""
    with implementation("upfirdn2d", impl):
        return ops.upfirdn2d(x, f, factors(up), factors(down), paddings(padding), flip_filter, float(gain))


def filter2d(x: Tensor, f: Tensor | None, padding: Pair = 0, flip_filter: bool = False, gain: float = 1, impl: str = "cuda") -> Tensor:
    """Compute `facegan.ops.filter2d`."""
    with implementation("filter2d", impl):
        return ops.filter2d(x, _filter(f, x), paddings(padding), flip_filter=flip_filter, gain=float(gain))


def upsample2d(
    x: Tensor, f: Tensor | None, up: Pair = 2, padding: Pair = 0, flip_filter: bool = False, gain: float = 1, impl: str = "cuda"
) -> Tensor:
    """Compute `facegan.ops.upsample2d`."""
    with implementation("upsample2d", impl):
        return ops.upsample2d(x, _filter(f, x), factors(up), paddings(padding), flip_filter=flip_filter, gain=float(gain))


def downsample2d(
    x: Tensor, f: Tensor | None, down: Pair = 2, padding: Pair = 0, flip_filter: bool = False, gain: float = 1, impl: str = "cuda"
) -> Tensor:
    """Compute `facegan.ops.downsample2d`."""
    with implementation("downsample2d", impl):
        return ops.downsample2d(x, _filter(f, x), factors(down), paddings(padding), flip_filter=flip_filter, gain=float(gain))


def _filter(f: Tensor | None, x: Tensor) -> Tensor:
    """The filter, or a single tap."""
    return torch.ones(1, device=x.device) if f is None else f
