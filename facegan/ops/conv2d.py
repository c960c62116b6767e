"""2-D convolution whose second-order gradients are efficient, and its form with FIR resampling around it.

PyTorch's own double backward computes the weight gradient of a convolution as a convolution with an H x W kernel and one
group per sample. Here the three maps C(x, w), DX(dy, w) and DW(dy, x), each linear in both arguments, have one another as
gradients, so that every order is made of the three fast kernels behind `aten::convolution` and its backward. They are the library's
on every device (oneDNN, cuDNN) and backend, but on a CPU, where the compiled library has a DW of its own, and a C and a DX by Winograd's
filtering for 3 x 3 kernels of many channels.
"""

# ruff: noqa: D102
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from facegan import backend
from facegan.errors import FaceganError
from facegan.ops.formats import following, suggests_channels_last, to_dense
from facegan.ops.registration import applied
from facegan.ops.upfirdn2d import Pair, four_sides, padded_for, upfirdn2d

_convolution_backward = torch.ops.aten.convolution_backward.default
# A plain global, as autograd runs backward passes of CUDA graphs in threads of its own.
_weight_gradients_off = 0


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Leave out the weight gradients of `grad(y, [x])` inside the block, which autograd would ask of a Python node regardless.

    For R1 and path length: `with no_weight_gradients(): g, = torch.autograd.grad(D(x).sum(), x, create_graph=True)`.
    Weight gradients of the penalty itself, computed later outside of the block, are complete.
    """
    global _weight_gradients_off
    _weight_gradients_off += 1
    try:
        yield
    finally:
        _weight_gradients_off -= 1


def weight_gradients_wanted() -> bool:
    """Whether no `no_weight_gradients()` is open."""
    return not _weight_gradients_off


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0, groups: int = 1, transposed: bool = False
) -> Tensor:
    """Convolve, with fast gradients of every order: `F.conv2d`, or `F.conv_transpose2d` when `transposed`.

    Under torch.func's transforms and in forward mode PyTorch's own gradients serve.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I / groups, KH, KW]; transposed [I, O / groups, KH, KW]; in x's dtype (autocast casts).
        bias: [O] in x's dtype; None for none.
        stride: pixels from one place of the kernel to the next, along both axes.
        padding: zeros on each side, in pixels.
        groups: into which input and output channels are divided, each convolved on its own.
        transposed: compute the adjoint, which enlarges by `stride`.

    Returns:
        [N, O, H', W'] in x's dtype and memory format, whatever the weight's.

    Raises:
        FaceganError: x or weight has another rank, or x has other channels than the weight takes.
    """
    if x.ndim != 4 or weight.ndim != 4:
        raise FaceganError(
            f"conv2d: x has shape {list(x.shape)} and weight {list(weight.shape)}; expected [N, I, H, W] and [O, I, KH, KW]."
        )
    if torch._C._is_any_autocast_enabled() and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    weight = following(weight, x)
    # Where a dimension of one element has another stride than its format's, PyTorch 2.13 fails, or of groups gives wrong sums in silence.
    weight = weight if weight.is_contiguous() else to_dense(weight)
    x = to_dense(x) if groups > 1 else x
    if 0 in x.shape[2:]:  # of which PyTorch has no convolution
        if not transposed:
            x, padding = F.pad(x, (padding,) * 4), 0
        elif (made := _of_nothing(x, weight, bias, stride, padding, groups)) is not None:
            return made
    try:
        if _eager():
            options, own = _options(stride, padding, groups, transposed), backend.requested_backend() in ("auto", "native")
            graph = torch.is_grad_enabled() and torch._C._any_requires_grad(x, weight, bias)
            if graph and x.numel() > 0:
                return _apply(x, weight, bias, options, own)
            made = by_winograd(x, weight, options, b=bias) if own and not graph else None
            if made is not None:
                return made
        return (F.conv_transpose2d if transposed else F.conv2d)(x, weight, bias, stride=stride, padding=padding, groups=groups)
    except RuntimeError:  # PyTorch checks in every call, so this looks only after it has complained
        expected = weight.shape[0] if transposed else weight.shape[1] * groups
        if x.shape[1] == expected and 0 in x.shape[2:]:
            raise FaceganError(
                f"conv2d: x of {x.shape[2]} x {x.shape[3]} pixels is too small for a kernel of {weight.shape[2]} x {weight.shape[3]}; "
                "expected room for at least one output pixel."
            ) from None
        if x.shape[1] == expected:
            raise
        raise FaceganError(f"conv2d: x has {x.shape[1]} channels; expected {expected}, which the weight takes.") from None


def _of_nothing(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int) -> Tensor | None:
    """The transposed convolution of a map without pixels, which is the bias alone; None where nothing would be left."""
    sides = [(side - 1) * stride - 2 * padding + k for side, k in zip(x.shape[2:], weight.shape[2:], strict=True)]
    if min(sides) < 1 or x.shape[1] != weight.shape[0]:
        return None
    y = x.new_zeros(x.shape[0], weight.shape[1] * groups, *sides) + (x.sum() + weight[:0].sum())  # zeros that know where they come from
    return y if bias is None else y + bias[:, None, None]


def _eager() -> bool:
    """Whether the graph, if there is one, is to be ours, for the sake of its second order."""
    return (
        # A compiled graph has no second-order gradients, and the compiler knows the native convolution.
        not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active() and forward_ad._current_level < 0
    )


def conv2d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0, groups: int = 1, transposed: bool = False
) -> Tensor:
    """Compute `conv2d` with PyTorch's own gradients; arguments as there."""
    weight = following(weight, x)
    native = F.conv_transpose2d if transposed else F.conv2d
    return native(x, weight, bias, stride=stride, padding=padding, groups=groups)


def conv2d_resample(
    x: Tensor,
    weight: Tensor,
    f: Tensor | None = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> Tensor:
    """Convolve with FIR resampling, both at the higher resolution: the low-pass filtering of Karras et al. 2019, section 2.1.

    Zero-insert x by `up`, filter with f (gain up^2), correlate with the weight, filter with f again and keep every `down`-th pixel.
    A filter is left out where its factor is 1. The plane is zero outside of x and never cropped in between, so the order of the steps is
    free, and they run in the cheapest one: for `up` the weight first, as a transposed convolution.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I / groups, KH, KW] in x's dtype (autocast casts).
        f: FIR filter [KF] or [KFH, KFW]; needed when up or down is not 1.
        up: factor by which the map is enlarged before the convolution.
        down: factor by which it is reduced after it.
        padding: of the convolution, in pixels at the higher resolution: p, (vertical, horizontal) or (top, bottom, left, right); K // 2
            yields H * up / down; negative crops.
        groups: into which input and output channels are divided, each convolved on its own.
        flip_weight: True correlates with the weight, as `F.conv2d` does; False convolves, and costs a flip of the weight unless up > 1.
        flip_filter: False convolves with f, True correlates.

    Returns:
        [N, O, H', W'] in x's dtype and memory format, `H' = (H up + p - KH + 1) // down` with p the sum of the padding along the axis.

    Raises:
        FaceganError: a filter is missing, shapes do not fit together, or nothing would be left of the map.
    """
    check_factors("conv2d_resample", up, down)
    if f is None and max(up, down) > 1:
        raise FaceganError(f"conv2d_resample: up is {up} and down is {down}, but f is None; expected a filter.")
    sides, taps = four_sides(padding), (1, 1) if f is None else (f.shape[0], f.shape[-1])
    _check_room(x, weight, up, down, sides)
    x, up = without_pixels(x, up)
    if up > 1 and down > 1:
        pads = padded_for(taps, sides, down=(down, down))
        x = conv2d_resample(x, weight, f, up=up, padding=pads, groups=groups, flip_weight=flip_weight, flip_filter=flip_filter)
        return upfirdn2d(x, f, down=down, flip_filter=flip_filter)
    if up == down == 1 and not (min(sides) == max(sides) >= 0):
        x, sides = upfirdn2d(x, None, padding=sides), (0, 0, 0, 0)
    steps = resampling(weight.shape[2:], taps, up, down, sides, groups, flip_weight)
    if steps.before is not None:
        x = upfirdn2d(x, f, down=steps.down, padding=steps.before, flip_filter=flip_filter)
    x = conv2d(x, steps.weight(weight), **steps.convolution)
    if steps.after is not None:
        x = upfirdn2d(x, f, up=steps.up, padding=steps.after, flip_filter=flip_filter, gain=float(up * up))
    return x


def without_pixels(x: Tensor, up: int) -> tuple[Tensor, int]:
    """Return a map that has no pixels enlarged, and the factor that is left; another one as it is.

    A transposed convolution of nothing may be of a negative size, which a filter's padding would make good.
    """
    return (x.repeat(1, 1, up, up), 1) if up > 1 and x.ndim == 4 and 0 in x.shape[2:] else (x, up)


def check_factors(op: str, up: int, down: int) -> None:
    """Refuse factors that are no positive integers."""
    for name, factor in (("up", up), ("down", down)):
        if not isinstance(factor, int) or factor < 1:
            raise FaceganError(f"{op}: {name} is {factor}; expected a positive integer, which holds for both axes.")


def _check_room(x: Tensor, weight: Tensor, up: int, down: int, sides: Sequence[int]) -> None:
    """Of tensors of other ranks `conv2d` will complain."""
    if x.ndim != 4 or weight.ndim != 4:
        return
    for axis in (2, 3):
        if x.shape[axis] * up + sides[2 * axis - 4] + sides[2 * axis - 3] - weight.shape[axis] + 1 < down:
            raise FaceganError(
                f"conv2d_resample: x of {x.shape[2]} x {x.shape[3]} pixels with padding {tuple(sides)}, up {up} and down {down} is too"
                f" small for a kernel of {weight.shape[2]} x {weight.shape[3]}; expected room for at least one output pixel."
            )


class Resampling(NamedTuple):
    """The steps of a convolution with resampling: perhaps a filter, the convolution, perhaps a filter."""

    before: tuple[int, int, int, int] | None = None  # padding of the filter before the convolution
    down: int = 1  # what that filter decimates by
    after: tuple[int, int, int, int] | None = None  # padding of the filter after the convolution
    up: int = 1  # what is zero-inserted by that filter
    stride: int = 1
    padding: int = 0
    transposed: bool = False
    groups: int = 1
    flip_weight: bool = True  # the layer correlates; False convolves

    @property
    def convolution(self) -> dict[str, Any]:
        """Arguments of `conv2d`."""
        return dict(stride=self.stride, padding=self.padding, groups=self.groups, transposed=self.transposed)

    @property
    def options(self) -> tuple[Any, ...]:
        """Arguments of `aten::convolution` after the bias."""
        return _options(self.stride, self.padding, self.groups, self.transposed)

    @property
    def flips(self) -> bool:
        """Whether the convolution takes the weight turned by 180 degrees: a transposed one convolves, the other correlates."""
        return self.transposed == self.flip_weight

    def weight(self, w: Tensor) -> Tensor:
        """[O, I / groups, K, K] in the form that the convolution takes; applied twice, the weight again."""
        w = w.flip(2, 3) if self.flips and w.shape[2] * w.shape[3] > 1 else w
        if not self.transposed:
            return w
        return w.transpose(0, 1) if self.groups == 1 else w.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)


def resampling(
    kernel: int | Sequence[int], taps: int | Sequence[int], up: int, down: int, padding: Pair, groups: int = 1, flip_weight: bool = True
) -> Resampling:
    """Find the cheapest order of steps.

    Args:
        kernel: K, or [KH, KW].
        taps: of the filter, or [KFH, KFW].
        up: as in `conv2d_resample`.
        down: as in `conv2d_resample`.
        padding: as in `conv2d_resample`; where nothing is resampled the same on all sides.
        groups: as in `conv2d_resample`.
        flip_weight: as in `conv2d_resample`.

    Raises:
        FaceganError: both factors are above 1.
    """
    if up == down == 1:
        return Resampling(padding=padding if isinstance(padding, int) else padding[0], groups=groups, flip_weight=flip_weight)
    if up > 1 and down > 1:
        raise FaceganError(f"up is {up} and down is {down}; expected one of the two to be 1 in a layer.")
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    taps = (taps, taps) if isinstance(taps, int) else taps
    pads = padded_for(taps, padding, (up, up), (down, down))
    pixel = kh == kw == 1  # a 1 x 1 kernel convolves where there are fewer pixels
    if down > 1:
        return Resampling(pads, down if pixel else 1, stride=1 if pixel else down, groups=groups, flip_weight=flip_weight)
    if not pixel:  # the transposed convolution brings K - 1 before, K - up after
        pads = (pads[0] - (kh - 1), pads[1] - (kh - up), pads[2] - (kw - 1), pads[3] - (kw - up))
        return Resampling(after=pads, stride=up, transposed=True, groups=groups, flip_weight=flip_weight)
    return Resampling(after=pads, up=up, groups=groups, flip_weight=flip_weight)


def _options(stride: int, padding: int, groups: int, transposed: bool) -> tuple[Any, ...]:
    return (stride, stride), (padding, padding), (1, 1), transposed, (0, 0), groups


def _backward(dy: Tensor, x: Tensor, w: Tensor, bias_sizes: list[int] | None, options: Any, mask: list[bool], own: bool) -> Any:
    """`aten::convolution_backward`; `own`: by the compiled library, where that serves."""
    need_x, need_w, need_b = mask
    dx = by_winograd(dy, w, options, x, adjoint=True) if own and need_x else None
    kernel = _native("conv2d_weight_grad", "conv2d_weight_grad") if own and need_w and x.device.type == "cpu" else None
    dw = None if kernel is None else kernel(dy, x, w, options)
    rest = [need_x and dx is None, need_w and dw is None, need_b]
    if not any(rest):
        return dx, dw, None
    if w.shape[0] == 1 and w.stride(0) < w.numel():  # PyTorch refuses the gradient of a weight whose one channel has an odd stride
        w = w.clone(memory_format=torch.channels_last if suggests_channels_last(w) else torch.contiguous_format)
    others = _convolution_backward(dy, x, w, bias_sizes, *options, rest)
    return others[0] if dx is None else dx, others[1] if dw is None else dw, others[2]


def by_winograd(x: Tensor, w: Tensor, options: Any, like: Tensor | None = None, **layer: Any) -> Tensor | None:
    """Convolve without a graph by `facegan_kernels.native.winograd`, whose arguments these are; None where it does not serve."""
    kernel = _native("winograd", "winograd_conv2d") if x.device.type == "cpu" else None
    return None if kernel is None else kernel(x, w, options, like, **layer)


@cache
def _native(module: str, name: str) -> Callable[..., Tensor | None] | None:
    try:
        found: Callable[..., Tensor | None] = getattr(import_module(f"facegan_kernels.native.{module}"), name)
    except ImportError:
        return None
    return found


class _Conv(torch.autograd.Function):
    """C(x, w); `own`, here and below: see `_backward`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, options: Any, own: bool) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.options, ctx.bias, ctx.own = options, b is not None, own
        y = by_winograd(x, w, options, b=b) if own else None
        return torch.convolution(x, w, b, *options) if y is None else y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (x, w), options, own = ctx.saved_tensors, ctx.options, ctx.own
        need_x, need_w, need_b = ctx.needs_input_grad[:3]
        if _weight_gradients_off:
            need_w = need_b = False
        if not torch.is_grad_enabled():  # nobody will differentiate this
            return *_backward(dy, x, w, [dy.shape[1]] if ctx.bias else None, options, [need_x, need_w, need_b], own), None, None
        dx = ConvInputGrad.apply(dy, w, x, options, own) if need_x else None
        dw = ConvWeightGrad.apply(dy, x, w, options, own) if need_w else None
        return dx, dw, dy.sum((0, 2, 3)) if need_b else None, None, None


_apply = applied(_Conv)


class ConvInputGrad(torch.autograd.Function):
    """DX(dy, w); x gives the shape only."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, w: Tensor, x: Tensor, options: Any, own: bool) -> Tensor:
        ctx.save_for_backward(dy, w)
        ctx.options, ctx.own = options, own
        dx: Tensor = _backward(dy, x, w, None, options, [True, False, False], own)[0]
        return dx

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        dy, w = ctx.saved_tensors
        need_dy, need_w = ctx.needs_input_grad[0], ctx.needs_input_grad[1] and not _weight_gradients_off
        d_dy = _Conv.apply(g, w, None, ctx.options, ctx.own) if need_dy else None
        return d_dy, ConvWeightGrad.apply(dy, g, w, ctx.options, ctx.own) if need_w else None, None, None, None


class ConvWeightGrad(torch.autograd.Function):
    """DW(dy, x); w gives the shape only."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, w: Tensor, options: Any, own: bool) -> Tensor:
        ctx.save_for_backward(dy, x)
        ctx.options, ctx.own = options, own
        dw: Tensor = _backward(dy, x, w, None, options, [False, True, False], own)[1]
        return dw

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        dy, x = ctx.saved_tensors
        d_dy = _Conv.apply(x, g, None, ctx.options, ctx.own) if ctx.needs_input_grad[0] else None
        return d_dy, ConvInputGrad.apply(dy, g, x, ctx.options, ctx.own) if ctx.needs_input_grad[1] else None, None, None, None
