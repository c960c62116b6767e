"""What is built: an sdist from a copy of the tree, a wheel from that sdist, offline; their contents against the files on disk."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import setuptools
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import facegan

ROOT = Path(__file__).resolve().parents[1]
BUILD_FILES = {"pyproject.toml", "setup.py", "MANIFEST.in", "Makefile", "constraints.txt", "mkdocs.yml"}
FILES = BUILD_FILES | {"README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"}
FOLDERS = ("facegan", "kernels", "csrc", "docs", "tests", "benchmarks")
LIB = "facegan_kernels/lib"
LIBRARY = "libfacegan_cpu" + {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
BUILD_VARIABLES = ("FACEGAN_BUILD", "TORCH_CUDA_ARCH_LIST", "CXX", "CXXFLAGS", "LDFLAGS", "CUDA_HOME", "CUDA_PATH", "PYTHONPATH")
PACKAGES = {"facegan": ROOT / "facegan", "facegan_kernels": ROOT / "kernels" / "facegan_kernels"}  # import name -> place


def packages_on_disk() -> set[str]:
    """Every folder that holds Python files, as an import name."""
    return {".".join((name, *file.relative_to(place).parent.parts)) for name, place in PACKAGES.items() for file in place.rglob("*.py")}


def files_of_packages() -> set[str]:
    return {
        (Path(name) / file.relative_to(place)).as_posix()
        for name, place in PACKAGES.items()
        for file in [*place.rglob("*.py"), place / "py.typed"]
    }


def build(function: str, source: Path, out: Path, *, isolated: bool = False, **environment: str) -> tuple[Path, str]:
    """Call one hook of the build backend in `source`, in a process of its own: the file it made, and what it said.

    Warnings meant for packagers fail the test, and so does an error. `isolated`: from the installed torch, as pip does.
    """
    out.mkdir()
    hidden = "import sys; sys.modules['torch'] = None; " if isolated else ""
    code = f"{hidden}import sys; from setuptools import build_meta; print(build_meta.{function}(sys.argv[1]))"
    ran = run([sys.executable, "-c", code, str(out)], source, **environment)
    assert ran.returncode == 0, ran.stderr
    for sign in ("Deprecat", "no files found", "no previously-included", "File not found", "absent from"):
        assert sign not in ran.stdout + ran.stderr, ran.stderr
    return out / ran.stdout.splitlines()[-1], " ".join(ran.stderr.replace("|", " ").split())  # a box, as one line


def run(command: list[str], place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that takes nothing about builds from this one's environment."""
    inherited = {name: value for name, value in os.environ.items() if name not in BUILD_VARIABLES}
    return subprocess.run(command, cwd=place, env={**inherited, **environment}, capture_output=True, text=True, timeout=300)


def copy_tree(tree: Path) -> Path:
    """The sources, with the litter that builds and test runs leave behind; a build adds to a folder, so never in ROOT."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "lib", ".*"))
    for name in [*FILES, "train.py"]:
        shutil.copy(ROOT / name, tree)
    for folder in ("tests", "tests/ops", "benchmarks", "facegan", "csrc"):
        (tree / folder / "__pycache__").mkdir()
        (tree / folder / "__pycache__" / "litter.cpython-311.pyc").touch()
    for place in ("kernels/facegan_kernels/lib", "build/lib/facegan_kernels/lib"):
        (tree / place).mkdir(parents=True)
        (tree / place / LIBRARY).touch()
    return tree


def shrink(tree: Path, source: str = 'extern "C" int placeholder() { return 1; }') -> Path:
    """`tree` with next to nothing to compile: what is tested is how it is built, and the kernels take a minute."""
    for file in (tree / "csrc").rglob("*.c*"):
        file.write_text("")
    (tree / "csrc" / "ops.cpp").write_text(source + "\n")
    return tree


def inside(wheel: Path, place: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sdist")
    return build("build_sdist", copy_tree(base / "tree"), base / "out")[0]


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(base, filter="data")
    return build("build_wheel", base / sdist.name.removesuffix(".tar.gz"), base / "out", FACEGAN_BUILD="none")[0]


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_setup_names_every_package_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    assert sorted(given["packages"]) == sorted(packages_on_disk())


def test_every_package_has_an_init_and_the_namespaces_have_none() -> None:
    for name in packages_on_disk():
        top, *rest = name.split(".")
        assert PACKAGES[top].joinpath(*rest, "__init__.py").exists(), f"{name} has no __init__.py"
    assert not (ROOT / "kernels" / "__init__.py").exists(), "`import kernels` would find this folder, and not Hugging Face's"
    assert not [*(ROOT / "tests").rglob("__init__.py"), *(ROOT / "benchmarks").rglob("__init__.py")]


def shipped() -> set[str]:
    """The networks that come with the package, with their styles."""
    files = {file.relative_to(ROOT).as_posix() for file in (ROOT / "facegan/checkpoints/pretrained").glob("*/**/*") if file.is_file()}
    assert "facegan/checkpoints/pretrained/synthetic64/model.safetensors" in files
    return files


def test_sdist_holds_what_it_takes_to_build_test_and_read(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    sources = {file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
    native = {file for ending in ("h", "cuh", "cpp", "cu", "md") for file in (ROOT / "csrc").rglob(f"*.{ending}")}
    wanted = {file.relative_to(ROOT).as_posix() for file in sources | native | set((ROOT / "docs").rglob("*.md"))}
    assert not (wanted | shipped() | FILES | {"train.py", "facegan/py.typed", "kernels/facegan_kernels/py.typed"}) - names
    assert not [name for name in names if name.endswith((".pyc", LIBRARY)) or name.startswith("build/")]


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (top,) = (archive.read(name).decode().split() for name in names if name.endswith("top_level.txt"))
    information = f"facegan-{facegan.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(information)} == files_of_packages() | shipped() | {f"{LIB}/_build_info.json"}
    assert f"{information}licenses/LICENSE" in names
    assert sorted(top) == ["facegan", "facegan_kernels"]
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_import_name_kernels_stays_free(wheel: Path, tmp_path: Path) -> None:
    inside(wheel, tmp_path)
    assert PathFinder.find_spec("facegan_kernels", [str(tmp_path)]) is not None
    assert PathFinder.find_spec("kernels", [str(tmp_path)]) is None


def test_command_and_versions_agree(wheel: Path, sdist: Path, metadata: Message) -> None:
    assert metadata["Version"] == facegan.__version__
    assert wheel.name.split("-")[:2] == ["facegan", facegan.__version__]
    assert sdist.name == f"facegan-{facegan.__version__}.tar.gz"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert archive.read(name).decode().split() == ["[console_scripts]", "facegan", "=", "facegan.cli:main"]


def test_constraints_pin_versions_within_the_ranges(metadata: Message) -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins: dict[str, str] = {}
    for pin in map(Requirement, lines):
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} is a range: a constraint names one version"
        pins[canonicalize_name(pin.name)] = specifier.version
    ranges = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    assert {range_.name for range_ in ranges} >= {"torch", "accelerate", "numpy", "pillow", "safetensors"}
    for wanted in ranges:
        pinned = pins.get(canonicalize_name(wanted.name))
        assert pinned or wanted.marker, f"{wanted} is needed by everybody, but constraints.txt has no {wanted.name}"
        if pinned:
            assert wanted.specifier.contains(pinned), f"constraints.txt has {wanted.name} {pinned}, pyproject.toml wants {wanted}"


# ---- the compiled libraries ----

needs_compiler = pytest.mark.skipif(
    not [name for name in ("c++", "g++", "clang++") if shutil.which(name)], reason="no C++ compiler on PATH"
)


@needs_compiler
def test_wheel_with_a_library_is_for_the_platform_and_every_python(unpacked: Path, tmp_path: Path) -> None:
    wheel, _ = build("build_wheel", shrink(unpacked), tmp_path / "out", FACEGAN_BUILD="cpu", CXXFLAGS=f"-DHERE -I{tmp_path}")
    assert wheel.name.split("-", 2)[2].startswith("py3-none-") and not wheel.name.endswith("any.whl")
    place = inside(wheel, tmp_path / "inside")
    made = {file.name: file.read_bytes() for file in (place / LIB).iterdir()}
    assert set(made) == {LIBRARY, "_build_info.json"} and len(made[LIBRARY]) > 1000
    (marks,) = place.glob("*.dist-info/WHEEL")
    assert "Root-Is-Purelib: false" in marks.read_text()
    info = json.loads(made["_build_info.json"])
    assert info["torch"] == torch.__version__ and info["requested"] == "cpu" and info["commit"] is None
    assert info["libraries"]["cpu"]["file"] == LIBRARY
    assert {"-DHERE", "-DTORCH_TARGET_VERSION=0x020a000000000000"} <= set(info["libraries"]["cpu"]["flags"])
    assert info["reasons"] == {"cuda": "it was installed with FACEGAN_BUILD=cpu; install again without it"}
    for machine in (str(tmp_path), sys.prefix, str(Path(torch.__file__).parent)):
        assert not [name for name, content in made.items() if machine.encode() in content], f"{machine} is in the wheel"


def test_without_a_compiler_a_pure_wheel_that_works(unpacked: Path, tmp_path: Path) -> None:
    wheel, said = build("build_wheel", unpacked, tmp_path / "out", PATH=str(tmp_path / "empty"))
    assert wheel.name.endswith("-py3-none-any.whl")
    assert said.count("+--") == 2, "one box"
    assert "no C++ compiler was found" in said and "apt-get install g++" in said
    place = inside(wheel, tmp_path / "inside")
    assert not (place / LIB / LIBRARY).exists()
    code = (
        "import json, torch; from facegan import env, ops; y = ops.bias_act(torch.ones(2, 3), torch.ones(3), act='relu', gain=1.0);"
        "print(json.dumps([env.__file__, y.tolist(), env.report()]))"
    )
    ran = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(place))
    assert ran.returncode == 0, ran.stderr
    file, values, report = json.loads(ran.stdout)
    assert file.startswith(str(place)) and values == [[2.0] * 3] * 2
    assert "no C++ compiler was found" in report["libraries"]["cpu"]
    assert report["ops"]["cpu"]["bias_act"]["native"] != "available"
    assert report["ops"]["cpu"]["bias_act"]["reference"] == "available"


def test_isolated_from_torch_the_box_says_how_to_build(unpacked: Path, tmp_path: Path) -> None:
    wheel, said = build("build_wheel", shrink(unpacked), tmp_path / "out", isolated=True)
    assert wheel.name.endswith("-py3-none-any.whl") and said.count("+--") == 2
    if "no C++ compiler" not in said:
        assert "torch cannot be imported in this build" in said and "pip install --no-build-isolation" in said


@needs_compiler
def test_a_source_that_does_not_compile(unpacked: Path, tmp_path: Path) -> None:
    tree = shrink(unpacked, source="#error this line is wrong")
    wheel, said = build("build_wheel", tree, tmp_path / "out", FACEGAN_BUILD="auto")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert said.count("+--") == 2 and "it does not compile" in said and "#error this line is wrong" in said
    ran = run([sys.executable, "csrc/build_native.py"], tree, FACEGAN_BUILD="cpu")
    assert ran.returncode == 1 and "FACEGAN_BUILD=cpu cannot be done" in ran.stderr and "this line is wrong" in ran.stderr


def test_what_was_asked_for_by_name_is_built_or_the_build_fails(unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "csrc/build_native.py"]
    for choice in ("cpu", "cuda"):
        ran = run(command, unpacked, FACEGAN_BUILD=choice, PATH=str(tmp_path / "empty"))
        assert ran.returncode == 1 and "no C++ compiler was found" in ran.stderr
    ran = run(command, unpacked, FACEGAN_BUILD="gpu")
    assert ran.returncode == 1 and ran.stderr.strip() == "FACEGAN_BUILD is 'gpu'; expected one of auto, none, cpu, cuda."


@needs_compiler
def test_editable_install_builds_in_place_and_removes_what_is_outdated(unpacked: Path, tmp_path: Path) -> None:
    """`kernels` is a folder of the tree, which is the working directory here, and still Hugging Face's when imported."""
    place = shrink(unpacked) / "kernels" / LIB
    site = inside(build("build_editable", unpacked, tmp_path / "out", FACEGAN_BUILD="cpu")[0], tmp_path / "site")
    other = tmp_path / "other" / "kernels"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("name = 'of Hugging Face'")
    code = f"import site; site.addsitedir({str(site)!r}); import facegan_kernels, kernels; print(facegan_kernels.__path__[0], kernels.name)"
    ran = run([sys.executable, "-S", "-c", code], unpacked, PYTHONPATH=str(other.parent))
    assert ran.stdout.split(" ", 1) == [str(place.parent), "of Hugging Face\n"], ran.stderr
    assert {file.name for file in place.iterdir()} == {LIBRARY, "_build_info.json"}
    build("build_editable", unpacked, tmp_path / "again", FACEGAN_BUILD="none")
    assert {file.name for file in place.iterdir()} == {"_build_info.json"}


@pytest.fixture
def parameters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """csrc/build_parameters.py, with an nvcc of CUDA 12.4 that can say its version and no more."""
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\necho Cuda compilation tools, release 12.4, V12.4.131\n")
    nvcc.chmod(0o755)
    for name in BUILD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(nvcc.parents[1]))
    spec = importlib.util.spec_from_file_location("build_parameters", ROOT / "csrc" / "build_parameters.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "build_parameters", module)  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "choice,nvcc,installed,brought",
    [("auto", True, False, True), ("auto", True, True, False), ("auto", False, False, False)]
    + [("none", True, False, False), ("cpu", False, False, True), ("cuda", True, False, True), ("cuda", True, True, False)],
)
def test_pip_brings_torch_only_where_it_is_needed(
    parameters: Any, monkeypatch: pytest.MonkeyPatch, choice: str, nvcc: bool, installed: bool, brought: bool
) -> None:
    monkeypatch.setenv("FACEGAN_BUILD", choice)
    if not nvcc:
        monkeypatch.setenv("CUDA_HOME", "/nowhere")
    if not installed:
        monkeypatch.setitem(sys.modules, "torch", None)
    assert parameters.build_requirements() == (["torch>=2.10", "ninja"] if brought else [])


def test_cuda_of_nvcc_and_of_torch(parameters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_for(cuda: str | None) -> Any:
        return parameters.Torch(Path("torch"), "2.13.0", cuda)

    with pytest.raises(parameters.Unbuildable, match=r"nvcc is of CUDA 12\.4 and torch 2\.13\.0 of CUDA 13\.0: .*; set CUDA_HOME"):
        parameters._cuda("c++", made_for("13.0"))
    with pytest.raises(parameters.Unwanted, match="torch 2.13.0 is built without CUDA; FACEGAN_BUILD=cuda compiles it"):
        parameters._cuda("c++", made_for(None))
    assert parameters._cuda("c++", made_for("12.8")).record["compiler"] == "nvcc 12.4"  # a minor release later is the same ABI
    monkeypatch.setenv("FACEGAN_BUILD", "cuda")
    assert parameters._cuda("c++", made_for(None)).stand_in == "torch_cuda"


def test_architectures(parameters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parameters.architectures() == ["7.5", "8.0", "8.6", "8.9", "9.0+PTX"]
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0 10.0a;9.0+PTX")
    archs = parameters.architectures()
    assert parameters.gencode(archs) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_100a,code=sm_100a",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;Volta")
    with pytest.raises(parameters.Unbuildable, match="TORCH_CUDA_ARCH_LIST has 'Volta'; list compute capabilities as in 7.5;"):
        parameters.architectures()
