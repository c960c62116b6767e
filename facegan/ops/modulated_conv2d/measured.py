"""Which of two algorithms is the faster for a layer: by rule, or measured and remembered.

Measuring is asked for: FACEGAN_AUTOTUNE=1 measures each shape once, when it is first met, with the layer's own tensors, and
`facegan tune` does so for all shapes of a configuration. The answers are kept in `algorithms.json` of the cache folder, and from then
on count before the rule.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import facegan
from facegan.files import write_whole

CHOICES = ("library", "fused")  # values of `Algorithm`
DEFAULT = "library"
# GPU (compute capability) -> most channels for which the fused algorithm is taken unmeasured, of half types. It saves two passes over
# input and output, 8 C bytes a pixel, and does the 18 C^2 operations a pixel, we reckon, at a quarter of the tensor cores' peak
# rather than half of it: worth it up to C = 0.22 x peak / bandwidth, rounded to a power of two (Ampere 312 TFLOP/s and 1.9 TB/s;
# GA102 71 and 0.94; Ada 165 and 1.0; Hopper 990 and 3.35). An estimate: `facegan tune` measures.
FUSED_CHANNELS = {(8, 0): 32, (8, 6): 16, (8, 9): 32, (9, 0): 64}
ROUNDS, SECONDS = 20, 0.5  # of measuring an algorithm, at most

logger = logging.getLogger(__name__)
_known: dict[tuple[Path, str], dict[str, str]] = {}  # (file, machine) -> key -> algorithm


def measuring() -> bool:
    """Whether FACEGAN_AUTOTUNE=1 asks for measurements."""
    return os.environ.get("FACEGAN_AUTOTUNE", "0") == "1"


def by_rule(key: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """Return the algorithm that is taken unmeasured on a GPU of this compute capability; `key` as for `choose`."""
    (_, inputs, *_), (outputs, *_), dtype, *_ = key
    half = dtype in ("torch.bfloat16", "torch.float16")
    return "fused" if half and max(inputs, outputs) <= FUSED_CHANNELS.get(capability, 0) else DEFAULT


def choose(key: tuple[Any, ...], device: torch.device, candidates: Mapping[str, Callable[[], Tensor]]) -> str:
    """Return the algorithm known to be the faster for `key`, else that of the rule, or measured now where that is asked for.

    Args:
        key: all that the time depends on: x's shape, the weight's, the dtype's name, then memory format and what the epilogue does.
        device: of the tensors.
        candidates: algorithm -> the layer run by it; called only to be measured.
    """
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
        for name, run in candidates.items():
            try:
                times[name] = _milliseconds(run)
            except RuntimeError as error:  # out of memory or of shared memory: not for this GPU
                logger.info("algorithm %s cannot run %s: %s", name, key, error)
    logger.debug("algorithms of %s: %s ms", key, times)
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
    """Return where measured answers are kept."""
    return Path(os.environ.get("FACEGAN_CACHE") or "~/.cache/facegan").expanduser() / "algorithms.json"


def _read(place: Path) -> dict[str, dict[str, str]]:
    """Read machine -> key -> algorithm; what is not of this form counts as unknown."""
    try:
        content = json.loads(place.read_text())
        return {
            machine: {key: name for key, name in known.items() if name in CHOICES}
            for machine, known in content.items()
        }  # fmt: skip
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(place: Path, machine: str, known: Mapping[str, str]) -> None:
    """Adds to the file, whole or not at all: another process may be reading it, or writing answers of its own."""
    content = _read(place)
    content[machine] = {**content.get(machine, {}), **known}
    try:
        write_whole(place, json.dumps(content, indent=1))
    except OSError as error:
        logger.warning("cannot keep the measured algorithms in %s (%s): they are measured again in every run", place, error)
