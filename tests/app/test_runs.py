"""Runs and Judge: what a training left behind, and what the judge says of its faces and of those that the page shows."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.app import faces, judging, mixes, runs
from facegan.app.mixes import Asked
from facegan.app.networks import Networks
from facegan.app.sessions import Session
from facegan.app.turns import Worker
from facegan.app.words import PageError
from facegan.checkpoints.run import RunFolder
from facegan.cli import parser
from facegan.errors import FaceganError
from facegan.methods import config_of, configured
from facegan.options import App
from facegan.plotting.courses import courses, thinned, whole_parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, train: Callable[..., Path]) -> Path:
    """Two runs in a folder."""
    place = tmp_path_factory.mktemp("runs")
    shutil.copytree(train(critics="all"), place / "a")
    shutil.copytree(train(method="b"), place / "b")
    return place


@pytest.fixture(scope="module")
def here(folder: Path) -> Networks:
    return Networks(App(runs=str(folder), device="cpu"))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge learns for seconds."""
    from facegan.evaluation.judge import judge

    monkeypatch.setattr(judge, "JudgeConfig", partial(judge.JudgeConfig, steps=6, batch=20, width=4, checks=1))


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_command_that_resumes_a_run_asks_for_the_same_run(here: Networks, folder: Path, name: str) -> None:
    words = shlex.split(runs.resume(here, str(folder / name)))
    assert words[:2] == ["facegan", "train"]
    values = vars(parser(words[1:]).parse_args(words[1:]))
    assert values.pop("command")
    del values["classes"]
    wanted, config = config_of(RunFolder(folder / name)).to_json(), configured(**values).to_json()
    assert {**wanted, "out": str(folder / name)} == config


def test_curves_are_those_of_the_record(here: Networks, folder: Path, session: Session) -> None:
    rows = [json.loads(line) for line in (folder / "a" / "metrics.jsonl").read_text().splitlines()]
    went = runs.progress(str(folder / "a"))
    assert [stage for _, stage in went.marks] == list(dict.fromkeys(row["stage"] for row in rows))
    losses = went.figures["G/loss"]
    assert losses[~np.isnan(losses[:, 1]), 1].tolist() == [row["G/loss"] for row in rows if "G/loss" in row]
    known = runs.figures(here, [str(folder / "a"), str(folder / "b")])
    assert "loss" in known[0]
    assert not {"seconds", "step", "stage"} & {*known}
    found = runs.course(here, session, [str(folder / "a"), str(folder / "b")], known[:4])
    assert Image.open(found.picture).width > 900
    assert found.words.startswith("a: ")


def test_a_record_that_is_being_written_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    lines = [
        '{"stage": "x", "step": 2, "loss": 1.5}',
        "5",
        '{"stage": "x", "step": 4, "loss": NaN, "flag": "y"}',
        "[",
        '{"stage": "y", "st',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    went = runs.progress(str(tmp_path))
    assert went.steps == 4
    assert went.figures["loss"][:, 1].tolist() == [1.5]
    assert runs.progress(str(tmp_path / "nothing")).figures == {}


def test_a_film_goes_by_stage_and_step(here: Networks, folder: Path) -> None:
    film = runs.sheets(here, str(folder / "a"))
    assert len(film) > 2
    stages = [path.stem.rpartition("-")[0] for path in film]
    assert list(dict.fromkeys(stages)) == [stage for _, stage in runs.progress(str(folder / "a")).marks if stage in stages]
    path, words = runs.sheet(here, str(folder / "a"), 10**6)
    assert path == film[-1]
    assert words.endswith(f"({len(film)} of {len(film)})")
    assert runs.sheet(here, str(folder / "a"), 0)[0] == film[0]


def test_what_leads_out_of_a_run_is_not_shown(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "runs" / "a")
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    shutil.rmtree(tmp_path / "runs" / "a" / "samples")
    (tmp_path / "runs" / "a" / "samples").mkdir()
    (tmp_path / "runs" / "a" / "samples" / "phase1-0000001.png").symlink_to(secret)
    networks = Networks(App(runs=str(tmp_path / "runs"), device="cpu"))
    with pytest.raises(PageError, match="lies outside the run"):
        runs.sheet(networks, str(tmp_path / "runs" / "a"), 0)
    for path in ("/etc", str(tmp_path), "runs/../../x", ""):
        with pytest.raises(FaceganError, match="is no run that this page offers"):
            networks.run(path)


def test_charts_break_between_stages_and_stay_short() -> None:
    course = np.array([[1, 2.0], [2, 3], [np.nan, np.nan], [3, 1]])
    assert [part.tolist() for part in whole_parts(course)] == [[[1, 2], [2, 3]], [[3, 1]]]
    long = np.stack([np.arange(5000.0), np.ones(5000)], 1)
    assert len(thinned(long)) == 600
    assert thinned(course) is course
    empty = courses({}, [], "steps")
    assert empty.size[0] > 200
    picture = courses({"loss": [course, np.zeros((0, 2))]}, ["one", "two"], "steps", [(0, "x"), (2, "y")])
    assert len(picture.getcolors(1 << 20) or []) > 4


# --- the judge


def judge(networks: Networks, session: Session, run: str, what: str, samples: int = 16) -> judging.Judged:
    with session.job("judge") as job:
        worker = Worker(job, lambda: judging.evaluate(networks, session, job, run, what, samples))
        for _ in worker:
            pass
        return worker.result


def report_of(path: Path) -> dict:
    """Without what tells when, where and by which command it was made."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in ("seconds", "command", "faces")}


def test_a_run_is_judged_as_its_command_judges_it(here: Networks, folder: Path, session: Session, typed: Callable[[str], Path]) -> None:
    run = str(folder / "a")
    with pytest.raises(PageError, match="has no report yet"):
        judging.stored(here, session, run)
    judged = judge(here, session, run, judging.OWN)
    assert judged.command == f"facegan evaluate {run} --samples 16 --out evaluation --device cpu"
    place = typed(judged.command) / "evaluation"
    assert judged.picture.read_bytes() == (place / "report.png").read_bytes()
    assert report_of(judged.picture.with_name("report.json")) == report_of(place / "report.json")
    assert "joint rate" in judged.words

    shutil.copytree(place, folder / "a" / "evaluation")
    try:
        stored = judging.stored(here, session, run)
        assert stored.picture.read_bytes() == (place / "report.png").read_bytes()
        (folder / "a" / "evaluation" / "report.png").unlink()
        bars = judging.stored(here, session, run)
        assert Image.open(bars.picture).height < Image.open(place / "report.png").height
        (folder / "a" / "evaluation" / "report.json").write_text('{"joint": 5}')
        with pytest.raises(PageError, match="^the report does not say"):
            judging.stored(here, session, run)
    finally:
        shutil.rmtree(folder / "a" / "evaluation")


def test_the_faces_shown_are_judged_as_their_commands_judge_them(
    here: Networks, folder: Path, session: Session, typed: Callable[[str], Path]
) -> None:
    run = str(folder / "a")
    with pytest.raises(FaceganError, match="No faces are shown yet"):
        judge(here, session, run, judging.SHOWN)
    mixes.mix(here, session, Asked(str(folder / "b"), "0-1", (), "4-6", (), "crossover", 1, 3))
    mixed = judge(here, session, run, judging.SHOWN)
    assert mixed.command.startswith("facegan mix --network ")
    place = typed(mixed.command)
    assert report_of(mixed.picture.with_name("report.json")) == report_of(place / "evaluation" / "report.json")
    assert report_of(mixed.picture.with_name("report.json"))["samples"] == 6  # the grid beside them is no face

    faces.generate(here, session, run, "0-7", 1.0, 5)
    made = judge(here, session, run, judging.SHOWN)
    assert "--best 5 --out faces" in made.command
    assert report_of(made.picture.with_name("report.json"))["samples"] == 5


def test_a_judge_that_has_nothing_to_go_by_is_a_sentence(networks: Networks, here: Networks, folder: Path, session: Session) -> None:
    with pytest.raises(FaceganError, match="The judge needs a run"):
        judge(networks, session, "", judging.OWN)
    with pytest.raises(FaceganError, match="is no run that this page offers"):
        judge(here, session, "/etc", judging.OWN)
    with pytest.raises(FaceganError, match="expected 1 to 4096"):
        judge(here, session, str(folder / "a"), judging.OWN, 0)
    with pytest.raises(FaceganError, match="what is judged is 'x'"):
        judge(here, session, str(folder / "a"), "x")


def test_a_recipe_is_searched_and_found(here: Networks, folder: Path, session: Session) -> None:
    network = str(folder / "b")
    assert here.with_critics() == [str(folder / "a"), network]
    with session.job("mix") as job:
        asked = Asked(network, "0-7", (), "8-15", (), mixes.BESIDE)
        worker = Worker(job, lambda: mixes.search(here, session, asked, str(folder / "a"), 8))
        for _ in worker:
            pass
        found = worker.result
    assert found.command.startswith(f"facegan mix-search --network {network} --rows 0 1 2 3 4 5 6 7 --cols 8 9")
    assert mixes.modes(here, session, network)[0] == mixes.FOUND
    mixed = mixes.mix(here, session, Asked(network, "0", (), "8", (), mixes.FOUND))
    assert mixed.recipe == found.recipe.describe()
    assert "--recipe search/recipe.json" in mixed.command
