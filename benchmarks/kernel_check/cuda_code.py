"""The CUDA sources of csrc/, compiled by nvcc for every architecture that ships; no GPU is needed.

Registers, spills and warnings come from ptxas, access widths from the PTX that nvcc keeps. What a source compiles to is kept in
build/kernel_check until the source, a header or a flag changes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.kernel_check import ptx
from benchmarks.kernel_check.report import Part

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "kernel_check"
ARCHITECTURES = (75, 80, 86, 89, 90)
PROCESSES = 2
FLAGS = ("-lineinfo", "-Xptxas=-v,-warn-spills,-warn-lmem-usage", "--keep")
# Kernels that look at a few pixels of each plane, far apart: nothing there is contiguous.
SPARSE = ("sample_kernel",)
# The vector length of a kernel follows the type of its elements among the template's arguments.
_VECTOR = re.compile(r"((?:BFloat16|Half|float|double), )(\d+)\b")
_ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_WARNING = re.compile(r"^.*\bwarning\b.*$", re.M | re.I)


@dataclass
class Kernel:
    """One entry point on one architecture."""

    name: str
    arch: int
    registers: int
    stack: int
    spilled: int
    shared: int
    widths: str
    narrow: str | None

    def is_tail_of(self, others: Iterable[Kernel]) -> bool:
        """Whether it does one element at a time what one of the others does with whole vectors: its fallback for odd sizes."""
        form = _VECTOR.sub(r"\1N", self.name)
        return "1" in (length for _, length in _VECTOR.findall(self.name)) and any(
            other.name != self.name and _VECTOR.sub(r"\1N", other.name) == form for other in others
        )

    def failures(self, others: Iterable[Kernel] = ()) -> list[str]:
        found = []
        if self.spilled:
            found.append(f"spills {self.spilled} bytes")
        if self.stack:
            found.append(f"uses {self.stack} bytes of local memory")
        if self.narrow is not None and not self.name.startswith(SPARSE) and not self.is_tail_of(others):
            found.append(self.narrow)
        return found


def parse(log: str, ptx_of: dict[int, str]) -> list[Kernel]:
    """ptxas' report for all architectures, with the PTX of each, as kernels by their mangled names."""
    bodies = {arch: ptx.bodies(text) for arch, text in ptx_of.items()}
    pieces = _ENTRY.split(log)[1:]
    found = []
    for name, number, text in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        arch, stack, used = int(number), _STACK.search(text), _USED.search(text)
        if stack is None or used is None:
            raise ValueError(f"ptxas says nothing of the registers of {name}: {text[:200]}")
        body, shared = bodies[arch][name], _SHARED.search(text)
        spilled = int(stack[2]) + int(stack[3])
        shared_bytes = int(shared[1]) if shared else 0
        found.append(Kernel(name, arch, int(used[1]), int(stack[1]), spilled, shared_bytes, body.widths(), body.narrow()))
    return found


def readable(names: Sequence[str]) -> dict[str, str]:
    """Mangled names -> names with their template arguments, without parameters, where c++filt is at hand."""
    try:
        ran = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {name: name for name in names}
    return {name: _short(full) for name, full in zip(names, ran.stdout.split("\n"), strict=False)}


def _short(full: str) -> str:
    full = re.sub(r"\(anonymous namespace\)::|facegan::|^void ", "", full)
    depth, end = 0, len(full)
    for place, letter in enumerate(full):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            end = place
            break
    return full[:end]


def compile_source(source: Path, command: Sequence[str]) -> tuple[list[Kernel], list[str]]:
    """(kernels, complaints of the compiler), from build/kernel_check where nothing has changed since."""
    reading = inspect.getsource(parse) + Path(ptx.__file__).read_text()  # what the report is made of
    digest = hashlib.sha256(repr([*command, *FLAGS, *ARCHITECTURES, reading]).encode())
    for file in sorted([source, *source.parent.glob("*.cuh"), *source.parents[1].glob("*.h")]):
        digest.update(file.read_bytes())
    kept = KEPT / f"{source.stem}-{digest.hexdigest()[:16]}.json"
    if kept.exists():
        stored = json.loads(kept.read_text())
        return [Kernel(**kernel) for kernel in stored["kernels"]], stored["complaints"]
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [*command, *FLAGS, f"--keep-dir={folder}", "-c", str(source), "-o", f"{folder}/object"], capture_output=True, text=True
        )
        log = ran.stdout + ran.stderr
        if ran.returncode:
            return [], [f"nvcc fails: {log.strip()[-500:]}"]
        texts = {arch: next(Path(folder).glob(f"*compute_{arch}.ptx")).read_text() for arch in ARCHITECTURES}
    kernels, complaints = parse(log, texts), sorted(set(_WARNING.findall(log)))
    KEPT.mkdir(parents=True, exist_ok=True)
    for stale in KEPT.glob(f"{source.stem}-*.json"):
        stale.unlink()
    kept.write_text(json.dumps({"kernels": [asdict(kernel) for kernel in kernels], "complaints": complaints}))
    return kernels, complaints


def check() -> Part:
    part = Part("CUDA kernels, compiled", ("kernel", "arch", "regs", "stack", "spills", "shared", "in the hot part: number x bytes"))
    sys.path.insert(0, str(ROOT / "csrc"))
    import build_parameters

    if build_parameters.find_nvcc() is None:
        part.note = "Skipped: no nvcc here (looked in CUDA_HOME and PATH)."
        return part
    os.environ["FACEGAN_BUILD"] = "cuda"  # compiles beside a torch without CUDA too
    os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(f"{arch // 10}.{arch % 10}" for arch in ARCHITECTURES)
    recipe = build_parameters.recipe("cuda")
    with ThreadPoolExecutor(PROCESSES) as pool:
        results = list(pool.map(lambda source: compile_source(source, recipe.compile), recipe.sources))
    for source, (kernels, complaints) in zip(recipe.sources, results, strict=True):
        part.fail(source.name, complaints)
        names = readable([kernel.name for kernel in kernels])
        for kernel in kernels:
            kernel.name = names[kernel.name]
        for kernel in sorted(kernels, key=lambda kernel: (kernel.name, kernel.arch)):
            part.row(kernel.name, kernel.arch, kernel.registers, kernel.stack, kernel.spilled, kernel.shared, kernel.widths)
            part.fail(f"{source.name} {kernel.name} sm_{kernel.arch}", kernel.failures(kernels))
    return part
