"""The report's figures against a restatement of their definitions, from reports of runs that the test makes up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.ablation import curve, intervals, report
from facegan.ablation.summary import summarise
from facegan.ablation.tasks import Settings, Study, plan
from facegan.training.folder import RunFolder, write_json
from facegan.training.pictures import save_png, sheet

SAMPLES = 400
RATES = {"phase1": (0.05, 0.02, 0.03), "scratch": (0.01, 0.02, 0.00), "plain": (0.02, 0.01, 0.02), "regression": (0.55, 0.80, 0.60)}
RATES["best"] = (0.90, 0.95, 0.70)
GIVEN = dict(data="synthetic", resolution=16, batch=8, epochs=8, phase1_epochs=4)


def made_up(rate: float, seed: int, quality: dict[str, float]) -> dict[str, Any]:
    ceiling, floor = 0.9 + 0.01 * seed, 0.05
    normalised = {"rate": (rate - floor) / (ceiling - floor), "low": -1.0, "high": 2.0}
    return {
        "samples": SAMPLES, "joint": {"rate": rate, "low": 0, "high": 1}, "normalised": normalised, "floor": floor, "ceiling": ceiling,
        "marginals": {"bald": rate / 2, "beard": 1 - rate}, "self_score": None if rate < 0.5 else rate, "quality": quality,
    }  # fmt: skip


def study_of(root: Path, seeds: int) -> Study:
    (study,) = plan(GIVEN, Settings(root, tuple(range(seeds)), SAMPLES), (), ",".join(RATES))
    for task in study.tasks:
        folder = RunFolder(task.folder)
        task.folder.mkdir(parents=True)
        for stage, seconds in (("phase1", 10.0), ("phase3-beard", 5.0 + task.seed)):
            folder.finish(stage, {"weight": torch.zeros(1)}, {"seconds": seconds})
        task.result.parent.mkdir()
        write_json(task.result, made_up(RATES[task.row][task.seed], task.seed, {"kid_attr": 0.1 * (1 + task.seed), "real_kid_attr": 0.01}))
        points = [{"stage": "phase3-beard", "step": i, "epoch": 4.0 * i, "seconds": 1.0 * i, "joint": 0.1 * i} for i in (1, 2)]
        write_json(task.folder / curve.NAME, points)
        write_json(task.folder / "config.json", {"config": {**study.config.to_json(), "out": str(task.folder)}, "data_fingerprint": "x"})
        save_png(sheet(torch.rand(64, 3, 16, 16) * 2 - 1), task.folder / "samples/phase3-beard-0000004.png")
    return study


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("three"), 3)


def test_means_and_intervals_over_seeds(three: Study) -> None:
    rows = summarise(three, {})["rows"]
    assert list(rows) == list(RATES)
    for name, rates in RATES.items():
        joint, values = rows[name]["joint"], np.array(rates)
        half = 4.302653 * values.std(ddof=1) / 3**0.5  # Student's t, two degrees of freedom
        np.testing.assert_allclose([joint["rate"], joint["low"], joint["high"]], values.mean() + half * np.array([0, -1, 1]), rtol=1e-4)
        assert (joint["least"], joint["most"]) == (min(rates), max(rates))
        # Wilson's limits are the p at which the rate seen is 1.96 standard errors (of that p) away.
        n = 3 * SAMPLES
        for limit in (joint["pooled_low"], joint["pooled_high"]):
            np.testing.assert_allclose((values.mean() - limit) ** 2, 1.959964**2 * limit * (1 - limit) / n, rtol=1e-4, atol=1e-12)
        normalised = [(rate - 0.05) / (0.9 + 0.01 * seed - 0.05) for seed, rate in enumerate(rates)]
        np.testing.assert_allclose(rows[name]["normalised"]["rate"], np.mean(normalised))
        np.testing.assert_allclose(rows[name]["normalised"]["most"], max(normalised))
        assert rows[name]["marginals"] == pytest.approx({"bald": values.mean() / 2, "beard": 1 - values.mean()})
        assert rows[name]["ceiling"] == pytest.approx(0.91) and rows[name]["seconds"] == pytest.approx(16)
        assert rows[name]["quality"]["kid_attr"] == pytest.approx(0.2) and rows[name]["quality"]["kid"] is None
    assert rows["plain"]["self_score"] is None and rows["best"]["self_score"] == pytest.approx(0.85)


def test_differences_are_paired_over_seeds(three: Study) -> None:
    rows = summarise(three, {})["rows"]
    differences = np.array(RATES["best"]) - np.array(RATES["regression"])
    half = 4.302653 * differences.std(ddof=1) / 3**0.5
    found = rows["best"]["difference"]
    np.testing.assert_allclose([found["rate"], found["low"], found["high"]], differences.mean() + half * np.array([0, -1, 1]), rtol=1e-4)
    assert found["verdict"] == "no clear difference" and found["seeds"] == 3 and found["low"] < 0 < found["high"]
    assert rows["phase1"]["difference"] is None and rows["regression"]["difference"] is None  # row `halves` has not been run


def test_one_seed_has_the_intervals_of_its_samples(tmp_path: Path) -> None:
    rows = summarise(study_of(tmp_path, 1), {})["rows"]
    best = rows["best"]
    assert best["joint"]["low"] is None and best["joint"]["pooled_low"] < 0.9 < best["joint"]["pooled_high"]
    assert (best["normalised"]["low"], best["normalised"]["high"]) == (-1.0, 2.0)
    assert best["difference"]["verdict"] == "helps" and best["difference"]["low"] > 0.25


def test_known_values() -> None:
    for freedom, value in ((1, 12.7062), (2, 4.302653), (10, 2.228139), (12, 2.178813), (30, 2.042272), (120, 1.979930)):
        assert intervals.t975(freedom) == pytest.approx(value, rel=2e-4)
    # Newcombe (1998), table II, method 10: 56/70 - 48/80.
    found = intervals.difference({0: (56 / 70, 70)}, {0: (48 / 80, 80)})
    assert found is not None and np.allclose(found, (0.2, 0.0524, 0.3339), atol=1e-4)
    assert intervals.difference({0: (0.5, 10)}, {1: (0.5, 10)}) is None


def test_the_report_says_what_did_not_help_what_failed_and_what_was_not_measured(three: Study) -> None:
    unrun = three.of("best")[2]
    text = unrun.result.read_text()
    unrun.result.unlink()
    try:
        report.write([three], three.root, {unrun: "exit status 1: out of luck"})
        said = (three.root / "report.md").read_text()
        record = json.loads((three.root / "report.json").read_text())
    finally:
        unrun.result.write_text(text)
    assert "| `best` | 2 | 0.925 [" in said and "precision, recall: not measured" in said and "kid: not" not in said
    assert "kid_attr" in said and f"* {unrun.name}: exit status 1: out of luck" in said
    assert "one half against the other: kid_attr 0.0100." in said
    assert "Did not help, or not clearly: scratch, plain, best." in said
    assert said.count("    facegan train --out") == len(RATES) and record["rows"]["best"]["seeds"].keys() == {"0", "1"}
    for name, least in (("rates.png", 700), ("curves.png", 900), ("grid.png", 700)):
        assert Image.open(three.root / name).width > least


def test_a_sheet_is_read_back_to_the_pixel() -> None:
    for size in (16, 32, 64, 128):
        images = torch.randint(0, 256, (16, 3, size, size)).float() / 127.5 - 1
        torch.testing.assert_close(curve.faces(sheet(images), size).contiguous(), images, atol=1e-5, rtol=0)
