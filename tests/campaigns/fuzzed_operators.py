"""What `operators.py` calls: for each operator how its arguments are drawn, what it is in float64, and how a call may be wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import stylegan_formulas as formulas
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan import ops

# of the largest number of a result, which sums of half types are rounded several times on the way to
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-4, torch.float16: 4e-2, torch.bfloat16: 2.5e-1}
ACTS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
KINKED = ("relu", "lrelu", "elu", "selu")  # elu's second derivative has a step
Arguments = dict[str, Any]


class Skipped(Exception):
    """A derivative that the dtype cannot hold."""


@dataclass
class Call:
    """Tensors in `arguments` are float64; `leaves` may be differentiated, `constants` keep their dtype and place."""

    arguments: Arguments
    run: Callable[[Arguments], Tensor]
    restated: Callable[[Arguments], tuple[Tensor, float]]  # and how near an element is to a step of a derivative
    leaves: tuple[str, ...]
    spoil: Callable[[random.Random, Arguments], str] | None = None
    constants: tuple[str, ...] = ()
    first: str = "x"


def side(dice: random.Random, most: int = 7) -> int:
    """Mostly small and odd, sometimes one pixel, now and then nothing."""
    return dice.choice([0, 1, 1]) if dice.random() < 0.12 else dice.randint(1, most)


def laid(x: Tensor, dice: random.Random) -> Tensor:
    """The same values in another place: a format, an order of dimensions, every other element of something larger, an odd offset."""
    kind = dice.choice(["rows", "rows", "channels_last", "permuted", "sliced", "offset"])
    if kind == "channels_last" and x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if kind == "permuted" and x.ndim > 1:
        order = dice.sample(range(x.ndim), x.ndim)
        return x.permute(order).contiguous().permute([order.index(i) for i in range(x.ndim)])
    if kind == "sliced" and x.ndim:
        larger = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), math.nan)
        larger[..., 1::2] = x
        return larger[..., 1::2]
    if kind == "offset":
        larger = x.new_full((x.numel() + 3,), math.nan)
        larger[3:] = x.flatten()
        return larger[3:].view(x.shape)
    return x.contiguous()


def spread(*shape: int) -> Tensor:
    """Numbers of either sign, none of them small: no norm of theirs is next to zero."""
    return (torch.rand(shape, dtype=torch.float64) + 0.5) * torch.randn(shape).sign()


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def some_padding(dice: random.Random, low: int, high: int) -> Any:
    count = dice.choice([1, 2, 4])
    sides = [dice.randint(low, high) for _ in range(count)]
    return sides[0] if count == 1 else tuple(sides)


def four(padding: Any) -> tuple[int, int, int, int]:
    """As the formulas have it: left, right, top, bottom."""
    if isinstance(padding, int):
        return (padding,) * 4
    top, bottom, left, right = (padding[0], padding[0], padding[1], padding[1]) if len(padding) == 2 else padding
    return left, right, top, bottom


def both(factor: Any) -> tuple[int, int]:
    """(vertical, horizontal) or one number as (x, y)."""
    return (factor, factor) if isinstance(factor, int) else (factor[1], factor[0])


def some_filter(dice: random.Random, most: int = 5) -> Tensor | None:
    kind = dice.choice(["none", "row", "row", "plane"])
    if kind == "none":
        return None
    shape = (dice.randint(1, most),) if kind == "row" else (dice.randint(1, most), dice.randint(1, most))
    return torch.rand(shape) / 2 + 0.1


def some_activation(dice: random.Random) -> Arguments:
    act = dice.choice(ACTS)
    return dict(
        act=act, gain=dice.choice([None, None, 1.0, 1.7, -0.6, 0.0]), clamp=dice.choice([None, None, 0.4, 1.0, 256.0, 0.0, math.inf])
    )


def activated(
    v: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float | None, clamp: float | None
) -> tuple[Tensor, float]:
    """The formula, and how near an element is to a step of a derivative."""
    v = v if b is None else v + b.reshape([-1 if i == dim else 1 for i in range(v.ndim)])
    if gain == 0 or clamp == 0:
        return v * 0, math.inf
    y = formulas.bias_act(v, None, 1, act, alpha, gain, None)
    distance = math.inf
    if v.numel():
        bare = y.detach().abs()
        inner = v.detach().abs()
        inner = inner[inner > 0]  # zeros are zeros on every backend
        distance = float(inner.min()) if act in KINKED and inner.numel() else math.inf
        distance = distance if clamp is None else min(distance, float((bare - clamp).abs().min()))
    return (y if clamp is None else formulas.bias_act(y, None, 1, "linear", 0.2, 1.0, clamp)), distance


def spoil_activation(dice: random.Random, arguments: Arguments) -> str:
    name, value = dice.choice(
        [("act", "gelu"), ("act", ""), ("clamp", -1.0), ("clamp", math.nan), ("gain", math.inf), ("gain", math.nan), ("gain", -math.inf)]
    )
    arguments[name] = value
    return f"{name} is {value!r}"


def spoil_map(dice: random.Random, arguments: Arguments, name: str = "x") -> str:
    """Another rank, or integers."""
    x = arguments[name]
    arguments[name] = dice.choice([x.long(), x[None], x.flatten(), x.bool()])
    return f"{name} is {arguments[name].dtype} {list(arguments[name].shape)}"


def bias_act(dice: random.Random) -> Call:
    shape = [side(dice) for _ in range(dice.randint(1, 5))]
    dim = dice.randrange(-len(shape), len(shape))
    arguments = dict(
        x=normal(*shape), b=normal(shape[dim]) if dice.random() < 0.7 else None, dim=dim, alpha=dice.choice([0.2, 0.0, -0.3, 1.5])
    )
    arguments |= some_activation(dice)

    def spoil(dice: random.Random, a: Arguments) -> str:
        kind = dice.randrange(4)
        if kind == 0:
            return spoil_activation(dice, a)
        if kind == 1:
            a["b"] = dice.choice([normal(shape[dim] + 1), normal(shape[dim], 1)])
        elif kind == 2:
            a["dim"], a["b"] = dice.choice([len(shape), -len(shape) - 1]), normal(3)
        else:
            a["alpha"] = dice.choice([math.nan, math.inf])
        return f"b {None if a['b'] is None else list(a['b'].shape)}, dim {a['dim']}, alpha {a['alpha']} for x {shape}"

    def restated(a: Arguments) -> tuple[Tensor, float]:
        return activated(a["x"], a["b"], dim % len(shape), a["act"], a["alpha"], a["gain"], a["clamp"])

    return Call(arguments, lambda a: ops.bias_act(**a), restated, ("x", "b"), spoil)


def upfirdn2d(dice: random.Random) -> Call:
    f, shape = some_filter(dice), (side(dice, 3), side(dice, 5), side(dice), side(dice))
    factors = [dice.choice([1, 1, 2, 3, (1, 2), (3, 1)]) for _ in range(2)]
    arguments = dict(x=normal(*shape), f=f, up=factors[0], down=factors[1], padding=some_padding(dice, -1, 4))
    arguments |= dict(flip_filter=dice.random() < 0.5, gain=dice.choice([1.0, 4.0, -0.5]))

    def spoil(dice: random.Random, a: Arguments) -> str:
        kind = dice.randrange(5)
        if kind == 0:
            return spoil_map(dice, a)
        if kind == 1:
            a["f"] = dice.choice([torch.ones(0), torch.ones(2, 2, 2), torch.ones(()), torch.ones(3, requires_grad=True)])
        elif kind == 2:
            a[dice.choice(["up", "down"])] = dice.choice([0, -1, 1.5, (1, 2, 3), (0, 1), ()])
        elif kind == 3:
            a["padding"] = dice.choice([(1, 2, 3), (), -50, (1.5, 2)])
        else:
            a["f"] = torch.ones(60)
        return ", ".join(f"{name} {value.shape if isinstance(value, Tensor) else value}" for name, value in a.items())

    def restated(a: Arguments) -> tuple[Tensor, float]:
        up, down = both(a["up"]), both(a["down"])
        return formulas.upfirdn2d(a["x"], a["f"], up, down, four(a["padding"]), a["flip_filter"], a["gain"]), math.inf

    room = roomy(shape, f, factors[0], four(arguments["padding"]))
    return Call(arguments, lambda a: ops.upfirdn2d(**a), restated, ("x",), spoil, ("f",)) if room else upfirdn2d(dice)


def roomy(shape: Any, f: Any, up: Any, pads: Any) -> bool:
    if min(pads) < 0 and 0 in shape:
        return False  # F.pad crops before it pads
    kw, kh = (1, 1) if f is None else (f.shape[-1], f.shape[0])
    ux, uy = both(up)
    return shape[3] * ux + pads[0] + pads[1] >= kw and shape[2] * uy + pads[2] + pads[3] >= kh


def filtered_lrelu(dice: random.Random) -> Call:
    fu, fd, shape = some_filter(dice, 4), some_filter(dice, 4), (side(dice, 2), side(dice, 3), side(dice), side(dice))
    up, down = dice.choice([1, 2, 2, 3]), dice.choice([1, 2, 2])
    arguments = dict(x=normal(*shape), fu=fu, fd=fd, b=normal(shape[1]) if dice.random() < 0.7 else None, up=up, down=down)
    arguments |= dict(padding=some_padding(dice, 0, 4), gain=dice.choice([2**0.5, 1.0, -0.7]), slope=dice.choice([0.2, 0.0, 1.0]))
    arguments |= dict(clamp=dice.choice([None, 0.7, 256.0]), flip_filter=dice.random() < 0.5)

    def restated(a: Arguments) -> tuple[Tensor, float]:
        v = a["x"] if a["b"] is None else a["x"] + a["b"][:, None, None]
        v = formulas.upfirdn2d(v, a["fu"], (up, up), padding=four(a["padding"]), flip_filter=a["flip_filter"], gain=up * up)
        y, distance = activated(v, None, 1, "lrelu", a["slope"], a["gain"], a["clamp"])
        return formulas.upfirdn2d(y, a["fd"], down=(down, down), flip_filter=a["flip_filter"]), distance

    def spoil(dice: random.Random, a: Arguments) -> str:
        wrong = [
            ("clamp", -1.0),
            ("gain", math.nan),
            ("slope", math.inf),
            ("up", 0),
            ("down", 1.5),
            ("padding", (1, 2, 3)),
            ("b", normal(9)),
        ]
        name, value = dice.choice([*wrong, ("fu", torch.ones(0)), ("fd", torch.ones(70)), ("x", normal(3, 3))])
        a[name] = value
        return f"{name} is {value}"

    pads = four(arguments["padding"])
    inner = (*shape[:2], shape[2] * up + pads[2] + pads[3] + 1, shape[3] * up + pads[0] + pads[1] + 1)
    taps = [(1, 1) if f is None else (f.shape[0], f.shape[-1]) for f in (fu, fd)]
    fits = roomy(shape, fu, up, pads) and all(inner[2 + i] - taps[0][i] >= taps[1][i] for i in range(2))
    return Call(arguments, lambda a: ops.filtered_lrelu(**a), restated, ("x", "b"), spoil, ("fu", "fd")) if fits else filtered_lrelu(dice)


def moments(x: Tensor, m: Tensor | None) -> tuple[Tensor, Tensor]:
    w = torch.ones_like(x) if m is None else m.expand_as(x)
    total = w.sum((2, 3), keepdim=True)
    mean = (w * x).sum((2, 3), keepdim=True) / total
    return mean, (w * (x - mean).square()).sum((2, 3), keepdim=True) / total


def adain(dice: random.Random) -> Call:
    shape = (side(dice, 3), side(dice, 5), side(dice), side(dice))
    masked = dice.random() < 0.4
    other = shape if masked or 0 in shape else (*shape[:2], dice.randint(1, 5), dice.randint(1, 5))
    arguments = dict(content=normal(*shape), style=normal(*other), alpha=dice.choice([1.0, 0.5, 0.0]), eps=dice.choice([1e-1, 1.0]))
    arguments["mask"] = torch.rand(shape[0], 1, *shape[2:]) + 0.1 if masked else None

    def restated(a: Arguments) -> tuple[Tensor, float]:
        c, s, m = a["content"], a["style"], a["mask"]
        if not c.numel():
            return c * 1, math.inf
        (mean_c, var_c), (mean_s, var_s) = moments(c, m), moments(s, m)
        t = (c - mean_c) / (var_c + a["eps"]).sqrt() * (var_s + a["eps"]).sqrt() + mean_s
        return c + a["alpha"] * (1 if m is None else m) * (t - c), math.inf

    def spoil(dice: random.Random, a: Arguments) -> str:
        kind = dice.randrange(4)
        if kind == 0:
            return spoil_map(dice, a, "content")
        if kind == 1:
            a["style"] = normal(shape[0], shape[1] + 1, *shape[2:])
        elif kind == 2:
            a["mask"] = torch.ones(shape[0] + 1, 1, *shape[2:])
        else:
            a["style"] = a["style"].half()
        return f"style {list(a['style'].shape)}, mask {None if a['mask'] is None else list(a['mask'].shape)} for {list(shape)}"

    return Call(arguments, lambda a: ops.adain(**a), restated, ("content", "style"), spoil, ("mask",), "content")


def adain_affine(dice: random.Random) -> Call:
    shape = (side(dice, 3), side(dice, 5), side(dice), side(dice))
    arguments = dict(x=normal(*shape), scale=normal(*shape[:2]), shift=normal(*shape[:2]), eps=dice.choice([1e-1, 1.0]))

    def restated(a: Arguments) -> tuple[Tensor, float]:
        x, scale, shift = a["x"], a["scale"][:, :, None, None], a["shift"][:, :, None, None]
        if not x.numel():
            return x * 1 + 0 * (scale + shift), math.inf
        mean, variance = moments(x, None)
        return scale * (x - mean) / (variance + a["eps"]).sqrt() + shift, math.inf

    def spoil(dice: random.Random, a: Arguments) -> str:
        if dice.random() < 0.5:
            return spoil_map(dice, a)
        a["scale"] = normal(shape[0] + 1, shape[1])
        return f"scale {list(a['scale'].shape)} for {list(shape)}"

    return Call(arguments, lambda a: ops.adain_affine(**a), restated, ("x", "scale", "shift"), spoil)


def modulated_conv2d(dice: random.Random) -> Call:
    k = dice.choice([1, 1, 3, 3, 2])
    up, down = dice.choice([(1, 1), (1, 1), (2, 1), (1, 2)])
    n, i, o, h, w, padding = side(dice, 3), dice.randint(1, 4), dice.randint(1, 5), side(dice), side(dice), dice.randint(0, 3)
    sides = [(size * up + 2 * padding - k + 1) // down for size in (h, w)]
    if min(sides) < 1:
        return modulated_conv2d(dice)
    empty = 0 in (n, h, w)
    demodulate = dice.random() < 0.7 and i * k > 1  # of one weight it leaves the sign, whose derivative is a difference of rounded numbers
    styles = torch.zeros(n, i, dtype=torch.float64) if empty and dice.random() < 0.5 else spread(n, i)
    f = some_filter(dice, 4) if max(up, down) > 1 else None
    noise = dice.choice([None, (), (1, 1), (n, 1)])
    arguments = dict(x=normal(n, i, h, w), weight=spread(o, i, k, k), styles=styles, demodulate=demodulate, up=up, down=down)
    arguments |= dict(padding=padding, resample_filter=f, flip_weight=dice.random() < 0.5, bias=normal(o) if dice.random() < 0.5 else None)
    arguments |= dict(noise=None if noise is None else normal(*noise, *sides), **some_activation(dice))

    def restated(a: Arguments) -> tuple[Tensor, float]:
        f = a["resample_filter"]
        f = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8 if f is None else f
        y = formulas.modulated_conv2d(a["x"], a["weight"], a["styles"], a["noise"], up, down, padding, f, a["demodulate"], a["flip_weight"])
        return activated(y, a["bias"], 1, a["act"], 0.2, a["gain"], a["clamp"])

    def spoil(dice: random.Random, a: Arguments) -> str:
        kind = dice.randrange(6)
        if kind == 0:
            return spoil_map(dice, a)
        if kind == 1:
            return spoil_activation(dice, a)
        if kind == 2:
            a["styles"] = normal(n, i + 1)
        elif kind == 3:
            a["weight"] = dice.choice([normal(o, i + 1, k, k), normal(o, i, k, k + 1), normal(o, i, k)])
        elif kind == 4:
            a["noise"] = dice.choice([normal(sides[0] + 1, sides[1]), normal(n + 2, 1, *sides), normal(3)])
        else:
            a["up"], a["down"] = dice.choice([(2, 2), (0, 1), (1, 0), (-1, 1)])
            a["noise"] = None
        return ", ".join(f"{name} {list(value.shape) if isinstance(value, Tensor) else value}" for name, value in a.items())

    leaves = ("x", "weight", "styles", "noise", "bias")
    return Call(arguments, lambda a: ops.modulated_conv2d(**a), restated, leaves, spoil, ("resample_filter",))


def conv2d(dice: random.Random) -> Call:
    groups, transposed, stride, padding = dice.choice([1, 1, 2]), dice.random() < 0.3, dice.randint(1, 3), dice.randint(0, 2)
    i, o, kh, kw = groups * dice.randint(1, 3), groups * dice.randint(1, 3), dice.randint(1, 3), dice.randint(1, 3)
    n, h, w = side(dice, 3), dice.randint(1, 7), dice.randint(1, 7)
    sizes = [(s - 1) * stride - 2 * padding + k if transposed else (s + 2 * padding - k) // stride + 1 for s, k in ((h, kh), (w, kw))]
    if min(sizes) < 1:
        return conv2d(dice)
    weight = normal(i, o // groups, kh, kw) if transposed else normal(o, i // groups, kh, kw)
    arguments = dict(x=normal(n, i, h, w), weight=weight, bias=normal(o) if dice.random() < 0.5 else None)
    arguments |= dict(stride=stride, padding=padding, groups=groups, transposed=transposed)

    def restated(a: Arguments) -> tuple[Tensor, float]:
        """A transposed one inserts zeros and convolves with the flipped weight, whose channels change places within a group."""
        x, weight, pads = a["x"], a["weight"], (padding,) * 4
        step = (stride, stride)
        if transposed:
            x = formulas.upfirdn2d(x, None, step)[:, :, : (h - 1) * stride + 1, : (w - 1) * stride + 1]
            weight = weight.view(groups, i // groups, o // groups, kh, kw).transpose(1, 2).reshape(o, i // groups, kh, kw).flip(2, 3)
            pads, step = (kw - 1 - padding, kw - 1 - padding, kh - 1 - padding, kh - 1 - padding), (1, 1)
        y = formulas.correlate(F.pad(x, pads), weight, groups)[:, :, :: step[1], :: step[0]]
        return (y if a["bias"] is None else y + a["bias"][:, None, None]), math.inf

    def spoil(dice: random.Random, a: Arguments) -> str:
        kind = dice.randrange(2)
        if kind == 0:
            a["x"] = dice.choice([normal(n, i + 1, h, w), normal(i, h, w)])
        else:
            a["weight"] = normal(o, i)
        return f"x {list(a['x'].shape)}, weight {list(a['weight'].shape)}, groups {groups}, transposed {transposed}"

    return Call(arguments, lambda a: ops.conv2d(**a), restated, ("x", "weight", "bias"), spoil)


def conv2d_layer(dice: random.Random) -> Call:
    up, down = dice.choice([(1, 1), (1, 1), (2, 1), (1, 2)])
    k, n, i, o, h, w, padding = (
        dice.choice([1, 3, 2]),
        side(dice, 3),
        *(dice.randint(1, 4) for _ in range(2)),
        side(dice),
        side(dice),
        dice.randint(0, 2),
    )
    if min((size * up + 2 * padding - k + 1) // down for size in (h, w)) < 1:
        return conv2d_layer(dice)
    f = torch.rand(dice.randint(1, 5)) / 2 + 0.1
    arguments = dict(x=normal(n, i, h, w), weight=normal(o, i, k, k), bias=normal(o) if dice.random() < 0.5 else None, f=f)
    arguments |= dict(up=up, down=down, padding=padding, **some_activation(dice))

    def restated(a: Arguments) -> tuple[Tensor, float]:
        y = formulas.conv2d_resample(a["x"], a["weight"], a["f"], up, down, [padding] * 4, 1, True, False)
        return activated(y, a["bias"], 1, a["act"], 0.2, a["gain"], a["clamp"])

    def spoil(dice: random.Random, a: Arguments) -> str:
        kind = dice.randrange(3)
        if kind == 0:
            return spoil_activation(dice, a)
        if kind == 1:
            a["bias"] = normal(o + 1)
        else:
            a["x"] = normal(n, i + 1, h, w)
        return f"x {list(a['x'].shape)}, weight {list(a['weight'].shape)}, bias of {o + 1}"

    return Call(arguments, lambda a: ops.conv2d_layer(**a), restated, ("x", "weight", "bias"), spoil, ("f",))


def linear(dice: random.Random) -> Call:
    rows, i, o = [side(dice) for _ in range(dice.randint(1, 2))], dice.randint(1, 9), dice.randint(1, 9)
    arguments = dict(x=normal(*rows, i), weight=normal(o, i), bias=normal(o) if dice.random() < 0.5 else None)

    def restated(a: Arguments) -> tuple[Tensor, float]:
        y = (a["x"][..., None, :] * a["weight"]).sum(-1)
        return (y if a["bias"] is None else y + a["bias"]), math.inf

    return Call(arguments, lambda a: ops.linear(**a), restated, ("x", "weight", "bias"))


OPERATORS: dict[str, Callable[[random.Random], Call]] = {
    function.__name__: function
    for function in (bias_act, upfirdn2d, filtered_lrelu, adain, adain_affine, modulated_conv2d, conv2d, conv2d_layer, linear)
}
