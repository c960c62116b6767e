"""Tables of whole trainings: time to the first step, host time against device time, and what the device's time goes to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from benchmarks.markdown import markdown
from benchmarks.record import Row

OPS = ("method_a_first_step", "method_b_first_step", "method_a_training", "method_b_training")  # not operators of the package
NAME = 60  # characters of a kernel's


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Those that there are rows for."""
    starts = [row for row in rows if row["op"].endswith("_first_step")]
    steps = [row for row in rows if row["op"].endswith("_training")]
    if starts:
        yield from markdown(("first step of", "caches", "Python, faces, device", "networks, kernels, first step"), map(start, starts))
        yield ""
    if steps:
        titles = ("training step of", "from", "backend", "host", "elapsed", "device busy", "device idle", "s/kimg", "x ungraphed", "x peer")
        yield from markdown(titles, map(step, steps))
        yield ""
    for row in steps:
        if row["kernels"]:
            yield f"{name(row)}, {row['variant']}: kernels by their time; % of copy: their operator's bandwidth beside a copy's."
            yield ""
            yield from markdown(("kernel", "operator", "calls", "time", "% of all", "% of copy"), map(kernel, row["kernels"]))
            yield ""


def name(row: Row) -> str:
    method = row["op"][len("method_")].upper()
    return f"Method {method} ({row['network']}), {row['size']} px, N = {row['n']}, {row['dtype']}"


def start(row: Row) -> list[str]:
    return [name(row), row["variant"], f"{row['seconds_before']:.1f} s", f"{row['seconds']:.1f} s"]


def step(row: Row) -> list[str]:
    speed_up = row["speed_up"]
    return [
        name(row), {"eager": "Python", "graphed": "CUDA graphs"}[row["variant"]], row["backend"], milliseconds(row["host_seconds"]),
        milliseconds(row["seconds"]), milliseconds(row["busy_seconds"]), percent(row["idle"]), f"{row['seconds_per_kimg']:.2f}",
        *(f"{speed_up[rival]:.2f}" if rival in speed_up else "-" for rival in ("ungraphed", "peer")),
    ]  # fmt: skip


def kernel(found: dict) -> list[str]:
    return [
        f"`{short(found['name'])}`", f"`{found['op']}`" if found["op"] else "-", f"{found['calls']:.1f}", milliseconds(found["seconds"]),
        percent(found["share"]), percent(found["copy_share"]),
    ]  # fmt: skip


def short(kernel_name: str) -> str:
    """Without arguments, templates and return type."""
    plain = kernel_name.partition("(")[0] if not kernel_name.startswith("(") else kernel_name
    while plain != (plain := re.sub(r"<[^<>]*>", "", plain)):
        pass
    return plain.removeprefix("void ")[:NAME]


def milliseconds(seconds: float | None) -> str:
    return "not measured" if seconds is None else f"{1e3 * seconds:.2f} ms"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
