"""Damaged records of a run are told in a sentence, whoever reads them: the loop, `generate`, `evaluate`, the critics, `project`."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from facegan import tensors
from facegan.checkpoints.critics import load_critic
from facegan.checkpoints.run import RunFolder
from facegan.checkpoints.trained import TrainedRun
from facegan.errors import FaceganError
from facegan.training import loop

DAMAGES: dict[str, Callable[[Any], object]] = {
    "null": lambda value: None, "text": lambda value: "x" * 1_000_000, "large": lambda value: 2**63, "nan": lambda value: float("nan"),
    "nested": lambda value: {"a": {"b": [value]}},
}  # fmt: skip
BEYOND = ["[" * 100_000, '{"config": 1' + "0" * 400 + "}", "", "null", "[]", "\xff", '{"config": {}, "data_fingerprint": null}']


@pytest.fixture(scope="module")
def run(train: Callable[..., Path]) -> Path:
    return train(recipe="best", phase1_epochs=2, phase2_epochs=2, epochs=2, harvest_every=1, critics="all")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def places(record: Any, way: tuple = ()) -> list[tuple]:
    """Of every value in nested objects."""
    inner = [place for key, value in record.items() for place in places(value, (*way, key))] if isinstance(record, dict) else []
    return [*([way] if way else []), *inner]


def damaged(path: Path, place: tuple, damage: Callable[[Any], object] | None) -> None:
    """Replace the value at `place` of a JSON file; None: remove it."""
    record = json.loads(path.read_text())
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    if damage is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = damage(inner[place[-1]])
    path.write_text(json.dumps(record))


def used(run: Path) -> None:
    """Everything that reads a finished run's records."""
    trained = TrainedRun(run, device="cpu")
    trained.faces([3])
    trained.critic_metadata()
    for stage in trained.critic_stages():
        load_critic(trained.folder, stage)


def told(run: Path) -> str:
    """The sentence that reading ends with; empty where what was damaged has no meaning to a reader, or another one."""
    try:
        used(run)
    except FaceganError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        return str(error)
    return ""


@pytest.mark.parametrize("file", ["config.json", "stages/phase3-beard/state.json", "stages/phase2-bald/state.json"])
def test_no_damage_of_a_record_ends_in_a_traceback(run: Path, copy: Path, file: str) -> None:
    refused = 0
    for place in places(json.loads((run / file).read_text())):
        for damage in (None, *DAMAGES.values()):
            shutil.copy(run / file, copy / file)
            damaged(copy / file, place, damage)
            refused += bool(told(copy))
    assert refused > 40


@pytest.mark.parametrize("file", ["config.json", "stages/phase3-beard/state.json"])
@pytest.mark.parametrize("text", BEYOND)
def test_files_that_hold_no_record_at_all(copy: Path, file: str, text: str) -> None:
    (copy / file).write_bytes(text.encode("latin-1"))
    assert str(copy) in told(copy)


def test_networks_are_built_only_when_their_tensors_fit(copy: Path) -> None:
    damaged(copy / "stages/phase3-beard/state.json", ("generator", "width"), lambda _: 64)  # 2 GB of weights
    assert "in a network of its kind" in told(copy)


def test_tensors_that_are_no_regular_file_or_have_too_long_a_header(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "stages/phase3-beard/model.safetensors"
    monkeypatch.setattr(tensors, "LONGEST_HEADER", 100)
    assert "header of" in told(copy)
    monkeypatch.undo()
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "no regular file" in told(copy)


@pytest.mark.parametrize("method", ["a", "b"])
def test_a_damaged_checkpoint_is_told_when_a_run_is_resumed(
    method: str, train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = dict(phase1_epochs=6, epochs=0) if method == "a" else dict(method="b", phase2_epochs=0, kimg=6 * 8 / 1000)
    with monkeypatch.context() as patch:
        patch.setattr(loop.StageRun, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", **flags)
    [*_, newest] = sorted((tmp_path / "run/checkpoints").iterdir())
    whole = {path.name: path.read_bytes() for path in newest.iterdir()}
    for place in places(json.loads(whole["state.json"])):
        for damage in (None, DAMAGES["nested"]):
            (newest / "state.json").write_bytes(whole["state.json"])
            damaged(newest / "state.json", place, damage)
            try:  # losses of another name do no harm; such a run goes on
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(loop.StageRun, "_timed_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                    train(tmp_path / "run", **flags)
            except FaceganError as error:
                assert str(newest) in str(error) and str(error).isprintable()
            except KeyboardInterrupt:
                assert place[0] not in {"step", "metrics_bytes", "seconds", "waited"}
    (newest / "state.json").write_bytes(whole["state.json"])
    held = load_file(newest / "model.safetensors")
    for name in ["extra/harvest"] * (method == "a") + list(held)[:: len(held) // 3]:
        save_file({**held, name: torch.zeros(3, 1, 4)}, newest / "model.safetensors")
        digest = hashlib.sha256((newest / "model.safetensors").read_bytes()).hexdigest()
        damaged(newest / "state.json", ("tensors_sha256",), lambda _, digest=digest: digest)  # whole, as far as that tells
        with pytest.raises(FaceganError, match="does not fit|where this network|in a network of|harvest is torch.float32"):
            train(tmp_path / "run", **flags)


def test_a_run_without_records_is_no_run(tmp_path: Path) -> None:
    for content in (None, "{}", '{"kind": "stylegan2"}'):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(FaceganError, match="is not a run"):
            RunFolder(tmp_path).config()
