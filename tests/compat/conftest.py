"""A made-up project of NVIDIA's kind, whose operator files raise when they are run, and what restores the interpreter afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from facegan import compat

ROOT = Path(__file__).parents[2]
NVIDIA = "bias_act upfirdn2d conv2d_resample conv2d_gradfix grid_sample_gradfix fma filtered_lrelu".split()
SIGNATURE = (
    "x, weight, styles, noise=None, up=1, down=1, padding=0, resample_filter=None, demodulate=True, flip_weight=True, fused_modconv=True"
)
DECORATOR = """
def profiled(function):
    def decorated(*args, **kwargs):
        return function(*args, **kwargs)
    decorated.__name__ = function.__name__
    return decorated
"""  # their decorator hides the arguments as this one does
PERSISTENCE = """
import types
_made = {}
def _src_to_module(src):
    if src not in _made:
        module = types.ModuleType("_imported_module")
        exec(src, vars(module))
        _made[src] = module
    return _made[src]
def reconstruct(src, name):
    return vars(_src_to_module(src))[name]()
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """`torch_utils`, `training.networks` and `op` with C++ sources beside their operators."""
    broken = "raise RuntimeError('the operator file of the project was run')\n"
    network = f"{DECORATOR}@profiled\ndef modulated_conv2d({SIGNATURE}):\n    raise RuntimeError('theirs')\n"
    files = {f"torch_utils/ops/{name}.py": broken for name in [*NVIDIA, "custom_ops"]}
    files |= {"torch_utils/__init__.py": "", "torch_utils/ops/__init__.py": "", "torch_utils/ops/bias_act.cpp": ""}
    files |= {"torch_utils/persistence.py": PERSISTENCE, "training/__init__.py": "", "training/networks.py": network}
    files |= {f"op/{name}.py": broken for name in ("fused_act", "upfirdn2d", "conv2d_gradfix")}
    files |= {"op/__init__.py": "from .fused_act import FusedLeakyReLU, fused_leaky_relu\n", "op/upfirdn2d.cpp": ""}
    files |= {f"basicsr/ops/{name}/{name}.py": broken for name in ("fused_act", "upfirdn2d")}
    files |= {f"basicsr/ops/{name}/__init__.py": f"from .{name} import *\n" for name in ("fused_act", "upfirdn2d")}
    files |= {"basicsr/__init__.py": "", "basicsr/ops/__init__.py": ""}
    write(tmp_path / "project", files)
    return tmp_path / "project"


@pytest.fixture
def importing(project: Path, monkeypatch: pytest.MonkeyPatch):
    """The project on the path of this interpreter; what was imported from it goes with the test."""
    before = set(sys.modules)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.syspath_prepend(str(project))
    yield project
    compat.uninstall()
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("torch_utils", "training", "op", "basicsr", "elsewhere", "theirs"):
            del sys.modules[name]


@pytest.fixture
def python(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in the made-up project, in a process of its own; facegan is found wherever this test found it."""
    return partial(_python, cwd=project)


def _python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    env = {k: v for k, v in os.environ.items() if k != "FACEGAN_COMPAT"} | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
