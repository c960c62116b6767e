"""3 x 3 convolutions on the CPU by Winograd's minimal filtering (csrc/cpu/winograd.cpp), with weights that change: those of training.

A quarter of the multiplications, at 1.4 to 2.2 times the speed of oneDNN's convolution with AVX2 (one thread; 128 channels to 512,
16 px to 64). The largest error relative to float64 is up to twice that of summing one product at a time in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan_kernels.native import as_format, channels_last, require

require()
_kernel = torch.ops.facegan.winograd_conv2d.default

# Below these the transforms cost what the products save (benchmarks/test_conv2d.py). With AVX-512 oneDNN's convolution is twice as fast,
# and the products here are not.
LEAST_CHANNELS, LEAST_WEIGHTS, LEAST_TILES = 128, 128 * 256, 16
CAPABILITY = "AVX2"

_OPTIONS = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1)
_LINEAR = ("linear", 0.0, 1.0, None)


@torch.library.register_fake("facegan::winograd_conv2d")
def _fake(x: Tensor, w: Tensor, s: Any, d: Any, noise: Any, b: Any, flip_weight: bool, *activation: Any) -> Tensor:
    return x.new_empty(x.shape[0], w.shape[0], *x.shape[2:]).contiguous(memory_format=torch.channels_last)


def winograd_conv2d(
    x: Tensor,
    w: Tensor,
    options: tuple[Any, ...],
    like: Tensor | None = None,
    *,
    adjoint: bool = False,
    flip_weight: bool = True,
    s: Tensor | None = None,
    d: Tensor | None = None,
    noise: Tensor | None = None,
    b: Tensor | None = None,
    activation: tuple[Any, ...] = _LINEAR,
) -> Tensor | None:
    """`clamp(gain * act(d * conv2d(s * x, w) + noise + b))`; None where this does not serve, or is not faster.

    Args:
        x: [N, I, H, W], or the gradient of the result, from which `adjoint` makes that of the input.
        w: [O, I, 3, 3].
        options: stride, padding, dilation, transposed, output padding and groups, as `aten::convolution` has them.
        like: a map whose format the result gets; x by default.
        adjoint: compute the convolution's input gradient.
        flip_weight: True correlates with the weight, False convolves.
        s: [N, I]; this and the following as in `modulated_conv2d`, None for none.
        d: [N, O].
        noise: [1 or N, 1, H, W].
        b: [O].
        activation: act, alpha, gain and clamp.
    """
    if options != _OPTIONS or not _serves(x, w):
        return None
    if adjoint:
        w, flip_weight = w.transpose(0, 1), not flip_weight
    s, d, noise = (None if t is None else t.to(x.dtype).contiguous() for t in (s, d, noise))
    y: Tensor = _kernel(x.contiguous(memory_format=torch.channels_last), w, s, d, noise, b, flip_weight, *activation)
    return as_format(y, channels_last(x if like is None else like))


def _serves(x: Tensor, w: Tensor) -> bool:
    n, _, height, width = x.shape
    o, c, kh, kw = w.shape
    return (
        min(o, c) >= LEAST_CHANNELS
        and kh == kw == 3
        and o * c >= LEAST_WEIGHTS
        and n * -(-height // 4) * -(-width // 4) >= LEAST_TILES
        and x.device.type == "cpu"
        and x.dtype == w.dtype == torch.float32
        and torch.backends.cpu.get_cpu_capability() == CAPABILITY
    )
