"""What a training does before its first step: its kernels are known from its configuration, and compiled in parallel.

    launches = needed_by(config)              # the calls of our operators that its steps make; nothing is computed
    compile_kernels(launches, device)         # under a progress bar, once; no-op without Triton or on a CPU

Compiled code is kept in Triton's cache, where the launch finds it. `facegan tune` is `measure_plans`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch
from tqdm import tqdm

from facegan import backend
from facegan.training.config import TrainConfig
from facegan.warmup.launches import Launch, recorded

__all__ = ["compile_kernels", "needed_by", "prepare"]
log = logging.getLogger("facegan.train")


def prepare(config: TrainConfig, device: torch.device, *, processes: int = 1, attributes: int = 2, progress: bool = True) -> int:
    """Compiles whatever a training by `config` will need on `device` and is not compiled yet; returns the number of kernels.

    `processes`: that share a batch; `attributes`: of conditional networks.
    """
    if _why_not(device):
        return 0
    return compile_kernels(needed_by(config, device, processes=processes, attributes=attributes), device, progress=progress)


def needed_by(
    config: TrainConfig, device: torch.device | None = None, *, processes: int = 1, attributes: int = 2, arch: int | None = None
) -> list[Launch]:
    """The distinct calls of our operators that the steps of a training make.

    A layer with a choice of plans takes the one that it will take on `device`, by the rule for `arch` (90 for sm_90) where no device
    is given, and all where neither is.
    """
    from facegan.warmup.launches import plans_of
    from facegan.warmup.trainings import steps

    found: dict[object, Launch] = {}
    for name, step in steps(config, processes=processes, attributes=attributes):
        for launch in recorded(step, name, plans_of(device, arch)):
            found.setdefault(launch.key, launch)
    return list(found.values())


def compile_kernels(
    launches: Sequence[Launch], device: torch.device, *, processes: int | None = None, progress: bool = True
) -> int:
    """Compiles the Triton kernels of `launches` that are not in Triton's cache; returns how many those were.

    Args:
        device: the GPU that they are for; on a CPU, and without Triton, nothing is done.
        processes: to compile in; by default as many as this process has CPUs, and not more than 16.
    """
    if _why_not(device):
        return 0
    from facegan.warmup.kernels import missing, specialisations

    major, minor = torch.cuda.get_device_capability(device)
    kernels = missing(specialisations(launches, 10 * major + minor))
    if kernels:
        _compile(kernels, torch.cuda.get_device_name(device), processes or min(len(os.sched_getaffinity(0)), 16), progress)
    return len(kernels)


def _compile(kernels: Sequence, gpu: str, processes: int, progress: bool) -> None:  # type: ignore[type-arg]
    from triton import knobs

    from facegan.warmup.compiler import compile_in_processes

    title = f"compiling {len(kernels)} kernels for {gpu} (once; kept in {knobs.cache.dir})"
    with tqdm(total=len(kernels), desc=title, unit="kernel", disable=not progress, leave=True) as bar:
        for index, reason in compile_in_processes(kernels, min(processes, len(kernels))):
            bar.update()
            if reason is not None:  # the launch itself will say so again, where it is needed
                log.warning("%s (%s) does not compile: %s", kernels[index].full_name, kernels[index].label(), reason)


def _why_not(device: torch.device) -> str | None:
    """None where Triton's kernels are what operators on this device run."""
    if device.type != "cuda":
        return "kernels are compiled for CUDA devices"
    return backend.unavailable("bias_act", "triton", "cuda") or _another_backend()


def _another_backend() -> str | None:
    requested = backend.requested_backend()
    return None if requested in ("auto", "triton") else f"backend {requested!r} is asked for"
