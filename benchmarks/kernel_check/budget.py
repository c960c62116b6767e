"""What each operator may move, as a multiple of the bytes it has to move, and the shapes at which that is looked at.

The limits are those of tensors too large for a cache; two are wider where a program has to be small to fill a GPU: AdaIN takes
two passes over channels_last planes above 512 px, and the epilogue's gradient has more partial sums below 8 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from benchmarks.cases import LAYERS, STREAMING, Case, block
from benchmarks.kernel_check import traffic  # first: it turns the interpreter on
from benchmarks.kernel_check.launches import Launch, launcher, launches
from benchmarks.kernel_check.report import Part

ELEMENTWISE = 1.05
FIR = 1.3
# A plane too large for the chip is read twice: 3 to 4 passes for 2 to 3 forward, 5 to 8 for 3 to 5 backward.
TWO_PASSES = {"adain": 1.55, "adain_affine": 1.55, "adain_backward": 1.7, "adain_affine_backward": 1.75}
ONE_PASS_PIXELS = {"adain": 1024, "adain_affine": 1024, "adain_backward": 256, "adain_affine_backward": 256}
# In channels_last a program holds whole planes of 32 bytes of channels, 16 of bf16, as memory moves no less: half as many pixels.
ONE_PASS_PIXELS_NHWC = {"adain": 512, "adain_affine": 512}
# Four partial sums weigh in beside tensors below 8 MiB: fewer would leave multiprocessors idle, and all of it fits the L2 cache.
SMALL = 8 << 20  # bytes of the largest tensor
LIMITS_OF_SMALL = {"modulated_epilogue_backward": 1.15}
LIMITS = {"upfirdn2d": FIR, "pointwise": 1.1, "pointwise_backward": 1.1}
_FILTERS = {"modulated_epilogue": 4, "regional_epilogue": 5}  # place of the filter among the arguments
PRINTED_ONLY = {"modulated_conv2d_fused"}  # bound by arithmetic; its taps are served from cache


def limit(launch: Launch) -> float | None:
    """The largest allowed ratio; None for operators that memory does not bound."""
    if launch.operator in PRINTED_ONLY:
        return None
    pixels = max(x.shape[2] * x.shape[3] for x in launch.tensors if x.ndim == 4)
    one_pass = ONE_PASS_PIXELS.get(launch.operator, pixels)
    if not launch.tensors[0].is_contiguous():
        one_pass = ONE_PASS_PIXELS_NHWC.get(launch.operator, one_pass)
    if pixels > one_pass:
        return TWO_PASSES[launch.operator]
    if launch.operator in _FILTERS and len(launch.tensors) > 1 and _filter(launch) is not None:
        return FIR
    if launch.operator in LIMITS_OF_SMALL and max(map(traffic.size, launch.tensors)) < SMALL:
        return LIMITS_OF_SMALL[launch.operator]
    return LIMITS.get(launch.operator, ELEMENTWISE)


def _filter(launch: Launch) -> torch.Tensor | None:
    found: torch.Tensor | None = launch.arguments[_FILTERS[launch.operator]]
    return found


def cases() -> Iterable[Case]:
    """Planes too large for the chip, N = 16, and small ones that fit on it forward (32 px) or also backward (16 px)."""
    network, both = "stylegan2-256", ("nhwc", "nchw")
    yield from block(network, (*STREAMING, *LAYERS), ("fwd+bwd",), (256,))
    yield from block(network, ("bias_act", "upsample2d", "modulated_conv2d", "to_rgb"), ("fwd+bwd",), (256,), layouts=("nchw",))
    yield from block(network, ("bias_act", "adain", "adain_affine", "modulated_conv2d"), ("fwd+bwd",), (32, 16), layouts=both)
    yield from block(network, ("bias_act", "modulated_conv2d"), ("double",), (256,), layouts=both)
    yield from block(network, ("regional_conv2d", "regional_conv2d_up"), ("fwd",), (256,), layouts=both)


def check(given: Iterable[Case]) -> Part:
    part = Part("Bytes moved by Triton kernels", ("operator", "moved/ideal", "limit", "MiB read + written", "case"))
    seen: set[object] = set()
    for launch in launches(given):
        function = launcher(launch.operator)
        if function is None or launch.outline in seen:
            continue
        seen.add(launch.outline)
        try:
            measured, allowed = traffic.measure(function, launch.arguments), limit(launch)
        except Exception as error:
            part.fail(f"{launch.operator} ({launch.case})", [f"the launcher raises {error!r}"])
            continue
        part.row(launch.operator, f"{measured.ratio:.3f}", allowed, measured.by_kernel, launch.case)
        if allowed is not None and measured.ratio > allowed:
            reason = f"moves {measured.ratio:.3f} times the ideal, {allowed} is allowed ({measured.by_kernel} MiB)"
            part.fail(f"{launch.operator} ({launch.case})", [reason])
    return part
