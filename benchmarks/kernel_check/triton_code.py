"""Every Triton kernel as the benchmarks' shapes specialise it, compiled for GPUs that need not be here.

Launchers run on `meta` tensors under a driver that only says which GPU it stands for. Triton then works out the true
specialisation (divisibility by 16, constants, options of every autotuner configuration) and asks its cache hook; the hook
notes what would have been compiled, once for all shapes that share it, and stops there. Compiled code lands in Triton's cache.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import re
import subprocess
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime.autotuner import Autotuner
from triton.runtime.driver import driver

from benchmarks.cases import Case
from benchmarks.kernel_check import ptx
from benchmarks.kernel_check.launches import Launch, Launcher, launcher, launches
from benchmarks.kernel_check.report import Part

ARCHITECTURES = (80, 90)
PROCESSES = 2
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10}  # bytes of shared memory that one block may have (CUDA C++ guide, table 31)
# Shares of narrow bytes beyond the usual. pointwise._backward: the gradient of toRGB's image, 3 channels by the pixel where x
# has 16 or more, is padded to the 16 that a tensor core takes. The padding is masked, which PTX does not show: of the 33 % of
# the bytes that seem to move 2 at a time where x has 16 channels, a good four fifths never move.
NARROW_SHARES = {"pointwise._backward": 0.35}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclass(frozen=True)
class Target:
    """What Triton asks of a driver before it compiles; the number of a device is its architecture."""

    arch: int

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: int) -> int:
        return 0


@dataclass(frozen=True)
class Specialisation:
    """One kernel that Triton would compile; `data` is Triton's own serialised form of it."""

    module: str
    name: str
    arch: int
    data: str
    case: str

    @property
    def full_name(self) -> str:
        return f"{self.module.rsplit('.', 1)[-1]}.{self.name}"

    def label(self) -> str:
        """Types of its tensors, constants and options, as `bf16 fp32; BLOCK=1024; 4 warps`."""
        data = json.loads(self.data)
        names = list(data["signature"])
        types = {kind.lstrip("*") for kind in data["signature"].values() if kind.startswith("*")}
        constants = [
            f"{names[path[0]]}={_short(value)}"
            for path, value in zip(data["constant_keys"], data["constant_vals"], strict=True)
            if names[path[0]].isupper() and value is not None
        ]
        # arguments that are not known to be multiples of 16
        odd = [names[path[0]] for path, attribute in zip(data["attrs_keys"], data["attrs_vals"], strict=True) if not attribute]
        odd = [name for name in odd if data["signature"][name] in ("i32", "i64") or data["signature"][name].startswith("*")]
        return "; ".join(filter(None, [
            " ".join(sorted(types)), " ".join(constants), f"odd {' '.join(odd)}" if odd else "",
            f"{data['options']['num_warps']} warps", f"{data['options']['num_stages']} stages",
        ]))  # fmt: skip


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


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


@contextmanager
def compiling_for(arch: int) -> Iterator[None]:
    """Triton takes `sm_<arch>` for the current GPU."""
    before = driver._active
    driver.set_active(Target(arch))
    try:
        yield
    finally:
        driver._active = before


def recorded(cases: Iterable[Case], archs: Iterable[int] = ARCHITECTURES) -> tuple[list[Specialisation], list[str]]:
    """The distinct kernels that the cases start, with every configuration that an autotuner would try; and what goes wrong."""
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


def started(function: Launcher, launch: Launch, arch: int) -> list[Specialisation]:
    """The kernels that one launch starts, none of them compiled."""
    found: list[Specialisation] = []

    def note(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:
        found.append(Specialisation(fn.module, fn.name, arch, compile["specialization_data"], launch.case))
        return True  # do not compile it

    with compiling_for(arch), mock.patch.object(Autotuner, "run", _every_configuration), knobs.runtime.scope():
        knobs.runtime.jit_cache_hook = note
        function(*launch.arguments)
    return found


def _every_configuration(self: Autotuner, *args: Any, warmup: bool, **kwargs: Any) -> None:
    self.warmup(*args, **kwargs)


def compiled(given: Specialisation) -> Compiled:
    try:
        function = getattr(importlib.import_module(given.module), given.name)
        while not isinstance(function, triton.runtime.JITFunction):
            function = function.fn  # autotuners and heuristics wrap it
        with compiling_for(given.arch):
            kernel = function.preload(given.data)
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
        "Triton kernels, compiled",
        ("kernel", "arch", "regs", "stack", "shared", "in the hot part: number x bytes", "mma", "configuration"),
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
