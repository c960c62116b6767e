"""What is built: an sdist from a copy of the tree, a wheel from that sdist, offline; their contents against the files on disk."""

from __future__ import annotations

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
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import facegan

ROOT = Path(__file__).resolve().parents[1]
FILES = {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CONTRIBUTING.md", "Makefile", "constraints.txt"}
FOLDERS = ("facegan", "kernels", "csrc", "docs", "tests", "benchmarks")
PACKAGES = {"facegan": ROOT / "facegan", "facegan_kernels": ROOT / "kernels" / "facegan_kernels"}  # import name -> place


def packages_on_disk() -> set[str]:
    """Every folder that holds Python files, as an import name."""
    return {
        ".".join((name, *file.relative_to(place).parent.parts)) for name, place in PACKAGES.items() for file in place.rglob("*.py")
    }


def files_of_packages() -> set[str]:
    return {
        (Path(name) / file.relative_to(place)).as_posix()
        for name, place in PACKAGES.items()
        for file in [*place.rglob("*.py"), place / "py.typed"]
    }


def build(function: str, source: Path, out: Path) -> Path:
    """Call one hook of the build backend in `source`, in a process of its own; warnings meant for packagers fail it."""
    out.mkdir()
    code = f"import sys; from setuptools import build_meta; print(build_meta.{function}(sys.argv[1]))"
    ran = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    for sign in ("Deprecat", "no files found", "no previously-included", "File not found", "absent from"):
        assert sign not in ran.stdout + ran.stderr, ran.stderr
    return out / ran.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves folders behind, with the litter that test runs leave."""
    base = tmp_path_factory.mktemp("sdist")
    tree = base / "tree"
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in [*FILES, "train.py"]:
        shutil.copy(ROOT / name, tree)
    for folder in ("tests", "tests/ops", "benchmarks", "facegan"):
        (tree / folder / "__pycache__").mkdir()
        (tree / folder / "__pycache__" / "litter.cpython-311.pyc").touch()
    return build("build_sdist", tree, base / "out")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(base, filter="data")
    return build("build_wheel", base / sdist.name.removesuffix(".tar.gz"), base / "out")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_setup_names_every_package_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    assert sorted(given["packages"]) == sorted(packages_on_disk())


def test_every_package_has_an_init_and_the_namespaces_have_none() -> None:
    for name in packages_on_disk():
        top, *rest = name.split(".")
        assert PACKAGES[top].joinpath(*rest, "__init__.py").exists(), f"{name} has no __init__.py"
    assert not (ROOT / "kernels" / "__init__.py").exists(), "`import kernels` would find this folder, and not Hugging Face's"
    assert not [*(ROOT / "tests").rglob("__init__.py"), *(ROOT / "benchmarks").rglob("__init__.py")]


def test_sdist_holds_what_it_takes_to_build_test_and_read(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    sources = {file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
    documents = {ROOT / "csrc" / "README.md", *(ROOT / "docs").glob("*.md")}
    wanted = {file.relative_to(ROOT).as_posix() for file in sources | documents}
    assert not (wanted | FILES | {"train.py", "facegan/py.typed", "kernels/facegan_kernels/py.typed"}) - names
    assert not [name for name in names if name.endswith(".pyc")]


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (top,) = (archive.read(name).decode().split() for name in names if name.endswith("top_level.txt"))
    information = f"facegan-{facegan.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(information)} == files_of_packages()
    assert f"{information}licenses/LICENSE" in names
    assert sorted(top) == ["facegan", "facegan_kernels"]


def test_the_import_name_kernels_stays_free(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
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
