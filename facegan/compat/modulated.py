"""rosinality's and BasicSR's `ModulatedConv2d` on `facegan.ops.modulated_conv2d`: the forward pass of their modules, whose parameters stay.

Their weight is [1, O, I, K, K], multiplied by `scale`; here the styles are. The filter of an up layer has its gain of 4 in it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASS = "ModulatedConv2d"
THEIRS = "_facegan_compat_forward"  # where a class keeps its own
_EPSILON = 1e-8  # of the demodulation, here
_ARGUMENTS = (
    "in_channel out_channel kernel_size style_dim demodulate upsample downsample blur_kernel",  # pixel2style2pixel; rosinality adds
    "in_channels out_channels kernel_size num_style_feat demodulate sample_mode resample_kernel eps",  # BasicSR
)
_MORE = ("fused", "device")  # rosinality's, GPEN's last argument


def is_served(names: dict[str, Any]) -> bool:
    """Whether a module of that name defines the class, and makes and calls it as these projects do."""
    cls: Any = names.get(CLASS)
    if not isinstance(cls, type) or cls.__module__ != names.get("__name__") or THEIRS in vars(cls):
        return False
    try:
        made, called = (list(inspect.signature(f).parameters)[1:] for f in (cls.__init__, cls.forward))  # type: ignore[attr-defined,misc]
    except (AttributeError, TypeError, ValueError):
        return False
    return " ".join(name for name in made if name not in _MORE) in _ARGUMENTS and len(called) == 2


def serve(names: dict[str, Any], module: str, served: dict[str, str]) -> None:
    """Put our forward pass into the class of a module."""
    if is_served(names):
        cls: Any = names[CLASS]
        setattr(cls, THEIRS, cls.forward)
        cls.forward = forward
        served[module] = f"facegan.compat.modulated: {CLASS}"


def withdraw(names: dict[str, Any]) -> bool:
    """Give the class its own forward pass back; return whether it had another."""
    cls: Any = names.get(CLASS)
    if THEIRS not in getattr(cls, "__dict__", {}):
        return False
    cls.forward = getattr(cls, THEIRS)
    delattr(cls, THEIRS)
    return True


class _Kept(NamedTuple):
    """What a module's parameters are here: the same memory, in other shapes."""

    key: tuple[Any, ...]
    weight: nn.Parameter  # [O, I, K, K]
    filter: Tensor | None  # without the gain of an up layer


_kept: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def forward(self: Any, input: Tensor, style: Tensor) -> Tensor:
    """Modulate, convolve with resampling, demodulate (Karras et al. 2020, eqs. 1 and 3)."""
    import torch

    from facegan import ops

    if self.eps != _EPSILON:
        theirs: Tensor = getattr(type(self), THEIRS)(self, input, style)
        return theirs
    mode = getattr(self, "sample_mode", None)
    up = 2 if getattr(self, "upsample", False) or mode == "upsample" else 1
    down = 2 if getattr(self, "downsample", False) or mode == "downsample" else 1
    smoothing = getattr(self, "blur", None) or getattr(self, "smooth", None)
    kept = _keep(self, None if smoothing is None else smoothing.kernel, up)
    graph = torch.is_grad_enabled() and self.weight.requires_grad
    if self.demodulate and input.device.type == "cpu":  # as in `layers.modulated_conv2d`
        input = input.contiguous(memory_format=torch.channels_last)
    return ops.modulated_conv2d(
        input,
        self.weight[0] if graph else kept.weight,
        self.modulation(style) * self.scale,
        demodulate=self.demodulate,
        up=up,
        down=down,
        padding=self.padding,
        resample_filter=None if kept.filter is None else kept.filter.to(input.device),
        flip_weight=up == 1,  # the transposed convolution of an up layer takes the weight as it lies
    )


def _keep(module: Any, kernel: Tensor | None, up: int) -> _Kept:
    """Return what is kept of a module, made again when its weight lies elsewhere."""
    import torch

    weight = module.weight
    key = (weight.data_ptr(), weight.dtype, weight.device, None if kernel is None else kernel.data_ptr())
    kept = _kept.get(module)
    if kept is None or kept.key != key:
        filter = None if kernel is None else kernel.detach() / up**2
        kept = _kept[module] = _Kept(key, torch.nn.Parameter(weight.detach()[0], requires_grad=False), filter)
    return kept
