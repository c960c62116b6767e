"""`facegan evaluate` on a restorer, and on a run before and after restoration, against restatements of what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from facegan.checkpoints.restorers import open_restorer
from facegan.checkpoints.run import RunFolder
from facegan.checkpoints.trained import TrainedRun
from facegan.cli import main
from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces
from facegan.data.splits import split
from facegan.evaluation import restoration as quality
from facegan.evaluation import restoration_rates as attributes
from facegan.evaluation.evaluator import Evaluator
from facegan.evaluation.judge import judge as judge_module
from facegan.evaluation.judge.network import JudgeConfig
from facegan.methods import config_of
from facegan.methods.restore.ranges import Degradation
from facegan.pixels import to_float, to_uint8


@pytest.fixture(scope="module")
def trained(train: Callable[..., Path]) -> Path:
    return train(method="restore")


@pytest.fixture(scope="module")
def report(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("quality")
    assert main(["evaluate", str(trained), "--out", str(out)]) == 0
    assert (out / "report.png").exists()
    return json.loads((out / "report.json").read_text())


def decibels(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over images of 10 log10(255^2 / MSE) of their 256 levels."""
    mse = (to_uint8(a).double() - to_uint8(b).double()).square().flatten(1).mean(1)
    return float((10 * (255**2 / mse).log10()).mean())


def test_psnr_is_that_of_the_levels() -> None:
    torch.manual_seed(0)
    a, b = torch.randint(0, 256, (2, 5, 3, 8, 8)).to(torch.uint8)
    assert float(quality.psnr(to_float(a), to_float(b)).mean()) == pytest.approx(decibels(to_float(a), to_float(b)), abs=1e-4)


def test_the_faces_are_those_that_the_run_never_learned_from(trained: Path) -> None:
    config = config_of(RunFolder(trained))
    data = open_faces(config.data, 16)
    parts = split(data.identities, group(data.table, resolve(config.attributes, data.table), minimum=config.minimum_images))
    found, conditions = quality.held_out(str(trained), "", 16, 10_000)
    torch.testing.assert_close(found.images, to_float(data.images[parts.judge]))
    assert {data.table.ids[row] for row in parts.judge}.isdisjoint(RunFolder(trained).ids("restorer"))
    assert conditions["as in training"] == config.degradation  # type: ignore[attr-defined]


def test_the_table_holds_what_the_restorer_and_lanczos_come_to(trained: Path, report: dict) -> None:
    found, conditions = quality.held_out(str(trained), "", 16, quality.MOST)
    assert report["count"] == len(found.images)
    restorer = open_restorer(trained).restorer()
    for name, ways in report["conditions"].items():
        degraded = quality.degraded_faces(found.images, conditions[name], torch.device("cpu"))
        with torch.no_grad():
            restored = ((restorer(degraded) / 2 + 0.5).clamp(0, 1) * 255).floor() / 127.5 - 1
        assert ways["restorer"]["psnr"] == pytest.approx(decibels(found.images, restored), abs=0.05)
        assert ways["Lanczos"]["psnr"] == pytest.approx(decibels(found.images, degraded), abs=0.05)


def test_faces_are_spoiled_alike_each_time_and_whatever_their_number() -> None:
    torch.manual_seed(0)
    faces, ranges = torch.rand(40, 3, 16, 16) * 2 - 1, Degradation(downsample=(1.0, 3.0))
    both = [quality.degraded_faces(faces[:count], ranges, torch.device("cpu")) for count in (40, 33)]
    assert torch.equal(both[0][:33], both[1])


def test_non_local_means_get_every_chance() -> None:
    pytest.importorskip("skimage")
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4) * 2 - 1, size=(32, 32), mode="bilinear")
    noisy = (smooth + 0.1 * torch.randn_like(smooth)).clamp(-1, 1)
    denoise = quality.denoised(smooth, noisy)
    assert denoise is not None and decibels(smooth, denoise(noisy)) > decibels(smooth, noisy) + 3


@pytest.mark.parametrize("arguments, words", [
    (["--stage", "phase1"], "is a restorer"), (["--judge", "x"], "is a restorer"), (["--samples", "0"], "--samples is 0"),
])  # fmt: skip
def test_what_does_not_go_with_a_restorer_is_refused(
    arguments: list[str], words: str, trained: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["evaluate", str(trained), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_weights_that_are_no_run_need_data(trained: Path, tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["convert", str(trained), str(tmp_path / "weights")]) == 0
    assert main(["evaluate", str(tmp_path / "weights")]) == 2
    assert "--data is missing" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "weights"), "--data", str(faces), "--samples", "7"]) == 0
    assert "7 faces of" in capsys.readouterr().out


# --- a run before and after


@pytest.fixture(scope="module")
def generator(train: Callable[..., Path]) -> Path:
    return train(critics="all")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Judges of a few steps each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGAN_CACHE", str(tmp_path_factory.mktemp("judges")))
        patch.setattr(judge_module, "JudgeConfig", partial(JudgeConfig, steps=6, batch=20, width=4, checks=1))
        yield


def test_before_and_after_are_the_judges_verdicts(trained: Path, generator: Path, judges: None, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", str(generator), "--samples", "24", "--restore", str(trained)]) == 0
    printed = capsys.readouterr().out
    restored = json.loads((generator / "evaluation" / "report.json").read_text())["restored"]
    evaluator = Evaluator(TrainedRun(generator).config)
    before = TrainedRun(generator).faces(range(24))
    with torch.no_grad():
        after = (open_restorer(trained).restorer()(to_float(to_uint8(before))) / 2 + 0.5).clamp(0, 1).mul(255).floor() / 127.5 - 1
    for name, images in (("before", before), ("after", after)):
        verdicts = evaluator.judge.verdicts(images)
        assert restored[name]["joint"]["rate"] == pytest.approx(verdicts[:, -1].mean())
        assert list(restored[name]["marginals"].values()) == pytest.approx(verdicts[:, :-1].mean(0).tolist())
    first, second = (evaluator.extractors[0](images).double() for images in (before, after))
    rows, columns = np.triu_indices(24, 1)
    pairs = torch.cdist(first, first)[rows, columns].mean()
    assert restored["identity_drift"] == pytest.approx(float((first - second).norm(dim=1).mean() / pairs), rel=1e-3)
    assert "identity drift" in printed and (generator / "evaluation" / "restored.png").exists()


def test_a_restorer_that_changes_nothing_keeps_everything(
    trained: Path, generator: Path, judges: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = Evaluator(TrainedRun(generator).config)
    faces = to_float(to_uint8(TrainedRun(generator).faces(range(12))))
    monkeypatch.setattr(attributes.RestorerPipeline, "__call__", lambda _network, items: [item.image for item in items])
    report, _ = attributes.before_and_after_rates(evaluator, faces.__getitem__, 12, attributes.RestorerPipeline(str(trained), 0))
    assert report["identity_drift"] == pytest.approx(0, abs=1e-5)
    assert report["before"]["joint"] == report["after"]["joint"] and set(report["kept_marginals"].values()) <= {1.0, None}
    assert "identity drift" in attributes.summary(report)
