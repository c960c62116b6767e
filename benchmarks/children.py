"""Processes that do the work of `gpu_check.py`: they find this checkout, end at their limit, and never outlive who started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """In a child before it becomes its program: it is killed when its parent ends, be it by SIGKILL. Linux alone has this."""
    if LIBRARY is not None:
        LIBRARY.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command: list[str], output: TextIO | None = None, **environment: str) -> subprocess.Popen[bytes]:
    """A Python process that finds this checkout before any installation, and writes what it says at once.

    `output`: a file for all that it says; None: where this process writes.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
        stdout=output, stderr=None if output is None else subprocess.STDOUT, preexec_fn=die_with_parent,
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def status(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """Its status when it ends within `limit` seconds; None: it was killed there."""
    try:
        return process.wait(max(limit, 0.0))
    except subprocess.TimeoutExpired:
        end(process)
        return None
