"""What is compiled from this folder, with which tools and flags, or why not: the parameters of the build in one place.

Read from the environment (the names are those of `torch.utils.cpp_extension` where it has one):

* `FACEGAN_BUILD`: `auto` (what can be built here; never an error), `none`, `cpu`, `cuda` (both libraries, or an error);
* `TORCH_CUDA_ARCH_LIST`: compute capabilities, `8.0;9.0+PTX`; `MAX_JOBS`: parallel compilations;
* `CXX`, `CXXFLAGS`, `LDFLAGS`, `CUDA_HOME`: as everywhere.

The libraries speak LibTorch's stable ABI: a C interface that every torch from TARGET on keeps, whatever its Python. So they
are not Python extensions, and torch itself need not be loaded to build them; its headers and libraries are enough.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHOICES = ("auto", "none", "cpu", "cuda")
PARTS = ("cpu", "cuda")  # one library each: a torch without CUDA never meets the second
TARGET = (2, 10)  # the oldest torch that the libraries load into
ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0+PTX"
SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
WINDOWS = sys.platform == "win32"

_DEFINES = ("-DTORCH_TARGET_VERSION=0x{:02x}{:02x}000000000000".format(*TARGET),)
_POSIX = ("-O3", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden")
# What lets loops vectorise and leaves values alone: no errno, no floating-point traps, fused multiply-adds, `omp simd`.
_VECTOR = ("-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
# Wheels travel, so not -march=native: what every x86 processor since 2013 has. The loader asks for it before it loads.
_AVX2 = ("/arch:AVX2",) if WINDOWS else ("-mavx2", "-mfma", "-mf16c", "-mbmi2")


class Unbuildable(Exception):
    """Why a library cannot be built here (`reason`), and what to do about it (`remedy`)."""

    def __init__(self, reason: str, remedy: str, log: str = "") -> None:
        super().__init__(f"{reason}; {remedy}")
        self.log = log


class Unwanted(Unbuildable):
    """A library that nobody misses here: it is recorded, but no box speaks of it."""


@dataclass(frozen=True)
class Torch:
    """The torch to build against, found without importing it."""

    place: Path
    version: str
    cuda: str | None  # the CUDA it was built with, "13.0"


@dataclass(frozen=True)
class Recipe:
    """How one library is made."""

    part: str
    sources: tuple[Path, ...]
    compile: tuple[str, ...]  # command without input and output
    link: tuple[str, ...]
    libraries: tuple[str, ...]  # what is linked, after the objects
    record: dict[str, object]  # its entry in _build_info.json
    stand_in: str | None = None  # a library of torch that is missing here, and is there where ours will be loaded


def library_file(part: str) -> str:
    return f"libfacegan_{part}{SUFFIX}"


def requested() -> str:
    """FACEGAN_BUILD, checked."""
    choice = os.environ.get("FACEGAN_BUILD") or "auto"
    if choice not in CHOICES:
        raise SystemExit(f"FACEGAN_BUILD is {choice!r}; expected one of {', '.join(CHOICES)}.")
    return choice


def build_requirements() -> list[str]:
    """What pip must bring into an isolated build: torch only where a CUDA build is likely, as it is large."""
    choice = requested()
    wanted = choice in ("cpu", "cuda") or (choice == "auto" and find_nvcc() is not None)
    missing = wanted and importlib.util.find_spec("torch") is None
    return ["torch>={}.{}".format(*TARGET), "ninja"] if missing else []


def find_torch() -> Torch:
    """Version and place of the installed torch; raises Unbuildable where there is none or it is too old."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise Unbuildable(
            "torch cannot be imported in this build, which pip isolates from what is installed",
            "install torch, setuptools and ninja, then repeat with `pip install --no-build-isolation`",
        )
    place = Path(next(iter(spec.submodule_search_locations)))
    found: dict[str, str | None] = {}
    exec((place / "version.py").read_text(), found)  # torch/version.py holds assignments only
    version = found["__version__"] or ""
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < TARGET:
        raise Unbuildable(f"torch {version} is too old", "install torch {}.{} or later".format(*TARGET))
    return Torch(place, version, found["cuda"])


def find_compiler() -> str:
    """The C++ compiler, as a command; raises Unbuildable."""
    named = os.environ.get("CXX")
    candidates = [named] if named else ["cl"] if WINDOWS else ["c++", "g++", "clang++"]
    for name in candidates:
        if shutil.which(shlex.split(name)[0]):
            return name
    remedy = (
        "build in an 'x64 Native Tools Command Prompt' of Visual Studio"
        if WINDOWS
        else "install one (apt-get install g++, dnf install gcc-c++, xcode-select --install)"
    )
    raise Unbuildable(f"no C++ compiler was found (looked for {', '.join(candidates)})", remedy)


def find_ninja() -> str:
    """The ninja executable; the package's own first, as the folder of a virtual environment need not be on PATH."""
    if importlib.util.find_spec("ninja") is not None:
        import ninja

        return str(Path(ninja.BIN_DIR) / "ninja")
    found = shutil.which("ninja")
    if found is None:
        raise Unbuildable("ninja is not installed", "pip install ninja")
    return found


def find_nvcc() -> str | None:
    """CUDA's compiler: of CUDA_HOME, else on PATH, else in the usual place."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [str(Path(home) / "bin") for home in homes] or [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    return shutil.which("nvcc", path=os.pathsep.join(places))


def architectures() -> list[str]:
    """TORCH_CUDA_ARCH_LIST as a list: ["7.5", ..., "9.0+PTX"]."""
    text = os.environ.get("TORCH_CUDA_ARCH_LIST") or ARCHITECTURES
    found = re.split(r"[;,\s]+", text.strip())
    for name in found:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", name):
            raise Unbuildable(f"TORCH_CUDA_ARCH_LIST has {name!r}", f"list compute capabilities as in {ARCHITECTURES}")
    return found


def gencode(archs: list[str]) -> list[str]:
    """nvcc's flags: machine code for each capability, PTX (for later GPUs) where +PTX asks for it."""
    flags = []
    for name in archs:
        number = name.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if name.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def cpu_flags() -> list[str]:
    """Compiler flags of the CPU library that say nothing of this machine."""
    if WINDOWS:
        return ["/nologo", "/std:c++20", "/O2", "/EHsc", "/MD", "/permissive-", "/W3", *_DEFINES, *(_AVX2 if is_x86() else ())]
    return ["-std=c++20", *_POSIX, *_VECTOR, *(_AVX2 if is_x86() else ()), "-Wall", "-Wextra", *_DEFINES]


def cuda_flags(archs: list[str]) -> list[str]:
    """nvcc's flags that say nothing of this machine."""
    host = "/MD,/permissive-" if WINDOWS else ",".join(_POSIX[1:])
    return ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "-DUSE_CUDA", *_DEFINES, f"-Xcompiler={host}", *gencode(archs)]


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def recipe(part: str) -> Recipe:
    """How to make the library of `part` here; raises Unbuildable with the first obstacle."""
    find_ninja()
    compiler, torch = find_compiler(), find_torch()
    return _cpu(compiler, torch) if part == "cpu" else _cuda(compiler, torch)


def _cpu(compiler: str, torch: Torch) -> Recipe:
    command, extra = shlex.split(compiler), shlex.split(os.environ.get("CXXFLAGS", ""))
    flags = [*cpu_flags(), *extra]
    return Recipe(
        part="cpu",
        sources=(ROOT / "csrc/ops.cpp", *sorted(ROOT.glob("csrc/cpu/*.cpp"))),
        compile=(*command, *flags, *places(torch)),
        link=(*command, *extra, "/LD" if WINDOWS else "-shared"),
        libraries=_linked(torch, "torch_cpu"),
        record={"compiler": _first_line(command), "flags": _portable(flags), "needs": "AVX2" if is_x86() else None},
    )


def _cuda(compiler: str, torch: Torch) -> Recipe:
    if torch.cuda is None and requested() == "auto":
        raise Unwanted(f"torch {torch.version} is built without CUDA", "FACEGAN_BUILD=cuda compiles it all the same")
    nvcc, release = _nvcc_for(torch)
    archs = architectures()
    flags, host = cuda_flags(archs), f"-ccbin={shlex.split(compiler)[0]}"
    return Recipe(
        part="cuda",
        sources=tuple(sorted(ROOT.glob("csrc/cuda/*.cu"))),
        compile=(nvcc, host, *flags, *places(torch, wrap="-Xcompiler=")),
        link=(nvcc, host, "-shared", "-nodlink"),  # with the CUDA run time inside (nvcc's default): no libcudart to find
        libraries=_linked(torch, "torch_cpu", "torch_cuda", wrap="-Xlinker="),
        record={"compiler": f"nvcc {release}", "archs": archs, "flags": flags, "needs": None},
        stand_in=None if torch.cuda or WINDOWS else "torch_cuda",
    )


def _nvcc_for(torch: Torch) -> tuple[str, str]:
    """nvcc and its release, "13.0", which must have the major version of torch's CUDA; raises Unbuildable."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise Unbuildable("no nvcc was found (looked in CUDA_HOME and PATH)", "install that of torch's CUDA, or use Triton's kernels")
    ran = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
    found = re.search(r"release (\d+\.\d+)", ran.stdout)
    if found is None:
        raise Unbuildable(f"nvcc --version says {(ran.stdout + ran.stderr).strip()[-200:]!r}", "repair the CUDA toolkit or set CUDA_HOME")
    if torch.cuda is not None and torch.cuda.split(".")[0] != found[1].split(".")[0]:
        raise Unbuildable(
            f"nvcc is of CUDA {found[1]} and torch {torch.version} of CUDA {torch.cuda}: their major versions must agree",
            "set CUDA_HOME to a toolkit of torch's CUDA, or install a torch of nvcc's",
        )
    return nvcc, found[1]


def places(torch: Torch, wrap: str = "") -> list[str]:
    """Where headers lie; what __FILE__ says of it is cut, so that no path of this machine enters a library."""
    include, sources = torch.place / "include", ROOT / "csrc"
    if WINDOWS:
        return [f"-I{include}", f"-I{sources}"]
    cut = [f"{wrap}-ffile-prefix-map={place}={name}" for place, name in ((include, "torch"), (ROOT, "facegan"))]
    return ["-isystem", str(include), f"-I{sources}", *cut]


def _linked(torch: Torch, *names: str, wrap: str = "-Wl,") -> tuple[str, ...]:
    """torch's libraries by name and without a path: at run time they are in memory before ours are loaded."""
    extra = shlex.split(os.environ.get("LDFLAGS", ""))
    if WINDOWS:
        return (*(str(torch.place / "lib" / f"{name}.lib") for name in names), *extra)
    named = [f"-L{torch.place / 'lib'}", "-L.", *(f"-l{name}" for name in names)]
    if sys.platform == "darwin":
        return (*named, *extra)
    # A symbol that nobody has fails here, and not at the user's, unless a stand-in takes the place of a library.
    strict = [f"{wrap}-z", f"{wrap}defs"] if torch.cuda or "torch_cuda" not in names else []
    return (f"{wrap}--no-as-needed", *named, *strict, *extra)


def _portable(flags: list[str]) -> list[str]:
    """Without the paths that CXXFLAGS may bring: what is recorded travels with the wheel."""
    return [flag for flag in flags if "/" not in flag[1:] and "\\" not in flag]


def _first_line(command: list[str]) -> str:
    if WINDOWS:
        return subprocess.run(command, capture_output=True, text=True).stderr.splitlines()[0]
    return subprocess.run([*command, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
