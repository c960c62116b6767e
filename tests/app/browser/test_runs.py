"""The judge and the runs, in a browser."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from facegan import cli

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")
from app_page import Eyes, pixels, unpacked  # noqa: E402


def test_the_report_of_a_run_is_shown_and_downloaded(eyes: Eyes, runs: Path, tmp_path: Path) -> None:
    eyes.open("Judge")
    eyes("judge-stored").click()
    shown = eyes.page.request.get(eyes.picture("judge-result")).body()
    stored = runs / "first" / "evaluation"
    np.testing.assert_array_equal(pixels(shown), pixels((stored / "report.png").read_bytes()))
    report = json.loads((stored / "report.json").read_text())
    assert f"{report['joint']['rate']:.3f}" in eyes.says("judge-figures", "joint rate")
    words = shlex.split(eyes.says("judge-command", "facegan evaluate"))
    assert words[:3] == ["facegan", "evaluate", str(runs / "first")] and words[words.index("--samples") + 1] == "20"
    with eyes.page.expect_download() as download:
        eyes("judge-download").click()
    download.value.save_as(tmp_path / "report.zip")
    assert json.loads(unpacked(tmp_path / "report.zip")["report.json"]) == report


def test_a_run_without_a_report_is_a_sentence(eyes: Eyes) -> None:
    eyes.open("Judge").choose("judge-run-name", "second")
    eyes("judge-stored").click()
    assert "report" in eyes.told("report")


def test_two_runs_are_seen_side_by_side(eyes: Eyes, runs: Path) -> None:
    eyes.open("Runs")
    eyes("runs-run").click()
    alone = eyes.picture("runs-result")
    eyes.choose("runs-other", "second")
    eyes.changes("runs-result", alone)
    eyes.picture("runs-film-other")
    sheets = sorted(path.read_bytes() for path in (runs / "first" / "samples").glob("*.png"))
    assert len(sheets) == 4
    last = eyes.picture("runs-film")
    eyes.slide("runs-slider", "ArrowLeft")
    before = eyes.changes("runs-film", last)
    both = [pixels(eyes.page.request.get(url).body()).tobytes() for url in (last, before)]
    assert both[0] != both[1] and set(both) <= {pixels(sheet).tobytes() for sheet in sheets}


def test_curves_grow_while_they_are_followed(eyes: Eyes, runs: Path) -> None:
    eyes.open("Runs").choose("runs-run-name", "second")
    eyes("runs-run").click()
    before = eyes.picture("runs-result")
    eyes("runs-follow").get_by_role("checkbox").check()
    metrics = runs / "second" / "metrics.jsonl"
    whole = metrics.read_text()
    try:
        last = json.loads(whole.splitlines()[-1])
        with metrics.open("a") as lines:
            lines.write(json.dumps({**last, "step": last["step"] + 2, "D/loss": 5.0}) + "\n")
        eyes.changes("runs-result", before)
    finally:
        metrics.write_text(whole)


def test_the_command_resumes_the_run(eyes: Eyes, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eyes.open("Runs")
    eyes("runs-run").click()
    words = shlex.split(eyes.says("runs-command", "facegan train"))
    assert words[words.index("--out") + 1] == str(runs / "first")
    before = (runs / "first" / "metrics.jsonl").read_bytes()
    assert cli.main(words[1:]) == 0  # a run that has ended stays as it is; one that was another run would be refused
    assert (runs / "first" / "metrics.jsonl").read_bytes() == before
