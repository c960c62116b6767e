"""The report of whatever has been measured, and "not measured" of the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, training_tables
from benchmarks.bars import BARS

MakeRow = Callable[..., dict[str, Any]]
KERNEL = dict(name="void at::native::vectorized<4, at::F<float>>(int)", op="aten::mul", calls=12.5, seconds=1e-3, share=0.25)


def result(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"kind": kind, "device": f"Some {kind}", "threads": 2 if kind == "cpu" else None, "torch": "2.13.0"}
    return {"machine": machine, "ceilings": {"copy_gb_s": 3000.0}, "date": "2026-11-28", "rows": rows}


@pytest.fixture
def trained(row: MakeRow) -> list[dict[str, Any]]:
    common = dict(order="step", network="stylegan2-paper", n=32, bytes=None, host_seconds=0.2, kernels=[])
    step = dict(common, op="method_b_training", seconds=0.09)
    return [
        row("first", **common, op="method_b_first_step", variant="cold", seconds=12.0, seconds_before=5.0),
        row("eager", **step, variant="eager", busy_seconds=None, idle=None, seconds_per_kimg=2.8),
        row("graphed", **step, variant="graphed", busy_seconds=0.08, idle=0.11, seconds_per_kimg=2.8, speed_up={"ungraphed": 2.2})
        | {"kernels": [{**KERNEL, "copy_share": 0.5}]},
    ]


def verdicts(rows: list[dict[str, Any]], device: str) -> dict[str, str]:
    return {bar.title: bar.judged(rows) for bar in BARS if bar.device == device}


def test_a_gpu_that_nobody_has_measured_has_no_rows(row: MakeRow) -> None:
    text = "\n".join(report.bar_tables([result("cpu", [row("a")])]))
    assert text.count("on a GPU: not measured") == 1
    assert "CUDA graphs" not in text


def test_partial_results_say_what_is_missing(trained: list[dict[str, Any]]) -> None:
    found = verdicts(trained, "cuda")
    assert found.pop("a training's first step, empty caches") == "met: 12 s"
    assert found.pop("a training's step from CUDA graphs: device idle (all sizes, N = 32)").startswith("**missed** in 1 of 1: 11 %")
    assert found.pop("a training's step from CUDA graphs, against launched one by one (256 px, N = 32)") == "met: 2.20x"
    assert found.pop("StyleGAN2's training, R1 and path length included (256 px, N = 32)") == "met: 2.8 s/kimg"
    assert set(found.values()) == {"not measured"}
    text = "\n".join([*report.bar_tables([result("cuda", trained)]), *report.operator_tables([result("cuda", trained)], False)])
    assert "| <= 3 s/kimg | met: 2.8 s/kimg |" in text
    assert "Operators on Some cuda: not measured" in text
    (sentence,) = [line for line in text.splitlines() if line.strip().startswith("Not measured:")]
    assert all(title in sentence for title in found) and not any(f"| {title} |" in text for title in found)


def test_cpu_bars_read_overheads_and_operators(row: MakeRow) -> None:
    rows = [
        row("a", op="overhead", speed_up={"eager": 0.8}),
        row("b", op="operators", order="step", operators=1950, speed_up={}),
        row("c", op="stylegan2_step", order="step", size=64, speed_up={"eager": 1.2}),
    ]
    found = verdicts(rows, "cpu")
    assert found["a small public call, forward: time over the reference's"].startswith("**missed** in 1 of 1: 1.25x")
    assert found["operators that a StyleGAN2-256 step calls on the main thread"] == "met: 1,950 operators"
    assert found["StyleGAN2's training step at 64 px, against eager"] == "met: 1.20x"


def test_tables_of_trainings(trained: list[dict[str, Any]]) -> None:
    text = "\n".join(training_tables.tables(trained))
    name = "Method B (stylegan2-paper), 256 px, N = 32, bfloat16"
    assert f"| {name} | cold | 5.0 s | 12.0 s |" in text
    assert f"| {name} | Python | triton | 200.00 ms | 90.00 ms | not measured | - | 2.80 | - | - |" in text
    assert f"| {name} | CUDA graphs | triton | 200.00 ms | 90.00 ms | 80.00 ms | 11 % | 2.80 | 2.20 | - |" in text
    assert "| `at::native::vectorized` | `aten::mul` | 12.5 | 1.00 ms | 25 % | 50 % |" in text
    assert [*training_tables.tables([])] == []


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("_bias_act_kernel", "_bias_act_kernel"),
        ("void cutlass::Kernel2<a<b, c>>(d)", "cutlass::Kernel2"),
        ("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD"),
        ("x" * 100, "x" * 60),
    ],
)
def test_kernels_are_told_by_their_names_alone(name: str, short: str) -> None:
    assert training_tables.short(name).strip() == short


def test_the_tables_go_between_the_markers_of_a_page(run: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert run("benchmarks/report.py", "--page", str(page)).returncode == 0
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\nWritten by") and text.endswith(f"{report.END}\nafter\n") and "\nold\n" not in text
    page.write_text("no markers")
    assert run("benchmarks/report.py", "--page", str(page)).returncode == 1 and page.read_text() == "no markers"
