"""Compiles the kernels of csrc/cuda as C++ over this folder's stand-in for CUDA, with checks of every access to memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TORCH = Path(torch.__file__).parent
OBJECTS = ROOT / "build/emulation"

# the namespace facegan is renamed, so that the real libraries may be loaded too
DEFINES = ["-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000", "-DFACEGAN_DISPATCH_KEY=CPU", "-Dfacegan=facegan_emulated"]
FLAGS = ["-std=c++20", "-fPIC", "-fvisibility=hidden", *DEFINES, "-isystem", f"{TORCH}/include", f"-I{HERE}", f"-I{ROOT}/csrc", "-x", "c++"]
# memory.cpp is the runtime of the first, and has the handlers of the other two
CHECKED = ["-O1", "-fsanitize=kernel-address", "-fsanitize=alignment,integer-divide-by-zero"]
CALLS = {
    True: ["-mllvm", "-asan-instrumentation-with-call-threshold=0", "-mllvm", "-asan-stack=0", "-mllvm", "-asan-globals=0"],
    False: ["--param", "asan-instrumentation-with-call-threshold=0", "--param", "asan-stack=0", "--param", "asan-globals=0"],
}
UNCHECKED = ["-O2", "-U_FORTIFY_SOURCE"]  # whose longjmp refuses to change stacks


def build() -> Path:
    """The library with the operators facegan_emulated::* and their launchers, facegan_emulated_launchers::*; compiles what has changed."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    host = [ROOT / "csrc/ops.cpp", ROOT / "csrc/cuda/operators.cu"]
    kernels = [*sorted({*ROOT.glob("csrc/cuda/*.cu")} - {*host}), HERE / "faults.cu"]
    checked = [*CHECKED, *CALLS["clang" in Path(compiler).name]]
    steps = [(source, UNCHECKED) for source in [*sorted(HERE.glob("*.cpp")), *host]] + [(source, checked) for source in kernels]
    OBJECTS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda step: _compile(compiler, *step), steps))
    library = OBJECTS / f"libfacegan_emulated.{_digest(objects)}.so"
    link = ["-shared", "-Wl,-Bsymbolic,-z,defs", f"-L{TORCH / 'lib'}", "-ltorch_cpu", "-lc10"]
    return _made(library, [compiler, *map(str, objects), *link])


def _compile(compiler: str, source: Path, flags: list[str]) -> Path:
    headers = [*sorted(HERE.glob("*.h")), *sorted(ROOT.glob("csrc/*.h")), *sorted(ROOT.glob("csrc/cuda/*.cuh"))]
    command = [compiler, *flags, *FLAGS, "-c", str(source)]
    return _made(OBJECTS / f"{source.stem}.{_digest([source, *headers], torch.__version__, *command)}.o", command)


def _digest(files: Iterable[Path], *words: str) -> str:
    return hashlib.sha256(b"\0".join([*(file.read_bytes() for file in files), *map(str.encode, words)])).hexdigest()[:16]


def _made(target: Path, command: list[str]) -> Path:
    """The target, by the command where it is not there yet; several processes may do this at a time."""
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(partial)], check=True)
        partial.rename(target)
    return target
