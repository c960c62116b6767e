"""`python -m facegan.env [--json] [--require X]`: what is installed here and which backend serves which op, or why not."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

import torch

import facegan.ops  # noqa: F401  (importing an op registers it)
from facegan import backend
from facegan.errors import FaceganError

PACKAGES = ("torch", "numpy", "pillow", "accelerate", "safetensors", "triton")


def report() -> dict[str, Any]:
    """Versions, devices, compiled libraries, and for each device, op and backend "available" or the reason why not."""
    cuda = torch.cuda.is_available()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "cuda": torch.version.cuda or "this PyTorch is built without CUDA",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "requested": backend.requested_backend(),
        "build": _build(),
        "libraries": {part: _library(part) for part in ("cpu", "cuda")},
        "ops": {device: _ops(device) for device in (("cpu", "cuda") if cuda else ("cpu",))},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _build() -> dict[str, Any]:
    try:
        from facegan_kernels import native
    except ImportError:
        return {}
    return native.build_info()


def _library(part: str) -> str:
    """Loaded, or why not."""
    try:
        from facegan_kernels import native
    except ImportError as error:
        return f"the package facegan_kernels is not installed ({error})"
    return native.unavailable(part) or "loaded"


def _ops(device: str) -> dict[str, dict[str, str]]:
    return {op: {name: backend.unavailable(op, name, device) or "available" for name in backend.BACKENDS} for op in backend.ops()}


def table(found: dict[str, Any]) -> str:
    """The report for people: one line per fact."""
    lines = [f"{name:12} {version}" for name, version in found["versions"].items()]
    lines += [f"{'cuda':12} {found['cuda']}", f"{'gpus':12} {', '.join(found['gpus']) or 'none'}"]
    lines += [f"{'backend':12} {found['requested']} ({backend.ENVIRONMENT_VARIABLE})"]
    build = found["build"]
    for part, state in found["libraries"].items():
        made = build.get("libraries", {}).get(part)
        origin = f" ({made['compiler']}, torch {build['torch']}, commit {build['commit'] or 'unknown'})" if made else ""
        lines += [f"{part + ' library':12} {state}{origin}"]
    for device, ops in found["ops"].items():
        lines += ["", f"ops on {device}"]
        lines += [f"  {op:18} {name:10} {state}" for op, states in ops.items() for name, state in states.items()]
    return "\n".join(lines)


def missing(found: dict[str, Any], requirement: str) -> str | None:
    """None when `requirement` (cuda, a backend or a package) is there, else a sentence that says what is missing."""
    if requirement == "cuda":
        return None if found["gpus"] else "--require cuda: no CUDA device is visible to PyTorch."
    if requirement in backend.BACKENDS:
        # on the best device here: what serves the GPU when there is one
        ops = found["ops"].get("cuda", found["ops"]["cpu"])
        reasons = [states[requirement] for states in ops.values() if states[requirement] != "available"]
        return f"--require {requirement}: {reasons[0]}." if reasons else None
    if requirement in PACKAGES:
        absent = found["versions"][requirement] == "not installed"
        return f"--require {requirement}: the package is not installed." if absent else None
    known = ("cuda", *backend.BACKENDS, *PACKAGES)
    return f"--require {requirement}: unknown; expected one of {', '.join(known)}."


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m facegan.env", description="What is installed and which backend serves.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--require", action="append", default=[], metavar="X", help="fail unless X is there: cuda, a backend or a package")
    arguments = parser.parse_args(argv)
    try:
        found = report()
    except FaceganError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(found, indent=2) if arguments.json else table(found))
    reasons = [reason for reason in (missing(found, name) for name in arguments.require) if reason]
    for reason in reasons:
        print(reason, file=sys.stderr)
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
