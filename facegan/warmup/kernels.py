"""Which Triton kernels a launch compiles, found without compiling them and without a GPU.

Launchers run on `meta` tensors under a driver that only says which GPU it stands for. Triton then works out the true
specialisation (divisibility by 16, constants, options) and asks its cache hook; the hook notes what would have been compiled,
once for all shapes that share it, and stops there. Compiled code lands in Triton's cache.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.driver import driver

from facegan.warmup.launches import Launch, Launcher, launcher


@dataclass(frozen=True)
class Target:
    """What Triton asks of a driver before it compiles; no device here has a real one's number."""

    arch: int
    device: int

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling_for(arch: int, device: int | None = None) -> Iterator[None]:
    """Triton takes `sm_<arch>` for the current GPU; `device` is the number that it keeps what it has compiled under."""
    before = driver._active
    driver.set_active(Target(arch, 1000 + arch if device is None else device))
    try:
        yield
    finally:
        driver._active = before


@dataclass(frozen=True)
class Specialisation:
    """One kernel that Triton would compile; `data` is Triton's own serialised form of it."""

    module: str
    name: str
    arch: int
    data: str
    case: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.module.removeprefix('facegan_kernels.triton.')}.{self.name}"

    def label(self) -> str:
        """Types of its tensors, constants, absent tensors and options, as `bf16 fp32; BLOCK=1024; without b; 4 warps`."""
        data = json.loads(self.data)
        names = list(data["signature"])
        types = {kind.lstrip("*") for kind in data["signature"].values() if kind.startswith("*")}
        given = [(names[path[0]], value) for path, value in zip(data["constant_keys"], data["constant_vals"], strict=True)]
        constants = [f"{name}={_short(value)}" for name, value in given if name.isupper() and value is not None]
        absent = [name for name, value in given if value is None]
        # arguments that are not known to be multiples of 16
        odd = [names[path[0]] for path, attribute in zip(data["attrs_keys"], data["attrs_vals"], strict=True) if not attribute]
        odd = [name for name in odd if data["signature"][name] in ("i32", "i64") or data["signature"][name].startswith("*")]
        return "; ".join(filter(None, [
            " ".join(sorted(types)), " ".join(constants), f"without {' '.join(absent)}" if absent else "",
            f"odd {' '.join(odd)}" if odd else "",
            f"{data['options']['num_warps']} warps", f"{data['options']['num_stages']} stages",
        ]))  # fmt: skip

    def function(self) -> triton.runtime.JITFunction:
        found: triton.runtime.JITFunction = getattr(importlib.import_module(self.module), self.name)
        return found

    def compiled(self) -> Any:
        """Triton's CompiledKernel, from its cache where it is there."""
        with compiling_for(self.arch):
            return self.function().preload(self.data)


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def started(function: Launcher, launch: Launch, arch: int) -> list[Specialisation]:
    """The kernels that one launch starts, none of them compiled."""
    found: list[Specialisation] = []

    def note(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:
        found.append(Specialisation(fn.module, fn.name, arch, compile["specialization_data"], launch.case))
        return True  # do not compile it

    with compiling_for(arch, 2000 + arch), knobs.runtime.scope():  # a device that nothing is ever compiled for
        knobs.runtime.jit_cache_hook = note
        function(*launch.arguments)
    return found


def specialisations(launches: Iterable[Launch], arch: int) -> list[Specialisation]:
    """The distinct kernels of all launches, in their order."""
    found: dict[str, Specialisation] = {}
    for launch in launches:
        function = launcher(launch.operator)
        for one in () if function is None else started(function, launch, arch):
            found.setdefault(one.data, one)
    return list(found.values())


class _NotThere(Exception):
    pass


def missing(kernels: Iterable[Specialisation]) -> list[Specialisation]:
    """Those that Triton's cache does not hold, or not for this version of the source, of Triton or of ptxas.

    Triton itself looks them up: it compiles what it does not find, and is stopped before it does.
    """

    def stop(*_: Any, **__: Any) -> None:
        raise _NotThere

    found = []
    with mock.patch.object(ASTSource, "make_ir", stop):
        for one in kernels:
            try:
                one.compiled()
            except _NotThere:
                found.append(one)
    return found
