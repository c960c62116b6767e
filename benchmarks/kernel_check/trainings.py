"""What a training has to compile before its first step: its distinct kernels, and the seconds of one core that they take.

The kernels are those that `facegan.warmup` compiles before a run; here they are compiled anew, in an empty cache.
"""

from __future__ import annotations

import re
import resource
import tempfile
from collections import Counter
from dataclasses import replace

from triton import knobs

from benchmarks.kernel_check.report import Part
from facegan.config import TrainConfig
from facegan.errors import FaceganError
from facegan.methods.a.config import MethodAConfig
from facegan.methods.b.config import MethodBConfig
from facegan.warmup import needed_by
from facegan.warmup.kernels import specialisations

ARCH = 90
MOST_KERNELS, MOST_SECONDS = 40, 60.0  # of StyleGAN2 at 256 px
_NAME = re.compile(r"(stylegan2|method-a|method-b)-(\d+)(-float32)?")


def configuration(name: str) -> TrainConfig:
    """`stylegan2-256`: of `paper`'s sizes, without critics; `method-b-64`, `method-a-64`: as `facegan train` has it. Batch 32,
    bf16 where no name ends in -float32 (Method A's is float32 by default, and so here)."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise FaceganError(f"--training is {name!r}: expected e.g. stylegan2-256, method-b-64, method-a-64 or stylegan2-256-float32")
    kind, resolution, precision = found.group(1), int(found.group(2)), "no" if found.group(3) else "bf16"
    if kind == "method-a":
        return MethodAConfig(out="unused", resolution=resolution)
    config = MethodBConfig(out="unused", resolution=resolution, mixed_precision=precision)
    return config if kind == "method-b" else replace(config, preset="paper", phase2_epochs=0)


def check(name: str) -> Part:
    part = Part(f"Kernels of a training: {name}, sm_{ARCH}", ("kernel", "seconds", "first in", "configuration"))
    kernels = specialisations(needed_by(configuration(name), arch=ARCH), ARCH)
    total, number = 0.0, Counter(one.full_name for one in kernels)
    with tempfile.TemporaryDirectory() as folder, knobs.cache.scope():
        knobs.cache.dir = folder
        for one in sorted(kernels, key=lambda one: (one.full_name, one.label())):
            before = _seconds()
            one.compiled()
            took = _seconds() - before
            total += took
            part.row(one.full_name, f"{took:.2f}", one.case, one.label())
    names = ", ".join(f"{kernel} {count}" for kernel, count in number.items())
    part.note = f"{len(kernels)} distinct kernels ({names}); {total:.1f} s of one core to compile them."
    if name == "stylegan2-256" and (len(kernels) > MOST_KERNELS or total > MOST_SECONDS):
        part.fail(name, [f"{len(kernels)} kernels in {total:.1f} s; {MOST_KERNELS} in {MOST_SECONDS:.0f} s are allowed"])
    return part


def _seconds() -> float:
    """Of CPU time, of this process and of the assemblers that it has started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
