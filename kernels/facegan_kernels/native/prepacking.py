"""Prepacked weights, those of inference: what a convolution needs of them is made once, for as long as they live unchanged.

oneDNN convolves in blocked formats of its own. PyTorch has it bring the weight into one in every call, which at batch 1 and low
resolution takes longer than the convolution, and a transposed convolution first wants the weight turned. The operators with which
PyTorch's compiler freezes weights take one that has been brought there before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from facegan_kernels.native import channels_last, require

require()

_SAMPLES = 1024  # elements of a weight that are compared in every call


class _Cache(NamedTuple):
    state: tuple[int, int]
    sample: Tensor
    entries: dict[str, tuple[Hashable, Any]]  # name -> what it was made for, what was made


_caches: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # weight -> _Cache


def cached_on(weight: Tensor, name: str, purpose: Hashable, make: Callable[[Tensor], Any]) -> Any:
    """Return `make(weight)`, kept under `name` until the weight changes or dies, or another purpose asks for it."""
    # `weight.data.copy_(...)` leaves version and place as they are, so a sample of the values is compared as well
    step = max(1, weight.numel() // _SAMPLES)
    sample = _flat(weight.detach())[::step]
    state = 0 if weight.is_inference() else weight._version, weight.data_ptr()
    cache: _Cache | None = _caches.get(weight)
    if cache is None or cache.state != state or not torch.equal(cache.sample, sample):
        cache = _caches[weight] = _Cache(state, sample.clone(), {})
    if name not in cache.entries or cache.entries[name][0] != purpose:
        cache.entries[name] = purpose, make(weight.detach())
    return cache.entries[name][1]


def _flat(weight: Tensor) -> Tensor:
    """The elements in the order of memory: a view of a weight in rows or in channels_last."""
    return (weight.permute(0, 2, 3, 1) if channels_last(weight) else weight).reshape(-1)


@cache
def _one_dnn() -> bool:
    """Whether this PyTorch has oneDNN, and the operators for packed weights."""
    pairs = [(f"_reorder_{name}_weight", f"_{name}_pointwise") for name in ("convolution", "convolution_transpose")]
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for pair in pairs for name in pair)


def can_prepack(x: Tensor) -> bool:
    """Whether x can be convolved by a packed weight."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0 and _one_dnn() and bool(torch.backends.mkldnn.enabled)


def prepack(weight: Tensor, x: Tensor, stride: int, padding: int, transposed: bool = False, groups: int = 1) -> Tensor:
    """Return the weight in the format that suits the convolution of x; for other shapes of x it may have to be reordered in every call."""
    options: tuple[Any, ...] = ([stride] * 2, [1, 1], groups, list(x.shape))
    if transposed:
        return torch.ops.mkldnn._reorder_convolution_transpose_weight(weight.contiguous(), [padding] * 2, [0, 0], *options)
    return torch.ops.mkldnn._reorder_convolution_weight(weight, [padding] * 2, *options)


def prepacked_convolution(x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool = False, groups: int = 1) -> Tensor:
    """Convolve x by a weight that `prepack` made."""
    options: tuple[Any, ...] = ([stride] * 2, [1, 1], groups, "none", [], "")  # followed by nothing
    if transposed:
        return torch.ops.mkldnn._convolution_transpose_pointwise(x, weight, None, [padding] * 2, [0, 0], *options)
    return torch.ops.mkldnn._convolution_pointwise(x, weight, None, [padding] * 2, *options)
