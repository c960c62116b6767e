"""The package `benchmarks` lies beside `tests`, in a checkout alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a process that finds the checkout, with one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run(*arguments): a Python process in the checkout."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """row(id, ...): one of a file of results, of an operator unless the columns say otherwise."""

    def row(id: str, **columns: Any) -> dict[str, Any]:
        plain = dict(
            id=id, op="bias_act", order="fwd", network="stylegan2-256", n=16, c=64, size=256, layout="nhwc", dtype="bfloat16",
            map_bytes=128 << 20, backend="triton", rounds=5, seconds=1e-4, rivals={}, speed_up={}, bytes=256 << 20, flops=None,
            peak_bytes={}, notes={},
        )  # fmt: skip
        return plain | columns

    return row
