"""What is measured of whole trainings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import first_step, host_device, record, trainings
from benchmarks.children import start
from benchmarks.first_step import NoStep, appeared, caches, launch
from benchmarks.host_device import CYCLE, Measured, Times, kinds_of_step
from benchmarks.trainings import TRAININGS, Training
from facegan.methods import configured

ALL = [(device, training) for device, chosen in TRAININGS.items() for training in chosen]


@pytest.mark.parametrize(("device", "training"), ALL, ids=[training.name for _, training in ALL])
def test_trainings_are_what_their_rows_say(device: str, training: Training) -> None:
    config, case = configured(**training.values("cpu", Path("out"))), training.case("training")
    assert (case.n, case.size) == (config.batch, config.resolution)
    assert case.op == f"method_{config.method}_training"
    assert (case.dtype_name == "bfloat16") == (config.mixed_precision == "bf16")


def test_the_sizes_that_the_bars_are_about() -> None:
    named = {training.name: training for training in TRAININGS["cuda"]}
    assert named.keys() == {"stylegan2-256", "method-a-64", "method-b-64"}
    assert {training.batch for training in named.values()} == {32}
    config: Any = configured(**named["stylegan2-256"].values("cpu", Path("out")))
    assert config.sizes.channel_base == 16384 and config.mixed_precision == "bf16"


@pytest.mark.parametrize(("method", "kinds"), [("a", {0: 4, 1: 12}), ("b", {0: 1, 1: 12, 4: 3})])
def test_one_step_of_each_kind_stands_for_the_cycle(method: str, kinds: dict[int, int]) -> None:
    assert kinds_of_step(configured(method=method, out="out")) == kinds


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setattr(record, "ceilings", lambda device: {"copy_gb_s": 10.0})
    monkeypatch.setitem(host_device.WINDOW, "cpu", 0.0)
    return trainings.find("cpu", "method-a-16")


@pytest.mark.slow
def test_host_time_of_a_real_stage(small: Training, tmp_path: Path, one_thread: None) -> None:
    results = record.Results(tmp_path / "results", "cpu")
    Measured(small, "cpu", results).run(tmp_path, None)
    (row,) = record.load(results.file)["rows"]
    assert (row["op"], row["variant"], row["rounds"]) == ("method_a_training", "eager", host_device.ROUNDS[0])
    assert row["seconds"] == row["host_seconds"] > 0, "a CPU's elapsed time is its host's"
    assert row["seconds_per_kimg"] == pytest.approx(1000 * row["seconds"] / 8, rel=1e-3)
    assert row["busy_seconds"] is None and row["idle"] is None and row["kernels"] == []


def test_rivals_of_a_graphed_step(small: Training, tmp_path: Path) -> None:
    results = record.Results(tmp_path / "results", "cpu")
    raced = {"peer": Times([16.0] * 3, [48.0] * 3), "eager": Times([32.0] * 3, [32.0] * 3), "graphed": Times([1.6] * 3, [16.0] * 3)}
    profile = host_device.Profile(busy=0.95, kernels=[])
    Measured(small, "cpu", results).keep("graphed", raced, profile)
    (row,) = record.load(results.file)["rows"]
    assert (row["seconds"], row["host_seconds"], CYCLE) == (1.0, 0.1, 16)
    assert row["speed_up"] == {"peer": 3.0, "ungraphed": 2.0}
    assert row["idle"] == pytest.approx(0.05) and row["seconds_per_kimg"] == 125.0


class PlannedStage:
    """Stands for a stage on a GPU: notes which steps were asked for."""

    def __init__(self, graphs: bool, log: list[str]) -> None:
        self.context = SimpleNamespace(config=configured(method="a", out="out"))
        self.graphed, self.name, self.log = SimpleNamespace(record="recorder" if graphs else None), "graphed" if graphs else "eager", log

    def step(self, number: int) -> dict[str, torch.Tensor]:
        self.log.append(f"{self.name} {number % CYCLE}")
        return {"G/loss": torch.zeros(())}


@pytest.mark.parametrize("captured", [True, False])
def test_rows_are_kept_before_anything_that_might_fail(
    captured: bool, small: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    monkeypatch.setattr(record, "machine", lambda device: {"device": "gpu", "threads": None})
    monkeypatch.setattr(trainings, "serving", lambda device: "triton")
    monkeypatch.setattr(trainings, "make_stage", lambda training, device, out, graphs: PlannedStage(graphs and captured, log))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(host_device, "race", lambda cycles, device: {name: Times([16.0], [16.0]) for name in cycles})
    monkeypatch.setattr(host_device, "profiled", lambda steps, copy, count_bytes: log.append("profiler") or host_device.Profile(0.9, []))
    kept: list[tuple[str, bool]] = []
    results: Any = SimpleNamespace(
        add=lambda row: kept.append((row["variant"], row["idle"] is None)) or log.append("row"), ceilings={"copy_gb_s": 10.0}
    )
    Measured(small, "cuda", results).run(tmp_path, None)
    if captured:
        assert kept == [("eager", True), ("eager", True), ("graphed", True), ("eager", False), ("graphed", False)]
        assert log.count("graphed 0") == log.count("graphed 1") == host_device.WARM_UP[True]
    else:
        assert kept == [("eager", True), ("eager", False)]
    assert log.index("row") < log.index("profiler")


@pytest.mark.slow
def test_a_first_step_is_seen_from_outside(small: Training, tmp_path: Path) -> None:
    before, seconds = launch(small, "cpu", tmp_path / "run", caches(tmp_path / "caches"))
    assert before > 0 and seconds > 0
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith("{")
    assert not (tmp_path / "run" / "stages" / "phase1").exists(), "it should have been killed long before its end"


def test_a_training_that_ends_before_its_first_step_is_told_with_its_words(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with log.open("w") as handle:
        process = start(["-c", "print('no such attribute'); raise SystemExit(2)"], handle)
    with pytest.raises(NoStep, match="status 2: no such attribute"):
        appeared(tmp_path / "metrics.jsonl", process, log)


def test_caches_are_all_in_one_folder(tmp_path: Path) -> None:
    assert {Path(value).parent for value in first_step.caches(tmp_path).values()} == {tmp_path}
