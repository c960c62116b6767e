"""Gradients of the synthesis layer and of the registered operators that it is made of, all of which are memory-bound.

`modulate` scales the input channels by the styles, `modulated_epilogue` does everything after the convolution in one pass:
`y = clamp(gain * act(FIR(x) * d + noise + b))`. Its activation is linear, relu or lrelu, so with a = d y / d(pre-activation)
and z the pre-activation, y = a z wherever y is not clamped. The gradient of d therefore needs y alone, neither the
convolution's output nor a division per element: `d (dL/dd) = sum g (z - noise - b) = sum dy y - sum g noise - b sum g` with
g = a dy, three sums that the same pass over dy and y yields.
"""

# ruff: noqa: D102
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facegan.ops.activation import Activation
from facegan.ops.conv2d import ConvInputGrad, ConvWeightGrad, weight_gradients_wanted
from facegan.ops.formats import following
from facegan.ops.modulated_conv2d.algorithms import Operands, convolution_input, filter_after, filtered, value
from facegan.ops.modulated_conv2d.reference import demodulation
from facegan.ops.registration import Operators, uncast


class SynthesisLayer(torch.autograd.Function):
    """Keeps x and y only: the modulated input is recomputed for the weight gradient, one cheap pass for a whole activation."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *operands, algorithm = arguments
        y = value(Operands(*operands), algorithm)
        ctx.save_for_backward(*operands[:7], y)
        ctx.set_materialize_grads(False)  # a second-order graph may meet y without a gradient of its own
        ctx.steps, ctx.activation, ctx.ops = operands[7:]
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * 11
        (x, w, s, d, noise, b, f, y), steps, ops = ctx.saved_tensors, ctx.steps, ctx.ops
        need_x, need_w, need_s, *wanted = ctx.needs_input_grad[:6]
        need_w = need_w and weight_gradients_wanted()
        g, dd, dn, db = epilogue_gradients(dy, y, d, noise, b, *filter_after(f, steps), wanted, ctx.activation, ops)
        modulated = convolution_input(x, s, f, steps, ops)
        weight, own = following(steps.weight(w), modulated), ops.backend == "native"
        dw = steps.weight(ConvWeightGrad.apply(g, modulated, weight, steps.options, own)) if need_w else None
        dx = ds = None
        if need_x or need_s:
            g = ConvInputGrad.apply(g, weight, modulated, steps.options, own)
            del modulated  # of which the call above needs the shape alone
            if steps.before is not None:
                (kh, kw), (top, bottom, left, right) = (f.shape[0], f.shape[-1]), steps.before
                g = filtered(g, f, (kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right), True, ops)
            dx, ds = ops.modulate_backward(g, x, s)
            ds = ds.to(s.dtype)
        return dx, dw, ds, dd, dn, db, *(None,) * 5


class Demodulation(torch.autograd.Function):
    """`demodulation` with d = q^-1/2 kept for its gradient: dq = -d^3 dd / 2, ds = 2 s (dq W2), dW = 2 W (dq^T s^2), W2 = sum_k W^2.

    PyTorch's own graph of the formula takes twice as many operators, for as many layers as a generator has.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, styles: Tensor) -> Tensor:
        d = demodulation(weight, styles)
        ctx.save_for_backward(weight, styles, d)
        return d

    @staticmethod
    def backward(ctx: Any, dd: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weight, styles, d = ctx.saved_tensors
        dw = ds = None
        with uncast(d):
            minus_2dq, w, s = dd * d.pow(3), weight.to(d.dtype), styles.to(d.dtype)
            if ctx.needs_input_grad[1]:
                ds = (s * (minus_2dq @ w.square().sum((2, 3)))).neg().to(styles.dtype)
            if ctx.needs_input_grad[0] and weight_gradients_wanted():
                dw = (w * (minus_2dq.T @ s.square())[:, :, None, None]).neg().to(weight.dtype)
        return dw, ds


class Modulate(torch.autograd.Function):
    """x times s."""

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


class ModulateBackward(torch.autograd.Function):
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


class Epilogue(torch.autograd.Function):
    """All that follows the convolution."""

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
    """Return the gradients (x, d, noise, b) of the epilogue, differentiable; the last three where they are `wanted`."""
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


class EpilogueBackward(torch.autograd.Function):
    """Its gradient, which keeps what that of second order needs."""

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


class Pointwise(torch.autograd.Function):
    """toRGB's convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, ops: Operators) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.ops = ops
        y: Tensor = ops.pointwise.kernel(x, w)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, w = ctx.saved_tensors
        dx, dw = ctx.ops.pointwise_backward(dy, x, w)
        return dx, dw.to(w.dtype), None


class PointwiseBackward(torch.autograd.Function):
    """Its gradient, linear in each argument as well."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, w: Tensor, ops: Operators) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(dy, x, w)
        ctx.ops = ops
        dx, dw = ops.pointwise_backward.kernel(dy, x, w)
        return dx, dw

    @staticmethod
    def backward(ctx: Any, gdx: Tensor, gdw: Tensor) -> tuple[Any, ...]:
        (dy, x, w), ops = ctx.saved_tensors, ctx.ops
        d_dy = ops.pointwise(gdx, w) + ops.pointwise(x, gdw)
        d_x, d_w = ops.pointwise_backward(dy, gdx, gdw)
        return d_dy, d_x, d_w.to(w.dtype), None
