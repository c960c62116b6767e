"""That kernels of float64 compute in float64 alone, read from what Triton makes of their source.

A Python float that reaches a compiled kernel is float32 unless its parameter is annotated, and up to Triton 3.7 so is a literal in
`tl.where`, `tl.maximum` or a comparison. The interpreter computes both in float64, so that no test on a CPU can tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernel_check.report import Part
from facegan.ops import adain, adain_affine, bias_act, modulated_conv2d, setup_filter, upfirdn2d
from facegan.warmup.kernels import Specialisation, specialisations
from facegan.warmup.launches import recorded

ARCH = 90
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SHORT = 12  # significant bits of a constant that nobody has to look at: 0.5, 3 or 1024 are what they are in float32 too

_CONSTANT = re.compile(r"arith\.constant (?:dense<)?([-+.\w]+?)>? : (?:tensor<[\dx]*)?(f32|f64)>?")
_NARROWED = re.compile(r"arith\.truncf .* to (?:tensor<[\dx]*)?(f32|f16|bf16)>?")
_WIDENED = re.compile(r"arith\.extf .*(f32)>? to ")
_ARITHMETIC = r"(?:arith\.(?:add|sub|mul|div|neg|maximum|minimum|maxnum|minnum|cmp)f|math\.\w+|tt\.dot)"
_NARROW_ARITHMETIC = re.compile(_ARITHMETIC + r" .*: (?:tensor<[\dx]*)?f32")
_ARGUMENT = re.compile(r"%\w+: f32\b")


def failures(ttir: str, signature: dict[str, str]) -> list[str]:
    """What of a kernel whose tensors are float64 goes through float32."""
    found = []
    for line in ttir.split("\n"):
        text = line.strip()
        if match := _CONSTANT.search(text):
            value, kind = _number(match.group(1)), match.group(2)
            if _bits(value) > SHORT and (kind == "f32" or _bits(value) <= 24):
                found.append(f"the constant {value!r} is that of float32")
        if text.startswith("tt.func public") and _ARGUMENT.search(text):
            found.append("a scalar argument is float32")
        if _NARROWED.search(text) or _NARROW_ARITHMETIC.search(text):
            found.append(f"computes in less than float64: {text.split(' loc(')[0]}")
        if _WIDENED.search(text) and "*fp32" not in signature.values():
            found.append(f"widens float32 where no tensor is: {text.split(' loc(')[0]}")
    return sorted(set(found))


def _number(text: str) -> float:
    if text.startswith("0x"):  # as MLIR writes what no decimal number is: an infinity, or NaN
        return float("nan")
    return float(text) if text not in ("true", "false") else 0.0


def _bits(value: float) -> int:
    """Significant bits that a number takes; none of 0, infinity or NaN."""
    if value != value or value in (0.0, float("inf"), float("-inf")):
        return 0
    numerator = abs(value.as_integer_ratio()[0])
    return (numerator // (numerator & -numerator)).bit_length()


ODD: dict[str, Any] = dict(gain=0.7, clamp=0.3)  # numbers that float32 cannot hold


def steps() -> Iterator[tuple[str, Callable[[], object]]]:
    """Every public op in float64, forward, backward and, where there are kernels for it, through a gradient penalty."""
    for act, layout, shape in product(("linear", "relu", "lrelu", "tanh", "sigmoid"), LAYOUTS, ((2, 32, 8, 8), (2, 3, 8, 8))):
        activated = partial(bias_act, act=act, alpha=0.1, **ODD)
        yield f"bias_act {act}", partial(_twice, activated, _drawn(*shape, layout=layout), _drawn(shape[1]))
    f = setup_filter(device="meta")
    for layout, size in product(LAYOUTS, (8, 128)):  # planes that fit on the chip, and larger ones
        x, s, b = _drawn(2, 32, size, size, layout=layout), _drawn(2, 32), _drawn(32)
        for up in (1, 2):
            noise = _drawn(2, 1, up * size, up * size)
            yield f"modulated_conv2d up={up}", partial(_twice, _layer(up), x, _drawn(32, 32, 3, 3), s, noise, b)
            masks = _drawn(2, 2, up * size, up * size).detach()
            yield f"regional up={up}", partial(_without, _layer(up, masks), x, _drawn(32, 32, 3, 3), _drawn(2, 3, 32), noise, b)
            blended = _layer(up, masks, blend=True)
            yield f"blended up={up}", partial(_without, blended, x, _drawn(32, 32, 3, 3), _drawn(2, 3, 32), noise, b)
        yield "to_rgb", partial(_twice, partial(modulated_conv2d, demodulate=False), x, _drawn(3, 32, 1, 1), s)
        yield "upfirdn2d", partial(_twice, partial(upfirdn2d, f=f, up=2, gain=0.7, padding=1), x)
        for mask in (None, _drawn(2, 1, size, size).detach()):
            yield "adain", partial(_once, partial(adain, alpha=0.7, mask=mask), x, x)
        yield "adain_affine", partial(_once, adain_affine, x, s, s)


def _layer(up: int, masks: Tensor | None = None, blend: bool = False) -> Callable[..., Tensor]:
    def layer(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor, bias: Tensor) -> Tensor:
        rest: dict[str, Any] = dict(noise=noise, bias=bias, act="lrelu", masks=masks, blend=blend)
        return modulated_conv2d(x, weight, styles, padding=1, up=up, **rest, **ODD)

    return layer


def _drawn(*shape: int, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    x = torch.empty(shape, dtype=torch.float64, device="meta")
    return (x.contiguous(memory_format=layout) if x.ndim == 4 else x).requires_grad_()


@torch.no_grad()
def _without(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """A gradient: kernels that inference alone takes."""
    function(*inputs)


def _once(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    torch.autograd.grad(function(*inputs).sum(), inputs)


def _twice(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    y = function(*inputs)
    gradients = torch.autograd.grad(y, inputs, torch.empty_like(y).requires_grad_(), create_graph=True)
    torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs, allow_unused=True)


def kernels() -> list[Specialisation]:
    launches = [launch for name, step in steps() for launch in recorded(step, name)]
    return [one for one in specialisations(launches, ARCH) if "*fp64" in json.loads(one.data)["signature"].values()]


def check() -> Part:
    part = Part("Kernels of float64", ("kernel", "configuration", "float32 in it"))
    found = kernels()
    for one in found:
        reasons = failures(one.compiled().asm["ttir"], json.loads(one.data)["signature"])
        part.row(one.full_name, one.label(), "; ".join(reasons) or "none")
        part.fail(f"{one.full_name} ({one.label()}; {one.case})", reasons)
    part.note = f"{len(found)} distinct kernels."
    return part
