"""One JSON file per machine: what it is, what it can do at best, and a row per measured case, on disk as soon as it is measured."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
import re
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import Case
from benchmarks.contest import ratio
from benchmarks.timer import clock, seconds
from facegan.files import write_whole

FOLDER = Path(__file__).parent / "results"
Row = dict[str, Any]


def row(
    case: Case,
    backend: str,
    times: Mapping[str, list[float]],
    count: int | None = None,
    flops: int | None = None,
    peaks: Mapping[str, int] | None = None,
    notes: Mapping[str, str] | None = None,
    variant: str = "",
    **metadata: Any,
) -> Row:
    """A row of the results from the seconds of each round.

    Args:
        times: contender -> seconds of each round; "op" is what is measured, the others are its rivals.
        count, flops: bytes and operations that the operator has to do at the least.
        variant: tells rows of one case and backend apart ("eager", "graphed", "cold", ...).
        metadata: further columns.
    """
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "id": "-".join(filter(None, (str(case), backend, variant))),
        **{name: getattr(case, name) for name in ("op", "order", "network", "n", "c", "size", "layout")},
        "dtype": case.dtype_name,
        "map_bytes": case.map_bytes,
        "backend": backend,
        "rounds": len(times["op"]),
        "seconds": medians.pop("op"),
        "rivals": medians,
        "speed_up": {name: ratio(found, times["op"]) for name, found in times.items() if name != "op"},
        "bytes": count,
        "flops": flops,
        "peak_bytes": dict(peaks or {}),
        "notes": dict(notes or {}),
        **({"variant": variant} if variant else {}),
        **metadata,
    }


def machine(device: str) -> dict[str, Any]:
    """What a figure depends on; two runs with the same answer may share a file."""
    cuda = device == "cuda"
    return {
        "kind": device,
        "device": torch.cuda.get_device_name() if cuda else _processor(),
        "threads": None if cuda else torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("facegan", "torch", "triton")},
        "cuda": torch.version.cuda if cuda else None,
    }


def _processor() -> str:
    try:
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def ceilings(device: str) -> dict[str, float]:
    """Measured, not a data sheet's: GB/s of a copy (read + written) and TFLOP/s of a matrix product."""
    cuda = device == "cuda"
    source = torch.ones((1 << 30) if cuda else (1 << 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = {"copy_gb_s": 2e-9 * source.numel() / _best(lambda: target.copy_(source), device)}
    size = 8192 if cuda else 1024
    for dtype in (torch.float32, torch.bfloat16) if cuda else (torch.float32,):
        a = torch.randn(size, size, device=device, dtype=dtype)
        found[f"matmul_tflop_s_{dtype}".replace("torch.", "")] = 2e-12 * size**3 / _best(lambda a=a: a @ a, device)
    return found


def _best(function: Any, device: str) -> float:
    ticks = clock(device)
    return min(seconds(function, ticks) for _ in range(10))


class Results:
    """The file of this machine in a folder, whole after every row, so that a stop at any moment loses nothing.

    Rows that it holds of the same versions stay unless they are measured again; those of others go with the first new one.
    Two processes may write in turn, not at once.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.machine = machine(device)
        name = self.machine["device"] if self.machine["threads"] is None else f"{self.machine['device']} {self.machine['threads']} threads"
        self.file = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
        self.device = device

    @functools.cached_property
    def ceilings(self) -> dict[str, float]:
        return ceilings(self.device)

    def add(self, row: Row) -> None:
        kept = load(self.file) if self.file.exists() else {}
        rows = kept["rows"] if kept.get("machine") == self.machine else []
        by_id = {known["id"]: known for known in [*rows, row]}
        content = {"machine": self.machine, "ceilings": self.ceilings, "date": time.strftime("%Y-%m-%d"), "rows": list(by_id.values())}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, json.dumps(rounded(content), indent=1) + "\n")


def stamps(folder: Path) -> dict[Path, int]:
    """When each file of results was last written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("*.json")}


def load(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def rounded(value: Any) -> Any:
    """Floats to four digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value
