"""What a training does before its first step: its kernels are known from its configuration, and compiled in parallel.

    prepare(config, device)                   # all of it, as a training calls it: no-op without Triton or on a CPU

    launches = needed_by(config, device)      # the calls of our operators that its steps make; nothing is computed
    compile_kernels(launches, device)         # under a progress bar, once

Compiled code is kept in Triton's cache, where the launch finds it. `facegan.warmup.tune` measures algorithms.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from facegan import backend
from facegan.config import TrainConfig
from facegan.warmup.launches import Launch, algorithms_of, recorded

if TYPE_CHECKING:  # which needs Triton
    from facegan.warmup.kernels import Specialisation

__all__ = ["compile_kernels", "needed_by", "prepare", "why_not"]
log = logging.getLogger("facegan.train")


def prepare(config: TrainConfig, device: torch.device, *, processes: int = 1, attributes: int = 2, progress: bool = True) -> int:
    """Compiles whatever a training by `config` will need on `device` and is not compiled yet; returns the number of kernels.

    Args:
        processes: that share a batch.
        attributes: of conditional networks.
        progress: shows a bar, where there is something to compile.
    """
    if why_not(device):
        return 0
    from facegan.warmup import memory

    arch = architecture(device)
    kernels = memory.recalled(config, device, processes, attributes)
    if kernels is None:
        from facegan.warmup.kernels import specialisations

        kernels = specialisations(needed_by(config, device, processes=processes, attributes=attributes), arch)
        memory.keep(kernels, config, device, processes, attributes)
    return _compile_missing(kernels, device, None, progress)


def needed_by(
    config: TrainConfig, device: torch.device | None = None, *, processes: int = 1, attributes: int = 2, arch: int | None = None
) -> list[Launch]:
    """The distinct calls of our operators that the steps of a training make.

    A layer with a choice of algorithms takes the one that it will take on `device`, by the rule for `arch` (90 for sm_90) where no device
    is given, and all where neither is.
    """
    from facegan.warmup.steps import steps

    found: dict[object, Launch] = {}
    for name, step in steps(config, processes=processes, attributes=attributes):
        for launch in recorded(step, name, algorithms_of(device, arch)):
            found.setdefault(launch.key, launch)
    return list(found.values())


def compile_kernels(launches: Sequence[Launch], device: torch.device, *, processes: int | None = None, progress: bool = True) -> int:
    """Compiles the Triton kernels of `launches` that are not in Triton's cache; returns how many those were.

    Args:
        device: the GPU that they are for; on a CPU, and without Triton, nothing is done.
        processes: to compile in; by default as many as this process has CPUs, and not more than 16.
    """
    if why_not(device):
        return 0
    from facegan.warmup.kernels import specialisations

    return _compile_missing(specialisations(launches, architecture(device)), device, processes, progress)


def architecture(device: torch.device) -> int:
    """90 for sm_90."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def why_not(device: torch.device) -> str | None:
    """None where Triton's kernels are what operators on this device run."""
    if device.type != "cuda":
        return "Triton's kernels run on CUDA devices"
    requested = backend.requested_backend()
    if requested not in ("auto", "triton"):
        return f"backend {requested!r} is asked for"
    return backend.unavailable("bias_act", "triton", "cuda")


def _compile_missing(kernels: Sequence[Specialisation], device: torch.device, processes: int | None, progress: bool) -> int:
    from triton import knobs

    from facegan.warmup.compiler import compile_in_processes
    from facegan.warmup.kernels import missing

    wanted = missing(kernels)
    if not wanted:
        return 0
    count = min(processes or min(len(os.sched_getaffinity(0)), 16), len(wanted))
    title = f"compiling {len(wanted)} kernels for {torch.cuda.get_device_name(device)} (once; kept in {knobs.cache.dir})"
    if progress:
        log.info("%s", title)  # a bar is shown on terminals alone
    with tqdm(total=len(wanted), desc="kernels", unit="kernel", disable=not progress or None) as bar:
        for index, reason in compile_in_processes(wanted, count):
            bar.update()
            if reason is not None:  # the launch itself will say so again, where it is needed
                log.warning("%s (%s) does not compile: %s", wanted[index].full_name, wanted[index].label(), reason)
    return len(wanted)
