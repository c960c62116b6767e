"""Which plan runs a synthesis layer: "library" (the library's convolution between two fused passes) or "fused" (one of our own).

The fused plan is Triton's implicit GEMM on a GPU, and Winograd's minimal filtering for inference on a CPU; neither plan is always
the faster. A rule decides, on a CPU by the layer's size, on a GPU also by how much arithmetic it can do for a byte it moves.
Measuring is asked for: FACEGAN_AUTOTUNE=1 measures each shape once, when it is first met, with the layer's own tensors, and
`facegan tune` does so for all shapes of a configuration. The answers are kept in `plans.json` of the cache folder, and from then
on count before the rule. `use_plan` and FACEGAN_PLAN pin a plan.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import facegan
from facegan.errors import FaceganError

PLANS = ("library", "fused")
DEFAULT = "library"
ENVIRONMENT_VARIABLE = "FACEGAN_PLAN"
# The GEMM re-reads its input once per tap from cache; beyond these the library's convolution cannot lose.
MOST_CHANNELS, LEAST_PIXELS = 128, 64 * 64
# Winograd's transforms cost as much as they save below these (benchmarks/test_modulated_conv2d.py, on the CPU).
LEAST_CHANNELS_CPU, LEAST_PIXELS_CPU = 64, 16 * 16
# GPU (compute capability) -> most channels for which the fused plan is taken unmeasured, of half types. It saves two passes over
# input and output, 8 C bytes a pixel, and does the 18 C^2 operations a pixel, we reckon, at a quarter of the tensor cores' peak
# rather than half of it: worth it up to C = 0.22 x peak / bandwidth, rounded to a power of two (Ampere 312 TFLOP/s and 1.9 TB/s;
# GA102 71 and 0.94; Ada 165 and 1.0; Hopper 990 and 3.35). An estimate: `facegan tune` measures.
FUSED_CHANNELS = {(8, 0): 32, (8, 6): 16, (8, 9): 32, (9, 0): 64}
ROUNDS, SECONDS = 20, 0.5  # of measuring a plan, at most

logger = logging.getLogger(__name__)
_pinned: ContextVar[str | None] = ContextVar("facegan_plan", default=None)
_known: dict[tuple[Path, str], dict[str, str]] = {}  # (file, machine) -> key -> plan


def _checked(name: str, origin: str) -> str:
    if name != "auto" and name not in PLANS:
        raise FaceganError(f"{origin} is {name!r}; expected one of auto, {', '.join(PLANS)}.")
    return name


def requested_plan() -> str:
    """What has been asked for: "auto", or the plan that is pinned."""
    return _pinned.get() or _checked(os.environ.get(ENVIRONMENT_VARIABLE) or "auto", ENVIRONMENT_VARIABLE)


@contextmanager
def use_plan(name: str) -> Iterator[None]:
    """`with use_plan("library"):` pins the plan of the synthesis layers run inside the block; "auto" has it chosen."""
    token = _pinned.set(_checked(name, "plan"))
    try:
        yield
    finally:
        _pinned.reset(token)


def rule(x: Tensor, weight: Tensor, padding: int, backend: str, inference: bool) -> str | None:
    """The plan of a layer of stride 1 as far as a pin or the CPU's rule decides; None where `choose` is to be asked.

    Args:
        x, weight: [N, I, H, W], [O, I, K, K].
        inference: no gradient is wanted, and the weight lasts, so that it pays to transform it.

    Raises:
        FaceganError: "fused" is pinned, and `backend` has no such plan.
    """
    requested = requested_plan()
    if requested == "fused" and not (backend == "triton" or (backend == "native" and x.device.type == "cpu")):
        raise FaceganError(
            f"plan 'fused' is asked for, but the {backend} backend serves modulated_conv2d on {x.device.type} and has no such plan;"
            " ask for backend 'triton', or for plan 'auto' to fall back."
        )
    if requested == "library":
        return "library"
    if backend == "native":
        possible = inference and x.dtype == torch.float32 and weight.shape[2] == 3 and padding == 1 and x.device.type == "cpu"
        many = min(weight.shape[:2]) >= LEAST_CHANNELS_CPU and x.shape[2] * x.shape[3] >= LEAST_PIXELS_CPU
        return "fused" if possible and (many or requested == "fused") else "library"
    if backend != "triton" or x.dtype == torch.float64:
        return "library"
    if requested == "fused":
        return "fused"
    few = max(weight.shape[:2]) <= MOST_CHANNELS and x.shape[2] * x.shape[3] >= LEAST_PIXELS
    return None if few else "library"


def measuring() -> bool:
    """Whether FACEGAN_AUTOTUNE=1 asks for it."""
    return os.environ.get("FACEGAN_AUTOTUNE", "0") == "1"


def by_rule(key: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """The plan that is taken unmeasured on a GPU of this compute capability; `key` as for `choose`."""
    (_, inputs, *_), (outputs, *_), dtype, *_ = key
    half = dtype in ("torch.bfloat16", "torch.float16")
    return "fused" if half and max(inputs, outputs) <= FUSED_CHANNELS.get(capability, 0) else DEFAULT


def choose(key: tuple[Any, ...], device: torch.device, candidates: Mapping[str, Callable[[], Tensor]]) -> str:
    """The pinned plan, else the one known to be the faster for `key`, else that of the rule, or measured now where that is asked for.

    Args:
        key: all that the time depends on: x's shape, the weight's, the dtype's name, then memory format and what the epilogue does.
        device: of the tensors.
        candidates: plan -> the layer run by it; called only to be measured.
    """
    requested = requested_plan()
    if requested != "auto":
        return requested
    if device.type != "cuda" or torch.compiler.is_compiling():
        return DEFAULT
    place, machine, name = file(), _machine(device), json.dumps(key)
    if (place, machine) not in _known:
        _known[place, machine] = _read(place).get(machine, {})
    known = _known[place, machine]
    if name not in known:
        if not measuring() or torch.cuda.is_current_stream_capturing():
            return by_rule(key, torch.cuda.get_device_capability(device))
        known[name] = _faster(key, device, candidates)
        _write(place, machine, known)
    return known[name]


def _faster(key: tuple[Any, ...], device: torch.device, candidates: Mapping[str, Callable[[], Tensor]]) -> str:
    times: dict[str, float] = {}
    with torch.no_grad(), torch.cuda.device(device):
        for plan, run in candidates.items():
            try:
                times[plan] = _milliseconds(run)
            except RuntimeError as error:  # out of memory or of shared memory: not a plan for this GPU
                logger.info("plan %s cannot run %s: %s", plan, key, error)
    logger.debug("plans of %s: %s ms", key, times)
    return min(times, key=times.__getitem__, default=DEFAULT)


def _milliseconds(run: Callable[[], Tensor]) -> float:
    """The median time on the GPU; a first run compiles and warms up."""
    run()
    torch.cuda.synchronize()
    times: list[float] = []
    end = time.monotonic() + SECONDS
    while len(times) < ROUNDS and (not times or time.monotonic() < end):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


@cache
def _machine(device: torch.device) -> str:
    """What an answer holds for."""
    try:
        triton = metadata.version("triton")
    except metadata.PackageNotFoundError:
        triton = "none"
    gpu = torch.cuda.get_device_name(device)
    return f"{gpu}, torch {torch.__version__}, triton {triton}, facegan {facegan.__version__}"


def file() -> Path:
    """Where measured answers are kept."""
    return Path(os.environ.get("FACEGAN_CACHE") or "~/.cache/facegan").expanduser() / "plans.json"


def _read(place: Path) -> dict[str, dict[str, str]]:
    """Machine -> key -> plan; what is not of this form counts as unknown."""
    try:
        content = json.loads(place.read_text())
        return {
            machine: {key: plan for key, plan in plans.items() if plan in PLANS}
            for machine, plans in content.items()
        }  # fmt: skip
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(place: Path, machine: str, known: Mapping[str, str]) -> None:
    """Adds to the file, whole or not at all: another process may be reading it, or writing answers of its own."""
    content = _read(place)
    content[machine] = {**content.get(machine, {}), **known}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=place.name, suffix=".part", delete=False) as partial:
            json.dump(content, partial, indent=1)
        os.replace(partial.name, place)
    except OSError as error:
        logger.warning("cannot keep the measured plans in %s (%s): they are measured anew in every run", place, error)
