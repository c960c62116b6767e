"""The compiled libraries as files: what they ask of others, what they say of the machine that built them, how they load."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from facegan_kernels import native

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = sorted(native.LIBRARIES.glob("libfacegan_*.so"))
SHIMS = re.compile(r"(aoti_torch|torch)_[a-z0-9_]+")
# Mangled names that have a part at::, c10:: or torch::, and Python's.
INTERNALS = re.compile(r"_Z\w*?(2at|3c10|5torch)[A-Z0-9]\w*|_?Py[A-Z_]\w*")

built = pytest.mark.skipif(not LIBRARIES, reason="no library is built: pip install --no-build-isolation -e .")


def undefined(library: Path) -> list[str]:
    tool = shutil.which("nm")
    if tool is None:
        pytest.skip("nm is not installed")
    lines = subprocess.run([tool, "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True).stdout
    return [line.split()[-1].split("@")[0] for line in lines.splitlines()]


def test_the_audit_knows_what_to_refuse() -> None:
    for name in ("_ZN2at6Tensor5emptyEv", "_ZNK3c1010TensorImpl4sizeEv", "_ZN5torch7LibraryC1Ev", "PyObject_Call", "_Py_Dealloc"):
        assert INTERNALS.fullmatch(name), name
    for name in ("_ZSt4cout", "_ZNSt6localeC1Ev", "memcpy", "aoti_torch_library_def", "torch_parallel_for"):
        assert not INTERNALS.fullmatch(name), name


@built
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda file: file.name)
def test_only_c_shims_of_torch_are_undefined(library: Path) -> None:
    names = undefined(library)
    assert not [name for name in names if INTERNALS.fullmatch(name)]
    of_torch = [name for name in names if "torch" in name]
    assert of_torch, "nothing of torch is used: was the right file read?"
    assert not [name for name in of_torch if not SHIMS.fullmatch(name)]


@built
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda file: file.name)
def test_no_path_of_the_building_machine_is_inside(library: Path) -> None:
    content = library.read_bytes()
    for place in (ROOT, Path(sys.prefix), Path(torch.__file__).parent, Path.home() / ".cache"):
        assert str(place).encode() not in content


def ask(code: str, **environment: str) -> str:
    """What `code` prints in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_library_of_another_system_is_a_reason_and_not_a_crash(tmp_path: Path) -> None:
    package = tmp_path / "facegan_kernels"
    shutil.copytree(native.LIBRARIES.parent, package, ignore=shutil.ignore_patterns("__pycache__", "lib"))
    (package / "lib").mkdir()
    (package / "lib" / "libfacegan_cpu.so").write_bytes(b"MZ, and nothing that this system can load" * 100)
    code = (
        "import facegan_kernels, torch; from facegan import backend, ops; ops.bias_act(torch.ones(2, 3));"
        "chosen = backend.select('bias_act', torch.ones(1 << 20));"
        "print(facegan_kernels.__path__[0], chosen, backend.unavailable('bias_act', 'native', 'cpu'))"
    )
    place, chosen, reason = ask(code, PYTHONPATH=str(tmp_path), FACEGAN_BACKEND="auto").split(" ", 2)
    assert (place, chosen) == (str(package), "reference")
    assert "libfacegan_cpu.so cannot be loaded" in reason
