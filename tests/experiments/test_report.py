"""The report's figures against a restatement of their definitions, from reports of runs that the test makes up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.checkpoints.run import RunFolder, write_json
from facegan.experiments.ablation import costs, curve, intervals, plots, report
from facegan.experiments.ablation.summary import above, summarise
from facegan.experiments.ablation.tasks import Settings, Study, studies_of
from facegan.plotting.sheets import save_png, sheet

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
        "leak": None, "audit": {"Male": {"shift": rate - 0.5 + 0.1 * seed}},
        "judge": {"balanced_accuracy": {"bald": 0.99}, "calibration_error": {"bald": 0.01}, "ceiling": ceiling},
    }  # fmt: skip


def study_of(root: Path, seeds: int) -> Study:
    (study,) = studies_of(GIVEN, Settings(root, tuple(range(seeds)), SAMPLES), (), tuple(RATES))
    for task in study.tasks:
        folder = RunFolder(task.folder)
        task.folder.mkdir(parents=True)
        for stage, seconds in (("phase1", 10.0), ("phase3-beard", 5.0 + task.seed)):
            taken = {} if stage != "phase1" or task.row == "phase1" else {"taken_from": "phase1"}
            folder.finish(stage, {"weight": torch.zeros(1)}, {"steps": 4, "images": 32, "seconds": seconds, **taken})
        if task.seed:  # of seed 0 they are not known
            costs.end(task.costs, "train", costs.begin(task.costs, "train"), 9.0, 4.0 + task.seed)
        task.result.parent.mkdir()
        write_json(task.result, made_up(RATES[task.row][task.seed], task.seed, {"kid_attr": 0.1 * (1 + task.seed), "real_kid_attr": 0.01}))
        points = [{"stage": "phase3-beard", "step": i, "epoch": 4.0 * i, "seconds": 1.0 * i, "joint": 0.1 * i} for i in (1, 2)]
        write_json(task.folder / curve.NAME, points)
        write_json(
            task.folder / "config.json",
            {"config": {**study.config.to_json(), "out": str(task.folder)}, "makes": study.config.MAKES, "data_fingerprint": "x"},
        )
        save_png(sheet(torch.rand(64, 3, 16, 16) * 2 - 1), task.folder / "samples/phase3-beard-0000004.png")
    return study


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("three"), 3)


def wilson_limits(rate: float, n: int) -> tuple[float, float]:
    """The p at which the rate seen is 1.96 standard errors (of that p) away: roots of a square."""
    z = 1.959964**2 / n
    low, high = sorted(np.roots([1 + z, -2 * rate - z, rate**2]).real)
    return low, high


def test_means_and_intervals_over_seeds(three: Study) -> None:
    rows = summarise(three, {})["rows"]
    assert list(rows) == list(RATES)
    for name, rates in RATES.items():
        joint, values = rows[name]["joint"], np.array(rates)
        half = 4.302653 * values.std(ddof=1) / 3**0.5  # Student's t, two degrees of freedom
        own = wilson_limits(values.mean(), 3 * SAMPLES)
        assert (joint["pooled_low"], joint["pooled_high"]) == pytest.approx(own, rel=1e-4)
        wider = max(0, min(values.mean() - half, own[0])), min(1, max(values.mean() + half, own[1]))
        np.testing.assert_allclose([joint["rate"], joint["low"], joint["high"]], [values.mean(), *wider], rtol=1e-4)
        assert (joint["least"], joint["most"]) == (min(rates), max(rates))
        normalised = [(rate - 0.05) / (0.9 + 0.01 * seed - 0.05) for seed, rate in enumerate(rates)]
        np.testing.assert_allclose(rows[name]["normalised"]["rate"], np.mean(normalised))
        np.testing.assert_allclose(rows[name]["normalised"]["most"], max(normalised))
        assert rows[name]["marginals"] == pytest.approx({"bald": values.mean() / 2, "beard": 1 - values.mean()})
        assert rows[name]["ceiling"] == pytest.approx(0.91) and rows[name]["shifts"]["Male"] == pytest.approx(values.mean() - 0.4)
        assert rows[name]["quality"]["kid_attr"] == pytest.approx(0.2) and rows[name]["quality"]["kid"] is None
    assert rows["plain"]["self_score"] is None and rows["best"]["self_score"] == pytest.approx(0.85)


def test_costs_have_phase_1_in_them_where_it_is_owed(three: Study) -> None:
    rows = summarise(three, {})["rows"]
    assert rows["best"]["seconds"] == pytest.approx(10 + 6) and rows["scratch"]["seconds"] == pytest.approx(6)
    # CPU seconds of seeds 1 and 2, whose own are 5 and 6, the same again for phase 1
    assert rows["best"]["cpu_seconds"] == pytest.approx(11) and rows["scratch"]["cpu_seconds"] == pytest.approx(5.5)
    assert [rows[name]["seeds"]["0"]["begun"] for name in ("best", "scratch")] == [10, 0]


def test_differences_are_paired_over_seeds(three: Study) -> None:
    rows = summarise(three, {})["rows"]
    differences = np.array(RATES["best"]) - np.array(RATES["regression"])
    half = 4.302653 * differences.std(ddof=1) / 3**0.5
    found = rows["best"]["differences"]["regression"]
    np.testing.assert_allclose([found["rate"], found["low"], found["high"]], differences.mean() + half * np.array([0, -1, 1]), rtol=1e-4)
    assert found["verdict"] == "no clear difference" and found["seeds"] == [0, 1, 2] and found["low"] < 0 < found["high"]
    assert found["marginals"]["bald"]["rate"] == pytest.approx(differences.mean() / 2)
    assert found["marginals"]["beard"]["rate"] == pytest.approx(-differences.mean())
    assert rows["best"]["differences"]["plain"]["verdict"] == "helps" and rows["best"]["differences"]["thesis"] is None
    assert rows["phase1"]["differences"] == rows["scratch"]["differences"] == {}
    assert rows["regression"]["differences"] == {"halves": None}  # that row has not been run


def test_limits_end_where_rates_and_differences_do() -> None:
    found = intervals.difference({0: (0.1, 50), 1: (0.9, 50)}, {0: (0.5, 50), 1: (0.4, 50)})
    assert found is not None and (found.low, found.high) == (-1, 1)
    assert intervals.rate_over_seeds([0.1, 0.9], [50, 50])[1:] == (0, 1)


def test_few_seeds_that_agree_by_chance_are_no_certainty() -> None:
    same = {seed: (0.5, 100) for seed in range(3)}
    found = intervals.difference({seed: (0.51, 100) for seed in range(3)}, same)
    alone = intervals.difference({0: (0.51, 300)}, {0: (0.5, 300)})
    assert found is not None and found == pytest.approx(alone) and found.low < 0 < found.high
    assert intervals.rate_over_seeds([0.5] * 3, [100] * 3)[1:] == pytest.approx(wilson_limits(0.5, 300), rel=1e-5)


def test_one_seed_has_the_intervals_of_its_samples(tmp_path: Path) -> None:
    rows = summarise(study_of(tmp_path, 1), {})["rows"]
    best = rows["best"]
    assert (best["joint"]["low"], best["joint"]["high"]) == pytest.approx(wilson_limits(0.9, SAMPLES), rel=1e-5)
    assert (best["normalised"]["low"], best["normalised"]["high"]) == (-1.0, 2.0)
    assert best["differences"]["regression"]["verdict"] == "helps (this seed)" and best["differences"]["regression"]["low"] > 0.25
    assert best["cpu_seconds"] is None


def test_samples_that_share_styles_have_no_interval_of_their_own() -> None:
    found = intervals.difference({0: (0.9, 256)}, {0: (0.1, 256)}, independent=False)
    assert found is not None and intervals.verdict(found, 1) == "one seed, no verdict"
    assert np.isnan(intervals.rate_over_seeds([0.9], [256], independent=False).low)
    over = intervals.rate_over_seeds([0.5, 0.52], [256, 256], independent=False)
    assert over == pytest.approx((0.51, 0.51 - 12.7062 * 0.01, 0.51 + 12.7062 * 0.01), rel=1e-4)  # one degree of freedom


def test_undefined_seeds_are_counted(three: Study) -> None:
    task = three.of("plain")[1]
    text = task.result.read_text()
    broken = json.loads(text) | {"normalised": {"rate": None, "low": None, "high": None}}
    try:
        write_json(task.result, broken)
        row = summarise(three, {})["rows"]["plain"]
    finally:
        task.result.write_text(text)
    assert row["normalised"]["of"] == 2 and report.normalised(row).endswith("] (2 of 3 seeds)")


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
    assert "one half against the other: kid_attr 0.0100." in said and report.ATTR_NOTE in said
    assert "| `best` | `regression` | 0, 1 | " in said and "3 comparisons at 95 % each" in said
    assert "Helped: best (against plain). Hurt: none. No clear difference: plain, best." in said
    assert "* seed 1: bald 0.990 balanced accuracy; bald 0.010 calibration error; ceiling 0.910" in said
    assert "| `plain` | -0.38 |" in said  # shifts of Male: -0.48, -0.39, -0.28
    assert said.count("    facegan train --out") == len(RATES) and record["rows"]["best"]["seeds"].keys() == {"0", "1"}
    for name, least in (("rates.png", 700), ("curves.png", 900), ("times.png", 900), ("grid.png", 700)):
        assert Image.open(three.root / name).width > least


def test_a_sheet_is_read_back_to_the_pixel() -> None:
    for size in (16, 32, 64, 128):
        images = torch.randint(0, 256, (16, 3, size, size)).float() / 127.5 - 1
        torch.testing.assert_close(curve.faces(sheet(images), size).contiguous(), images, atol=1e-5, rtol=0)


def test_the_grid_has_one_seed_in_all_rows(three: Study) -> None:
    first = three.of("best")[0]
    text = first.result.read_text()
    first.result.unlink()
    try:
        assert {task.seed for task in plots._of_one_seed(three)} == {1}
    finally:
        first.result.write_text(text)
    assert {task.seed for task in plots._of_one_seed(three)} == {0}


def test_all_rows_of_a_seed_have_one_floor() -> None:
    own = made_up(0.5, 0, {}) | {"samples": 8}  # floor 0.05, ceiling 0.9
    assert above(own, 0.04) == own
    higher = above(own, 0.3)
    assert higher["floor"] == 0.3 and higher["normalised"]["rate"] == pytest.approx((0.5 - 0.3) / (0.9 - 0.3))
    assert above(own, 0.95)["normalised"]["rate"] is None and own["floor"] == 0.05
