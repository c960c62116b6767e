"""Processes that do the work of `gpu_check.py`: they find this checkout, end at their limit, and never outlive who started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tied() -> None:
    """In a child before it becomes its program: a group of its own, and on Linux killed when its parent ends, be it by SIGKILL."""
    os.setpgrp()
    if LIBRARY is not None:
        LIBRARY.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command: list[str], output: TextIO | None = None, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A Python process that finds this checkout before any installation, and writes what it says at once.

    Args:
        output: a file for all that it says; None: where this process writes.
        environment: variables besides this process's own.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdout=output, stderr=None if output is None else subprocess.STDOUT, preexec_fn=tied,
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills it and what it has started, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def status(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """Its status when it ends within `limit` seconds; None: it was killed there."""
    try:
        return process.wait(max(limit, 0.0))
    except subprocess.TimeoutExpired:
        end(process)
        return None
