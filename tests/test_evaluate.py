"""`facegan evaluate` and `facegan generate`, end to end on a run of a few steps, against what its files say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facegan import cli, evaluate
from facegan.errors import FaceganError
from facegan.generate import generate
from facegan.generators import parse_seeds
from facegan.methods.a.merge import unpack_generator
from facegan.methods.a.phase2 import load_critic
from facegan.metrics import judge as judge_module
from facegan.metrics.judge import Judge
from facegan.metrics.judge_net import JudgeConfig
from facegan.training import checkpoint
from facegan.training.folder import RunFolder

SAMPLES = 20
INTERVAL = {"rate", "low", "high"}


@pytest.fixture(scope="module")
def run(train: Callable[..., Path]) -> Path:
    return train(critics="all")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache in which `evaluate` keeps its judges, here of a few steps each."""
    folder = tmp_path_factory.mktemp("judges")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGAN_CACHE", str(folder))
        patch.setattr(judge_module, "JudgeConfig", partial(JudgeConfig, steps=6, batch=20, width=4, checks=1))
        yield folder / "judge"


@pytest.fixture(scope="module")
def report(run: Path, judges: Path) -> dict:
    evaluate.evaluate(str(run), data="", stage="", samples=SAMPLES, judge="", out="")
    return json.loads((run / "evaluation/report.json").read_text())


def drawn(run: Path, stage: str, seeds: list[int], y: list[float] | None = None) -> torch.Tensor:
    """The faces of seeds straight from the stage's files."""
    generator = unpack_generator(*checkpoint.load(run / "stages" / stage))
    z = [np.random.RandomState(seed).randn(*RunFolder(run).config().z_dims) for seed in seeds]
    asked = None if y is None else torch.tensor([y] * len(seeds))
    return generator(torch.tensor(np.stack(z), dtype=torch.float32), asked)


def lowest_scores(run: Path, images: torch.Tensor) -> torch.Tensor:
    bald, beard = (load_critic(RunFolder(run), f"phase2-{name}") for name in ("bald", "beard"))
    return torch.minimum(bald(images), beard(images))


def test_the_report_has_its_format(report: dict, run: Path) -> None:
    assert report["attributes"] == ["bald", "beard"] and report["samples"] == SAMPLES
    for interval in (report["joint"], report["normalised"], *report["marginal_intervals"].values()):
        assert interval.keys() == INTERVAL
    joint = report["joint"]
    assert 0 <= joint["low"] <= joint["rate"] <= joint["high"] <= 1
    assert report["marginals"] == {name: report["marginal_intervals"][name]["rate"] for name in ("bald", "beard")}
    for rate in (report["floor"], report["ceiling"], *report["marginals"].values()):
        assert isinstance(rate, float) and 0 <= rate <= 1
    assert joint["rate"] <= min(report["marginals"].values())
    assert report["floor"] == max(report["floors"].values()) and report["floors"].keys() == {"phase1", "blurred"}
    assert report["judge"]["balanced_accuracy"].keys() == {"bald", "beard"}
    assert isinstance(report["command"], str) and "torch" in report["machine"] and report["seconds"] > 0
    assert Image.open(run / "evaluation/report.png").width > 1000


def test_the_figures_are_those_of_judge_and_critics(report: dict, run: Path, judges: Path) -> None:
    seeds = list(range(SAMPLES))
    judge, images = Judge.load(next(judges.iterdir())), drawn(run, "phase3-beard", seeds)
    np.testing.assert_allclose(report["joint"]["rate"], judge.verdicts(images)[:, -1].mean())
    np.testing.assert_allclose(report["floors"]["phase1"], judge.verdicts(drawn(run, "phase1", seeds))[:, -1].mean())
    np.testing.assert_allclose(report["self_score"], lowest_scores(run, images).mean().item(), rtol=1e-4)
    for name in ("bald", "beard"):
        facts = json.loads((run / "stages" / f"phase2-{name}" / checkpoint.FACTS).read_text())
        assert report["critics"][name] == {key: facts[key] for key in ("balanced_accuracy", "blurry_accuracy")}
    said = evaluate.summary(report)
    assert f"bald {report['critics']['bald']['balanced_accuracy']:.3f} (blurry" in said and "beard " in said


def test_a_judge_of_other_data_is_refused(report: dict, run: Path, judges: Path, faces: Path, tmp_path: Path) -> None:
    own = next(judges.iterdir())
    others = shutil.copytree(faces, tmp_path / "others")
    (others / "identity_CelebA.txt").unlink()  # nobody known twice: another split
    ask = partial(evaluate.evaluate, str(run), stage="", samples=2, judge=str(own), out=str(tmp_path / "out"))
    assert ask(data=str(faces))["samples"] == 2
    with pytest.raises(FaceganError, match="the images of 'others' are others"):
        ask(data=str(others))


def test_a_conditional_run_is_floored_by_attribute_1_alone(
    train: Callable, judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, given = train(recipe="conditional", epochs=0, phase2_epochs=0), {}

    def spy(judge: Judge, samples: torch.Tensor, **references: object) -> dict:
        given.update(references, samples=samples)
        return measure(judge, samples, **references)

    measure = evaluate.measure
    monkeypatch.setattr(evaluate, "measure", spy)
    report = evaluate.evaluate(str(run), data="", stage="", samples=3, judge="", out=str(tmp_path / "out"))
    both, alone = (drawn(run, "phase1", [0, 1, 2], y) for y in ([1.0, 1.0], [1.0, 0.0]))
    torch.testing.assert_close(given["samples"], both)
    torch.testing.assert_close(given["g1_samples"], alone)
    assert (both - alone).abs().max() > 1e-3
    assert report["critics"] == {} and report["self_score"] is None and "no critics" in evaluate.summary(report)


def test_one_seed_is_one_face_in_any_company(run: Path, tmp_path: Path) -> None:
    generate(str(run), "3,0-1,12345", str(tmp_path / "four"))
    generate(str(run), "3", str(tmp_path / "one"))
    names = ["grid.png", "seed0000.png", "seed0001.png", "seed0003.png", "seed12345.png"]
    assert sorted(path.name for path in (tmp_path / "four").iterdir()) == names
    assert (tmp_path / "four/seed0003.png").read_bytes() == (tmp_path / "one/seed0003.png").read_bytes()
    written = np.asarray(Image.open(tmp_path / "one/seed0003.png")).astype(float)
    expected = (drawn(run, "phase3-beard", [3])[0].permute(1, 2, 0).numpy().clip(-1, 1) + 1) * 127.5
    assert np.abs(written - expected).max() <= 1


def test_best_goes_by_the_critic_least_convinced(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = lowest_scores(run, drawn(run, "phase3-beard", list(range(12)))).numpy()
    generate(str(run), "0-11", str(tmp_path / "best"), best=3)
    best = {f"seed{seed:04d}.png" for seed in np.argsort(-scores)[:3]}
    assert {path.name for path in (tmp_path / "best").glob("seed*")} == best and not caplog.records
    half = shutil.copytree(run, tmp_path / "half")
    shutil.rmtree(half / "stages/phase2-beard")
    generate(str(half), "0-3", str(tmp_path / "warned"), best=1)
    assert "goes by bald alone: this run has no critic for beard" in caplog.text
    shutil.rmtree(half / "stages/phase2-bald")
    with pytest.raises(FaceganError, match="--best needs critics"):
        generate(str(half), "0-3", str(tmp_path / "none"), best=1)


def test_seeds_are_read_as_written() -> None:
    assert parse_seeds("0-3, 7,2") == [0, 1, 2, 3, 7, 2] and parse_seeds("4294967295") == [2**32 - 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "99999999999"], "up to 4294967295"),
        (["--seeds", "4294967296"], "up to 4294967295"),
        (["--seeds", "-1"], "expected numbers"),
        (["--seeds", "5-3"], "0 faces"),
        (["--seeds", "0-4000000000"], "4000000001 faces: expected 1 to 100000"),
        (["--best", "-1"], "--best is -1"),
    ],
)
def test_mistakes_of_generate(words: list[str], said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    option, value = words
    assert cli.main(["generate", str(run), "--out", str(tmp_path), f"{option}={value}"]) == 2
    assert said in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file/out")
    commands = (["generate", str(run), "--seeds=1"], ["evaluate", str(run)], ["data", "synth", "--num=2", "--resolution=16"])
    for command in commands:
        assert cli.main([*command, "--out", out]) == 2
        said = capsys.readouterr().err
        assert f"facegan: {out}" in said and "name a place where you may" in said and "Traceback" not in said
