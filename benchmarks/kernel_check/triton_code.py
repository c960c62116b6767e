"""Every Triton kernel as the benchmarks' shapes specialise it, compiled for GPUs that need not be here (`facegan.warmup.kernels`)."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import tempfile
import traceback
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import triton

from benchmarks.cases import Case
from benchmarks.kernel_check import ptx
from benchmarks.kernel_check.launches import launcher, launches
from benchmarks.kernel_check.report import Part
from facegan.warmup.kernels import Specialisation, started

ARCHITECTURES = (80, 90)
PROCESSES = 2
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10}  # bytes of shared memory that one block may have (CUDA C++ guide, table 31)
# Shares of narrow bytes beyond the usual. pointwise._backward: the gradient of toRGB's image, 3 channels by the pixel where x
# has 16 or more, is padded to the 16 that a tensor core takes. The padding is masked, which PTX does not show: of the 33 % of
# the bytes that seem to move 2 at a time where x has 16 channels, a good four fifths never move.
NARROW_SHARES = {"modulated_conv2d.pointwise._backward": 0.35}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclass
class Compiled:
    """What the compiler made of a specialisation."""

    registers: int = 0
    stack: int = 0  # bytes per thread: spilled registers and arrays that registers cannot hold
    shared: int = 0
    body: ptx.Body = field(default_factory=ptx.Body)
    error: str | None = None

    def failures(self, arch: int, narrow_share: float = ptx.NARROW_SHARE) -> list[str]:
        if self.error is not None:
            return [f"does not compile: {self.error}"]
        found = []
        if self.stack or self.body.local:
            found.append(f"spills: {self.stack} bytes of local memory per thread")
        if self.shared > SHARED_LIMIT[arch]:
            found.append(f"needs {self.shared} bytes of shared memory, {SHARED_LIMIT[arch]} are there")
        if (narrow := self.body.narrow(narrow_share)) is not None:
            found.append(narrow)
        return found


def recorded(cases: Iterable[Case], archs: Iterable[int] = ARCHITECTURES) -> tuple[list[Specialisation], list[str]]:
    """The distinct kernels that the cases start; and what goes wrong."""
    found: dict[str, Specialisation] = {}
    failures: list[str] = []
    for launch, arch in product(launches(cases), archs):
        function = launcher(launch.operator)
        try:
            for one in started(function, launch, arch) if function is not None else ():
                found.setdefault(one.data, one)
        except Exception as error:
            failures.append(f"{launch.operator} sm_{arch} ({launch.case}): the launcher raises {error!r}")
    return list(found.values()), failures


def compiled(given: Specialisation) -> Compiled:
    try:
        kernel = given.compiled()
    except Exception:
        return Compiled(error=traceback.format_exc(limit=0).strip().split("\n")[-1])
    registers, stack = _resources(kernel.asm["cubin"])
    (body,) = ptx.bodies(kernel.asm["ptx"]).values()
    return Compiled(registers, stack, kernel.metadata.shared, body)


def _resources(cubin: bytes) -> tuple[int, int]:
    """(registers, stack bytes) per thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", text)
    if found is None:
        raise RuntimeError(f"{CUOBJDUMP} -res-usage says nothing of registers: {text}")
    return int(found[1]), int(found[2]) + int(found[3])


def check(cases: Iterable[Case], processes: int = PROCESSES) -> Part:
    """Compiles what `cases` need; a second run is served from Triton's cache."""
    part = Part(
        "Triton kernels, compiled", ("kernel", "arch", "regs", "stack", "shared", "in the hot part: number x bytes", "mma", "configuration")
    )
    groups: dict[tuple[str, str], list[Case]] = {}  # cases of a group share kernels
    for case in cases:
        groups.setdefault((case.op, case.layout), []).append(case)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        groups_found = list(pool.map(recorded, groups.values()))
        kernels = {one.data: one for group, _ in groups_found for one in group}
        part.failures += [failure for _, failures in groups_found for failure in failures]
        ordered = sorted(kernels.values(), key=lambda one: (one.module, one.name, one.label(), one.arch))
        results = list(pool.map(compiled, ordered, chunksize=4))
    for one, result in zip(ordered, results, strict=True):
        name, narrow_share = one.full_name, NARROW_SHARES.get(one.full_name, ptx.NARROW_SHARE)
        matrix = " ".join(f"{kind} {number}" for kind, number in result.body.matrix.items())
        part.row(name, one.arch, result.registers, result.stack, result.shared, result.body.widths(), matrix, one.label())
        part.fail(f"{name} sm_{one.arch} ({one.label()}; {one.case})", result.failures(one.arch, narrow_share))
    part.note = f"{len(ordered)} distinct kernels."
    return part
