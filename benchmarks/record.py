"""One JSON file per machine: what it is, what it can do at best, and a row per measured case."""

from __future__ import annotations

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
) -> Row:
    """A row of the results from the seconds of each round; `count` bytes and `flops` are what the operator has to do at the least."""
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "id": f"{case}-{backend}",
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


def save(folder: Path, device: str, rows: list[Row]) -> Path:
    """Rows by their id into the file of this machine; rows that it holds of the same versions stay unless measured again."""
    facts = machine(device)
    name = facts["device"] if facts["threads"] is None else f"{facts['device']} {facts['threads']} threads"
    file = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    kept = load(file) if file.exists() else {}
    if kept.get("machine") != facts:
        kept = {"rows": []}
    by_id = {row["id"]: row for row in [*kept["rows"], *rows]}
    content = {"machine": facts, "ceilings": ceilings(device), "date": time.strftime("%Y-%m-%d"), "rows": list(by_id.values())}
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rounded(content), indent=1) + "\n")
    return file


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
