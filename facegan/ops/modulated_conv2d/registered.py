"""The registered operators of the synthesis layer: schema, fake kernel, reference and autograd of each."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facegan.ops.activation import ACTIVATION_SCHEMA
from facegan.ops.formats import empty_like_format, match_layout, upcast
from facegan.ops.modulated_conv2d.autograd import Epilogue, EpilogueBackward, Modulate, ModulateBackward, Pointwise, PointwiseBackward
from facegan.ops.modulated_conv2d.reference import (
    demodulation,
    modulate_backward_ref,
    modulate_ref,
    modulated_conv2d_fused_ref,
    modulated_epilogue_backward_ref,
    modulated_epilogue_double_backward_ref,
    modulated_epilogue_ref,
    pointwise_backward_ref,
    pointwise_ref,
    prepacked_conv2d_ref,
    regional_epilogue_ref,
)
from facegan.ops.registration import by_pytorch, register


def _fake_epilogue(x: Tensor, d: Any, noise: Any, b: Any, f: Tensor | None, padding: list[int], *_: Any) -> Tensor:
    if f is None:
        return empty_like_format(x)
    height = x.shape[2] + padding[0] + padding[1] - f.shape[0] + 1
    width = x.shape[3] + padding[2] + padding[3] - f.shape[-1] + 1
    return empty_like_format(x, (*x.shape[:2], height, width))


def _fake_epilogue_backward(dy: Tensor, y: Tensor, d: Any, noise: Any, noise_batch: int, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    dn = dy.new_empty((noise_batch, 1, *y.shape[2:]) if noise_batch else 0)
    return empty_like_format(dy), upcast(y).new_empty((3, *y.shape[:2])), dn


def _fake_double_backward(
    gdz: Tensor, gsums: Any, gdn: Any, dy: Tensor, y: Tensor, d: Any, noise: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_y = y.new_empty(0) if gsums is None else empty_like_format(y)
    d_d = upcast(y).new_empty(0 if d is None else y.shape[:2])
    return empty_like_format(dy), d_y, d_d, y.new_empty(0 if noise is None or d is None or gsums is None else noise.shape)


def _convolved_shape(x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> tuple[int, int, int, int]:
    k = weight.shape[2]
    sides = ((a - 1) * stride - 2 * padding + k if transposed else (a + 2 * padding - k) // stride + 1 for a in x.shape[2:])
    return x.shape[0], weight.shape[0], *sides  # type: ignore[return-value]


register(
    "modulated_conv2d",
    "modulate(Tensor x, Tensor s) -> Tensor",
    fake=lambda x, *_: empty_like_format(x),
    autograd=Modulate,
    reference=modulate_ref,
)
register(
    "modulated_conv2d",
    "modulate_backward(Tensor g, Tensor x, Tensor s) -> (Tensor, Tensor)",
    fake=lambda g, x, s: (empty_like_format(g), upcast(x).new_empty(s.shape)),
    autograd=ModulateBackward,
    reference=modulate_backward_ref,
)
register(
    "modulated_conv2d",
    f"modulated_epilogue(Tensor x, Tensor? d, Tensor? noise, Tensor? b, Tensor? f, SymInt[4] padding, {ACTIVATION_SCHEMA}) -> Tensor",
    fake=_fake_epilogue,
    autograd=Epilogue,
    reference=modulated_epilogue_ref,
)
register(
    "modulated_conv2d",
    f"modulated_epilogue_backward(Tensor dy, Tensor y, Tensor? d, Tensor? noise, int noise_batch, {ACTIVATION_SCHEMA})"
    " -> (Tensor, Tensor, Tensor)",
    fake=_fake_epilogue_backward,
    autograd=EpilogueBackward,
    reference=modulated_epilogue_backward_ref,
)
register(
    "modulated_conv2d",
    "modulated_epilogue_double_backward(Tensor gdz, Tensor? gsums, Tensor? gdn, Tensor dy, Tensor y, Tensor? d, Tensor? noise, "
    f"{ACTIVATION_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_double_backward,
    autograd=by_pytorch(modulated_epilogue_double_backward_ref),
    reference=modulated_epilogue_double_backward_ref,
)
register(
    "modulated_conv2d",
    "pointwise(Tensor x, Tensor w) -> Tensor",
    fake=lambda x, w: empty_like_format(x, (x.shape[0], w.shape[1], *x.shape[2:])),
    autograd=Pointwise,
    reference=pointwise_ref,
    optional=True,
)
register(
    "modulated_conv2d",
    "regional_epilogue(Tensor x, Tensor? d, Tensor? masks, Tensor? noise, Tensor? b, Tensor? f, SymInt[4] padding, Tensor? onto, "
    f"Tensor? weight, {ACTIVATION_SCHEMA}) -> Tensor",
    fake=lambda x, d, masks, *rest: _fake_epilogue(x, d, *rest),
    autograd=lambda x, *args: match_layout(regional_epilogue_ref(x, *args[:-1]), x),
    reference=regional_epilogue_ref,
)
register(
    "modulated_conv2d",
    "pointwise_backward(Tensor dy, Tensor x, Tensor w) -> (Tensor, Tensor)",
    fake=lambda dy, x, w: (empty_like_format(x), upcast(x).new_empty(w.shape)),
    autograd=PointwiseBackward,
    reference=pointwise_backward_ref,
    optional=True,
)
register(
    "modulated_conv2d",
    f"modulated_conv2d_fused(Tensor x, Tensor weight, Tensor s, Tensor? d, Tensor? noise, Tensor? b, int padding, bool flip_weight,"
    f" {ACTIVATION_SCHEMA}) -> Tensor",
    fake=lambda x, w, s, d, noise, b, padding, *_: empty_like_format(
        x, (x.shape[0], w.shape[0], *(side + 2 * padding - w.shape[2] + 1 for side in x.shape[2:]))
    ),
    autograd=by_pytorch(modulated_conv2d_fused_ref),
    reference=modulated_conv2d_fused_ref,
    optional=True,
)
register(
    "modulated_conv2d",
    "prepacked_conv2d(Tensor x, Tensor weight, int stride, int padding, bool transposed, bool flip_weight) -> Tensor",
    fake=lambda x, *args: empty_like_format(x, _convolved_shape(x, *args[:-1])),
    autograd=by_pytorch(prepacked_conv2d_ref),
    reference=prepacked_conv2d_ref,
    optional=True,
)
register(
    "modulated_conv2d",
    "prepacked_demodulation(Tensor weight, Tensor styles) -> Tensor",
    fake=lambda weight, styles: upcast(styles).new_empty((styles.shape[0], weight.shape[0])),
    autograd=by_pytorch(demodulation),
    reference=demodulation,
    optional=True,
)
