"""The registered operators around the convolution of a synthesis layer, all of them memory-bound.

`modulate` scales the input channels by the styles, `modulated_epilogue` does everything after the convolution in one pass:
`y = clamp(gain * act(FIR(x) * d + noise + b))`. Its activation is linear, relu or lrelu, so with a = d y / d(pre-activation)
and z the pre-activation, y = a z wherever y is not clamped. The gradient of d therefore needs y alone, neither the
convolution's output nor a division per element: `d (dL/dd) = sum g (z - noise - b) = sum dy y - sum g noise - b sum g` with
g = a dy, three sums that the same pass over dy and y yields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facegan.ops.activation import ACTIVATION_SCHEMA, Activation, activation_slope, unclamped
from facegan.ops.bias_act import biased_activation
from facegan.ops.formats import empty
from facegan.ops.registration import Operators, by_pytorch, register
from facegan.ops.upfirdn2d import upfirdn2d_ref

OP = "modulated_conv2d"


def wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _per_channel(v: Tensor, x: Tensor) -> Tensor:
    """[N, C] as factors of x, in its dtype."""
    return v.to(x.dtype)[:, :, None, None]


def _sum_as(x: Tensor, noise_batch: int) -> Tensor:
    """[N, C, H, W] summed to the noise's [noise_batch, 1, H, W]."""
    return x.sum((0, 1) if noise_batch == 1 else 1, keepdim=True)


def modulate_ref(x: Tensor, s: Tensor) -> Tensor:
    """x [N, C, H, W] times s [N, C]."""
    return x * _per_channel(s, x)


def modulate_backward_ref(g: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `modulate`: x's in its dtype, s's [N, C] in float32 or wider."""
    return g * _per_channel(s, g), (wide(g) * wide(x)).sum((2, 3))


def modulated_epilogue_ref(
    x: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    f: Tensor | None,
    padding: Sequence[int],
    activation: Activation,
) -> Tensor:
    """`clamp(gain * act(FIR(x) * d + noise + b))`: x [N, O, H, W], d [N, O], noise broadcast to [N, 1, H', W'], b [O].

    The FIR is `upfirdn2d(x, f, padding=padding)`, and the identity when f is None.
    """
    if f is not None:
        x = upfirdn2d_ref(x, f, padding=padding)
    if noise is not None:
        noise = noise.to(x.dtype)
        x = noise + x if d is None else torch.addcmul(noise, x, _per_channel(d, x))
    elif d is not None:
        x = x * _per_channel(d, x)
    return biased_activation(x, b, 1, activation)


def modulated_epilogue_backward_ref(
    dy: Tensor,
    y: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    noise_batch: int,
    activation: Activation,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dz, sums, dn) from y, with g = dy * slope(y).

    dz [N, C, H, W] is g * d, the gradient of FIR(x). sums [3, N, C], float32 or wider, over H x W: of dy * y where y is not
    clamped, of g * noise (zero when noise or d is None) and of g. dn is the gradient of the noise [noise_batch, 1, H, W],
    empty when noise_batch is 0.
    """
    g = dy * activation_slope(y, activation)
    g_wide = wide(g)
    with_y = (wide(dy) * wide(unclamped(y, y, activation.clamp))).sum((2, 3))
    with_noise = torch.zeros_like(with_y) if noise is None or d is None else (g_wide * wide(noise)).sum((2, 3))
    dn = _sum_as(g, noise_batch) if noise_batch else g.new_empty(0)
    return g if d is None else g * _per_channel(d, g), torch.stack([with_y, with_noise, g_wide.sum((2, 3))]), dn


def modulated_epilogue_double_backward_ref(
    gdz: Tensor,
    gsums: Tensor | None,
    gdn: Tensor | None,
    dy: Tensor,
    y: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    activation: Activation,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients (dy, y, d, noise) of `modulated_epilogue_backward`; empty where there is nothing to give one to.

    gdz, gsums, gdn are those of its outputs. The slope is constant but for its step: y enters through `sum dy y` alone.
    """
    slope = activation_slope(y, activation)
    g, empty = dy * slope, dy.new_empty(0)
    through_g = gdz if d is None else gdz * _per_channel(d, gdz)  # the gradient of g
    d_y, d_noise = empty, empty
    if gdn is not None:
        through_g = through_g + gdn
    if gsums is not None:
        through_g = through_g + _per_channel(gsums[2], g)
        if noise is not None and d is not None:
            through_g = through_g + _per_channel(gsums[1], g) * noise
            d_noise = _sum_as(_per_channel(gsums[1], g) * g, noise.shape[0])
        d_y = unclamped(dy, y, activation.clamp) * _per_channel(gsums[0], g)
    d_dy = through_g * slope
    if gsums is not None:
        d_dy = d_dy + unclamped(y, y, activation.clamp) * _per_channel(gsums[0], g)
    d_d = empty.to(wide(g).dtype) if d is None else (wide(gdz) * wide(g)).sum((2, 3))
    return d_dy, d_y, d_d, d_noise


class _Modulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, ops: Operators) -> Tensor:
        ctx.save_for_backward(x, s)
        ctx.set_materialize_grads(False)  # zeros would come as NCHW, and cost passes over memory
        ctx.ops = ops
        y: Tensor = ops.modulate.kernel(x, s)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
        if g is None:
            return None, None, None
        x, s = ctx.saved_tensors
        dx, ds = ctx.ops.modulate_backward(g, x, s)
        return dx, ds.to(s.dtype), None


class _ModulateBackward(torch.autograd.Function):
    """(g s, sum g x) is linear in each argument, so that its gradients are the same two operators once more."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, s: Tensor, ops: Operators) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(g, x, s)
        ctx.set_materialize_grads(False)
        ctx.ops = ops
        dx, ds = ops.modulate_backward.kernel(g, x, s)
        return dx, ds

    @staticmethod
    def backward(ctx: Any, gdx: Tensor | None, gds: Tensor | None) -> tuple[Any, ...]:
        g, x, s = ctx.saved_tensors
        d_g = d_x = d_s = None
        if gdx is not None:
            d_g, d_s = ctx.ops.modulate_backward(gdx, g, s)
            d_s = d_s.to(s.dtype)
        if gds is not None:
            of_sum = ctx.ops.modulate(x, gds)
            d_g = of_sum if d_g is None else d_g + of_sum
            d_x = ctx.ops.modulate(g, gds) if ctx.needs_input_grad[1] else None
        return d_g, d_x, d_s, None


class _Epilogue(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, d: Any, noise: Any, b: Any, f: Any, padding: Sequence[int], activation: Activation, ops: Operators
    ) -> Tensor:
        y: Tensor = ops.modulated_epilogue.kernel(x, d, noise, b, f, padding, *activation)
        ctx.save_for_backward(y, d, noise, b, f)
        ctx.set_materialize_grads(False)  # a second-order graph may meet y without a gradient of its own
        ctx.padding, ctx.activation, ctx.ops = padding, activation, ops
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 8
        (y, d, noise, b, f), wanted = ctx.saved_tensors, ctx.needs_input_grad[1:4]
        return *epilogue_gradients(dy, y, d, noise, b, f, ctx.padding, wanted, ctx.activation, ctx.ops), *(None,) * 4


def epilogue_gradients(
    dy: Tensor,
    y: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    f: Tensor | None,
    padding: Sequence[int],
    wanted: Sequence[bool],
    activation: Activation,
    ops: Operators,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients (x, d, noise, b) of the epilogue, differentiable; the last three where they are `wanted`."""
    noise_batch = noise.shape[0] if noise is not None and wanted[1] else 0
    dx, sums, dn = ops.modulated_epilogue_backward(dy, y, d, noise, noise_batch, *activation)
    if f is not None:
        (kh, kw), (top, bottom, left, right) = (f.shape[0], f.shape[-1]), padding
        pads = (kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right)
        dx = ops.upfirdn2d(dx, f, (1, 1), (1, 1), pads, True, 1.0)
    dd = db = None
    with_y, with_noise, of_g = sums.unbind()
    if d is not None and wanted[0]:
        of_z = with_y if noise is None else with_y - with_noise
        dd = ((of_z if b is None else torch.addcmul(of_z, b.to(of_z.dtype), of_g, value=-1)) / d).to(d.dtype)
    if b is not None and wanted[2]:
        db = of_g.sum(0).to(b.dtype)
    return dx, dd, dn if noise_batch else None, db


class _EpilogueBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, y: Tensor, d: Any, noise: Any, noise_batch: int, activation: Activation, ops: Operators
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(dy, y, d, noise)
        ctx.set_materialize_grads(False)
        ctx.activation, ctx.ops = activation, ops
        dz, sums, dn = ops.modulated_epilogue_backward.kernel(dy, y, d, noise, noise_batch, *activation)
        return dz, sums, dn

    @staticmethod
    def backward(ctx: Any, gdz: Tensor | None, gsums: Tensor | None, gdn: Tensor | None) -> tuple[Any, ...]:
        dy, y, d, noise = ctx.saved_tensors
        gdz = torch.zeros_like(dy) if gdz is None else gdz
        gdn = None if gdn is not None and gdn.numel() == 0 else gdn
        d_dy, d_y, d_d, d_noise = ctx.ops.modulated_epilogue_double_backward(gdz, gsums, gdn, dy, y, d, noise, *ctx.activation)
        d_d = None if d is None else d_d.to(d.dtype)
        d_noise = d_noise if noise is not None and d is not None and gsums is not None else None
        return d_dy, None if gsums is None else d_y, d_d, d_noise, None, None, None


def _fake_epilogue(x: Tensor, d: Any, noise: Any, b: Any, f: Tensor | None, padding: list[int], *_: Any) -> Tensor:
    if f is None:
        return empty(x)
    height = x.shape[2] + padding[0] + padding[1] - f.shape[0] + 1
    width = x.shape[3] + padding[2] + padding[3] - f.shape[-1] + 1
    return empty(x, (*x.shape[:2], height, width))


def _fake_epilogue_backward(dy: Tensor, y: Tensor, d: Any, noise: Any, noise_batch: int, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    dn = dy.new_empty((noise_batch, 1, *y.shape[2:]) if noise_batch else 0)
    return empty(dy), wide(y).new_empty((3, *y.shape[:2])), dn


def _fake_double_backward(
    gdz: Tensor, gsums: Any, gdn: Any, dy: Tensor, y: Tensor, d: Any, noise: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_y = y.new_empty(0) if gsums is None else empty(y)
    d_d = wide(y).new_empty(0 if d is None else y.shape[:2])
    return empty(dy), d_y, d_d, y.new_empty(0 if noise is None or d is None or gsums is None else noise.shape)


register(
    OP,
    "modulate(Tensor x, Tensor s) -> Tensor",
    fake=lambda x, *_: empty(x),
    autograd=_Modulate,
    reference=modulate_ref,
)
register(
    OP,
    "modulate_backward(Tensor g, Tensor x, Tensor s) -> (Tensor, Tensor)",
    fake=lambda g, x, s: (empty(g), wide(x).new_empty(s.shape)),
    autograd=_ModulateBackward,
    reference=modulate_backward_ref,
)
register(
    OP,
    f"modulated_epilogue(Tensor x, Tensor? d, Tensor? noise, Tensor? b, Tensor? f, SymInt[4] padding, {ACTIVATION_SCHEMA}) -> Tensor",
    fake=_fake_epilogue,
    autograd=_Epilogue,
    reference=modulated_epilogue_ref,
)
register(
    OP,
    f"modulated_epilogue_backward(Tensor dy, Tensor y, Tensor? d, Tensor? noise, int noise_batch, {ACTIVATION_SCHEMA})"
    " -> (Tensor, Tensor, Tensor)",
    fake=_fake_epilogue_backward,
    autograd=_EpilogueBackward,
    reference=modulated_epilogue_backward_ref,
)
register(
    OP,
    "modulated_epilogue_double_backward(Tensor gdz, Tensor? gsums, Tensor? gdn, Tensor dy, Tensor y, Tensor? d, Tensor? noise, "
    f"{ACTIVATION_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_double_backward,
    autograd=by_pytorch(modulated_epilogue_double_backward_ref),
    reference=modulated_epilogue_double_backward_ref,
)
