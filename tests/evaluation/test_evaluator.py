"""`facegan evaluate` and `facegan generate`, end to end on a run of a few steps, against what its files say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import facegan
from facegan import __version__, cli
from facegan.checkpoints import checkpoint
from facegan.checkpoints.critics import load_critic
from facegan.checkpoints.merged import unpack_generator
from facegan.checkpoints.run import RunFolder
from facegan.checkpoints.trained import TrainedRun
from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces
from facegan.data.splits import split
from facegan.errors import FaceganError
from facegan.evaluation import evaluator
from facegan.evaluation.features import attr_features
from facegan.evaluation.judge import judge as judge_module
from facegan.evaluation.judge.judge import Judge
from facegan.evaluation.judge.network import JudgeConfig
from facegan.evaluation.quality import compare
from facegan.evaluation.report import EvaluationReport
from facegan.evaluation.summary import summary
from facegan.extras import available
from facegan.methods import config_of
from facegan.options import parse_seeds
from facegan.pixels import to_float

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
    assert cli.main(["evaluate", str(run), "--samples", str(SAMPLES)]) == 0
    return json.loads((run / "evaluation/report.json").read_text())


def evaluated(run: Path, **options: object) -> EvaluationReport:
    return facegan.load(run).evaluate(**options)


def drawn(run: Path, stage: str, seeds: list[int], y: list[float] | None = None) -> torch.Tensor:
    """The faces of seeds straight from the stage's files."""
    generator = unpack_generator(*checkpoint.load(run / "stages" / stage))
    z = [np.random.RandomState(seed).randn(*config_of(RunFolder(run)).z_shape) for seed in seeds]
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
    assert report["leak"] is None and report["facegan"] == __version__
    assert isinstance(report["command"], str) and "torch" in report["machine"] and report["seconds"] > 0
    assert Image.open(run / "evaluation/report.png").width > 1000


def test_the_figures_are_those_of_judge_and_critics(report: dict, run: Path, judges: Path) -> None:
    seeds = list(range(SAMPLES))
    judge, images = Judge.load(next(judges.iterdir())), drawn(run, "phase3-beard", seeds)
    np.testing.assert_allclose(report["joint"]["rate"], judge.verdicts(images)[:, -1].mean())
    np.testing.assert_allclose(report["floors"]["phase1"], judge.verdicts(drawn(run, "phase1", seeds))[:, -1].mean())
    np.testing.assert_allclose(report["self_score"], lowest_scores(run, images).mean().item(), rtol=1e-4)
    for name in ("bald", "beard"):
        metadata = json.loads((run / "stages" / f"phase2-{name}" / checkpoint.METADATA).read_text())
        assert report["critics"][name] == {key: metadata[key] for key in ("balanced_accuracy", "blurry_accuracy")}
    said = summary(report)
    assert f"bald {report['critics']['bald']['balanced_accuracy']:.3f} (blurry" in said and "beard " in said


def test_a_judge_of_other_data_is_refused(report: dict, run: Path, judges: Path, faces: Path, tmp_path: Path) -> None:
    own = next(judges.iterdir())
    others = shutil.copytree(faces, tmp_path / "others")
    (others / "identity_CelebA.txt").unlink()  # nobody known twice: another split
    assert evaluated(run, samples=2, judge=str(own), data=str(faces)).samples == 2
    with pytest.raises(FaceganError, match="the images of 'others' are others"):
        evaluated(run, samples=2, judge=str(own), data=str(others))


def test_the_report_says_how_the_faces_look_and_what_else_changed(report: dict, run: Path, judges: Path) -> None:
    judge = Judge.load(next(judges.iterdir()))
    config = RunFolder(run).config()
    data = open_faces(config.data, config.resolution)
    groups = group(data.table, resolve(config.attributes, data.table), minimum=config.minimum_images)
    halves = [to_float(data.images[np.sort(half)]) for half in split(data.identities, groups).joint_halves]
    own, first, second = (attr_features(judge, part) for part in (drawn(run, "phase3-beard", list(range(SAMPLES))), *halves))
    if available():
        apart = {f"real_{name}": value for name, value in compare(first, second).items() if name != "fid_attr"}
        expected = compare(own, torch.cat([first, second])) | apart
        assert report["quality"] == pytest.approx(expected, rel=1e-3, abs=1e-5) and "kid" not in report["quality"]
    else:
        assert "pip install" in report["quality"]["note"]
    assert report["diversity"]["diversity_attr"] == pytest.approx(torch.pdist(own).mean().item(), rel=1e-3)
    assert report["memorisation"]["training_images"] == len(recorded(run)) and report["memorisation"]["ratio"] > 0
    assert report["audit"].keys() == {"Male", "Young", "Smiling"}  # the columns that these faces have
    male = report["audit"]["Male"]
    assert male["groups"].keys() == {"bald only", "beard only", "joint"} and male["groups"]["joint"]["labels"] == 1
    said = summary(report)
    for words in ("calibration error", "ceiling", "lpips", "not measured", "nearest", "audit", "per cent the judge sees"):
        assert words in said
    assert Image.open(run / "evaluation/nearest.png").width > 300


def recorded(run: Path) -> set[str]:
    return {name for file in (run / "ids").iterdir() for name in file.read_text().split()}


def test_without_the_extra_a_report_says_so_and_does_not_fail(run: Path, judges: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "available", lambda: False)
    said = evaluated(run, samples=4).describe()
    assert "KID, FID, precision, recall: not measured, needs pip install 'facegan[metrics]'" in said


def test_a_run_that_shares_images_with_the_judge_is_refused(run: Path, report: dict, judges: Path, tmp_path: Path) -> None:
    leaked = shutil.copytree(run, tmp_path / "leaked", ignore=shutil.ignore_patterns("evaluation"))
    known = Judge.load(next(judges.iterdir())).learnt_ids[0][0]
    with open(leaked / "ids/phase1.txt", "a") as file:
        file.write(known + "\n")
    with pytest.raises(FaceganError, match=f"judge: it learned from 1 images that .*leaked learned from too, such as {known}"):
        evaluated(leaked, samples=2)


def test_drawn_faces_of_another_seed_share_numbers_and_no_faces(run: Path) -> None:
    trained = SimpleNamespace(config=SimpleNamespace(data="synthetic:4", seed=0))
    assert evaluator.is_other_synthetic(trained, "synthetic-5") and not evaluator.is_other_synthetic(trained, "synthetic-4")
    assert not evaluator.is_other_synthetic(TrainedRun(run), "others")


def test_a_critic_of_the_run_is_no_judge(run: Path) -> None:
    with pytest.raises(FaceganError, match="judge: .*phase2-bald does not hold a complete judge"):
        evaluated(run, samples=2, judge=str(run / "stages/phase2-bald"))


def test_a_bad_file_of_weights_ends_it_before_any_work(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for flag, file in (("--weights", "weights-inception-2015-12-05-6726825d.pth"), ("--lpips", "vgg16-397923af.pth")):
        assert cli.main(["evaluate", str(run), "--out", str(tmp_path), flag, str(tmp_path / "absent.pth")]) == 2
        said = capsys.readouterr().err
        assert f"{flag} {tmp_path / 'absent.pth'} cannot be read" in said and file in said and "https://" in said


def test_a_conditional_run_leaks_and_is_floored_by_the_run_it_is_compared_with(
    train: Callable, run: Path, judges: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    conditional = train(recipe="conditional", epochs=0, phase2_epochs=0)
    report, floored = (evaluated(conditional, samples=SAMPLES, floor=floor).to_json() for floor in ("", str(run)))
    judge, seeds = Judge.load(next(judges.iterdir())), list(range(SAMPLES))
    both, alone = (drawn(conditional, "phase1", seeds, y) for y in ([1.0, 1.0], [1.0, 0.0]))
    assert (both - alone).abs().max() > 1e-3
    leak, common = (judge.verdicts(images)[:, -1].mean() for images in (alone, drawn(run, "phase1", seeds)))
    for found, floor in ((report, leak), (floored, common)):
        np.testing.assert_allclose(found["joint"]["rate"], judge.verdicts(both)[:, -1].mean())
        np.testing.assert_allclose([found["leak"]["rate"], found["floors"]["phase1"]], [leak, floor])
    assert floored["floor_run"] == str(run)
    assert report["critics"] == {} and report["self_score"] is None and "no critics" in summary(report)
    assert "of the faces asked for attribute 1 alone" in summary(report)
    words = "networks that may have seen faces with all attributes"
    assert report["may_have_seen_joint_faces"] is False and words not in summary(report)
    assert words in summary({**report, "may_have_seen_joint_faces": True})
    assert cli.main(["evaluate", str(run), "--floor", str(conditional), "--out", str(tmp_path / "x")]) == 2
    assert "is a conditional network" in capsys.readouterr().err


def test_one_seed_is_one_face_in_any_company(run: Path, tmp_path: Path) -> None:
    facegan.load(run).generate(seeds="3,0-1,12345").save(tmp_path / "four")
    facegan.load(run).generate(seeds=[3]).save(tmp_path / "one")
    names = ["grid.png", "seed0000.png", "seed0001.png", "seed0003.png", "seed12345.png"]
    assert sorted(path.name for path in (tmp_path / "four").iterdir()) == names
    assert (tmp_path / "four/seed0003.png").read_bytes() == (tmp_path / "one/seed0003.png").read_bytes()
    written = np.asarray(Image.open(tmp_path / "one/seed0003.png")).astype(float)
    expected = (drawn(run, "phase3-beard", [3])[0].permute(1, 2, 0).numpy().clip(-1, 1) + 1) * 127.5
    assert np.abs(written - expected).max() <= 1


def test_best_goes_by_the_critic_least_convinced(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = lowest_scores(run, drawn(run, "phase3-beard", list(range(12)))).numpy()
    faces = facegan.load(run).generate(seeds=range(12), best=3)
    assert faces.seeds == tuple(sorted(np.argsort(-scores)[:3])) and len(faces) == 3 and not caplog.records
    torch.testing.assert_close(faces.tensors, drawn(run, "phase3-beard", list(faces.seeds)), rtol=1e-4, atol=1e-5)
    half = shutil.copytree(run, tmp_path / "half")
    shutil.rmtree(half / "stages/phase2-beard")
    facegan.load(half).generate(seeds="0-3", best=1)
    assert "`best` uses bald alone: this run has no critic for beard" in caplog.text
    shutil.rmtree(half / "stages/phase2-bald")
    with pytest.raises(FaceganError, match="`best` needs critics"):
        facegan.load(half).generate(seeds="0-3", best=1)


def test_seeds_are_read_as_written() -> None:
    assert parse_seeds("0-3, 7,2") == (0, 1, 2, 3, 7, 2) and parse_seeds("4294967295") == (2**32 - 1,)


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
