"""The weight's gradient of a convolution on the CPU (csrc/cpu/conv2d_weight_grad.cpp), of which oneDNN does half as much in a second as of
the convolution itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facegan_kernels.native import require

require()
_kernel = torch.ops.facegan.conv2d_weight_grad.default

LEAST_TURNED = 1 << 6  # pixels of the smaller map, over the batch, for which it pays to bring maps in rows to channels_last
MOST = 1 << 18  # channels in times channels out: the largest that was measured


@torch.library.register_fake("facegan::conv2d_weight_grad")
def _fake(dy: Tensor, x: Tensor, kh: int, kw: int, stride: int, padding: int) -> Tensor:
    return x.new_empty(dy.shape[1], kh, kw, x.shape[1])


def conv2d_weight_grad(dy: Tensor, x: Tensor, w: Tensor, options: tuple[Any, ...]) -> Tensor | None:
    """The gradient by w, of w's shape and format; None where the kernel does not serve.

    Args:
        dy, x: the gradient of the result and the input of a convolution by w, the weight in the form that the convolution takes.
        options: stride, padding, dilation, transposed, output padding and groups, as `aten::convolution` has them.
    """
    (stride, stride_x), (padding, padding_x), dilation, transposed, _, groups = options
    small, large = (x, dy) if transposed else (dy, x)  # a transposed convolution is another one's gradient: the maps change places
    if (
        stride != stride_x or padding != padding_x or tuple(dilation) != (1, 1) or groups != 1
        or w.shape[2:].numel() == 1 or w.shape[:2].numel() > MOST or dy.numel() == 0 or x.numel() == 0  # 1 x 1: a matrix product
        or not (dy.dtype == x.dtype == torch.float32 and x.device.type == "cpu")
    ):  # fmt: skip
        return None
    if not (_channels_last(dy) and _channels_last(x) and _channels_last(w)) and small.numel() // small.shape[1] < LEAST_TURNED:
        return None
    small, large = (t.contiguous(memory_format=torch.channels_last) for t in (small, large))
    dw = _kernel(small, large, *w.shape[2:], stride, padding).permute(0, 3, 1, 2)
    return dw if _channels_last(w) else dw.contiguous()


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)
