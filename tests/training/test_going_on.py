"""Folders of runs: claimed only by what can start, given to another run while nothing is lost, and gone on with when they have ended."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facegan.checkpoints.networks import open_networks, save_networks
from facegan.errors import FaceganError
from facegan.training import loop
from facegan.training.ada import Strength

LONG = {
    "a": (dict(recipe="best", phase1_epochs=2, phase2_epochs=2, harvest_every=1, critics="previous"), "epochs", 3, 7, "phase3-beard"),
    "b": (dict(method="b", phase2_epochs=0, ada_kimg=0.05, log_every=1), "kimg", 3 * 8 / 1000, 7 * 8 / 1000, "stylegan2"),
    "restore": (dict(method="restore", log_every=1), "kimg", 3 * 8 / 1000, 7 * 8 / 1000, "restorer"),
}
Rows = Callable[[Path], list[dict]]


@pytest.mark.parametrize("method", LONG)
def test_a_finished_run_made_longer_equals_one_that_was_so_from_the_start(
    method: str, train: Callable[..., Path], rows: Rows, tmp_path: Path
) -> None:
    flags, length, short, long, stage = LONG[method]
    whole = train(**flags, **{length: long})
    run = train(tmp_path / "run", **flags, **{length: short})
    assert (run / "stages" / stage / "state.json").exists()
    train(run, **flags, **{length: long})
    for name, tensor in load_file(whole / "stages" / stage / "model.safetensors").items():
        assert torch.equal(tensor, load_file(run / "stages" / stage / "model.safetensors")[name]), name
    if flags.get("log_every") == 1:  # else the short one has a row of its own, where it ended
        assert rows(run) == rows(whole)
    assert json.loads((run / "stages" / stage / "state.json").read_text())["steps"] == 7
    [kept] = (run / "checkpoints").iterdir()
    assert kept.name.endswith("-0000007")
    record = (run / "config.json").read_bytes()
    train(run, **flags, **{length: short})  # less than it has: nothing is trained, and the record keeps what the weights have seen
    assert (run / "config.json").read_bytes() == record
    shutil.rmtree(kept)
    with pytest.raises(FaceganError, match=f"has finished its training, after 0.056 kimg, 7 steps of .* holds no state of {stage}"):
        train(run, **flags, **{length: long * 2})
    assert (run / "config.json").read_bytes() == record


def test_a_run_that_ends_where_it_was_stopped_goes_on_too(train: Callable[..., Path], rows: Rows, tmp_path: Path) -> None:
    flags = dict(method="b", phase2_epochs=0, ada_kimg=0.05, snapshot_every=3, log_every=2)
    whole = train(**flags, kimg=7 * 8 / 1000)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        timed = loop.StageRun._timed_step

        def stopping(self: loop.StageRun, step: int) -> None:
            if step == 3:  # after a snapshot, with a step that no row tells of yet
                raise KeyboardInterrupt
            timed(self, step)

        patch.setattr(loop.StageRun, "_timed_step", stopping)
        train(tmp_path / "run", **flags, kimg=7 * 8 / 1000)
    run = train(tmp_path / "run", **flags, kimg=3 * 8 / 1000)
    assert [row["step"] for row in rows(run)] == [2, 3]
    train(run, **flags, kimg=7 * 8 / 1000)
    for name, tensor in load_file(whole / "stages" / "stylegan2" / "model.safetensors").items():
        assert torch.equal(tensor, load_file(run / "stages" / "stylegan2" / "model.safetensors")[name]), name


def test_epochs_stay_what_they_are_where_a_step_depends_on_them(train: Callable[..., Path], tmp_path: Path) -> None:
    train(tmp_path / "run", merge="feature", phase1_epochs=2, phase2_epochs=2, epochs=4)
    with pytest.raises(FaceganError, match="another configuration .`epochs` 4 there, 8 here"):
        train(tmp_path / "run", merge="feature", phase1_epochs=2, phase2_epochs=2, epochs=8)


def test_what_a_later_version_added_was_the_default_before(train: Callable[..., Path], tmp_path: Path) -> None:
    flags = dict(phase1_epochs=2, epochs=0)
    path = train(tmp_path / "run", **flags) / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["critic_views"]
    path.write_text(json.dumps(record))
    train(tmp_path / "run", **flags)
    with pytest.raises(FaceganError, match="`critic_views` 1 there, 2 here"):
        path.write_text(json.dumps(record))
        train(tmp_path / "run", **flags, critic_views=2)


@pytest.mark.parametrize(
    "wrong,words",
    [
        (dict(method="b", init_from="nowhere"), "nowhere does not exist"),
        (dict(method="b", init_from="PRIOR", resolution=32), "makes 16 px faces"),
        (dict(method="b", init_from="PRIOR", freeze_d=99), "99 layers are to be frozen"),
        (dict(method="b", accumulate=8), "`accumulate` is 8"),
        (dict(method="restore", prior="nowhere"), "nowhere does not exist"),
        (dict(phase1_from="nowhere"), "nowhere is not a run"),
        (dict(pretrain_from="nowhere"), "nowhere does not exist"),
        (dict(pretrain_from="PRIOR"), "is a run of another method"),
        (dict(recipe="best", masks="halves", attributes="bald,young=Young"), "knows no region"),
    ],
)
def test_a_start_that_fails_leaves_no_folder_behind(
    wrong: dict, words: str, prior: str, train: Callable[..., Path], tmp_path: Path
) -> None:
    wrong = {name: prior if value == "PRIOR" else value for name, value in wrong.items()}
    with pytest.raises(FaceganError, match=words):
        train(tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_snapshot_is_claimed_anew(train: Callable[..., Path], tmp_path: Path) -> None:
    run, flags = tmp_path / "run", dict(phase1_epochs=4, epochs=0, snapshot_every=3)
    for stop_at, words in ((2, None), (4, "another configuration")):
        with pytest.MonkeyPatch.context() as patch:
            timed = loop.StageRun._timed_step

            def stopping(self: loop.StageRun, step: int, timed: Callable = timed, stop_at: int = stop_at) -> None:
                if step + 1 == stop_at:
                    raise KeyboardInterrupt
                timed(self, step)

            patch.setattr(loop.StageRun, "_timed_step", stopping)
            with pytest.raises(KeyboardInterrupt):
                train(run, **flags, lr=1e-3 * stop_at)
        if words:
            with pytest.raises(FaceganError, match=words):
                train(run, **flags, lr=0.5)
    assert json.loads((run / "config.json").read_text())["config"]["lr"] == 4e-3
    assert [row["step"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())] == [2]


@pytest.mark.parametrize("saved", [False, True])
def test_a_loss_that_breaks_says_whether_a_state_was_kept(
    saved: bool, train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms, calls = loop.Terms.add, []

    def broken(self: loop.Terms, found: dict[str, torch.Tensor]) -> None:
        calls.append(1)
        terms(self, {name: value * (math.nan if len(calls) > 3 else 1) for name, value in found.items()})

    monkeypatch.setattr(loop.Terms, "add", broken)
    words = "state is kept in .*checkpoints/phase1-0000003: try" if saved else "no state of phase1 had been saved yet: try"
    with pytest.raises(FaceganError, match=words):
        train(tmp_path / "run", phase1_epochs=8, epochs=0, snapshot_every=3 if saved else 100)


# --- starting from other networks


def test_a_network_without_labels_becomes_one_with_labels_and_first_makes_the_same_faces(
    prior: str, train: Callable[..., Path], tmp_path: Path
) -> None:
    save_networks(open_networks(prior), tmp_path / "net")
    run = train(method="b", init_from=str(tmp_path / "net"), conditional=True, kimg=0.0, phase2_epochs=0, freeze_d=2)
    before, after = open_networks(prior), open_networks(run)
    assert (before.config.c_dim, after.config.c_dim) == (0, 2)
    z = torch.randn(4, before.config.z_dim)
    for label in ([1.0, 0.0], [1.0, 1.0]):
        ours, theirs = after.generator()(z, torch.tensor([label] * 4), noise_mode="const"), before.generator()(z, noise_mode="const")
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    trained = train(method="b", init_from=str(tmp_path / "net"), conditional=True, kimg=0.024, phase2_epochs=0)
    made = open_networks(trained).generator()
    assert not torch.equal(*(made(z[:1], torch.tensor([label]), noise_mode="const") for label in ([1.0, 0.0], [0.0, 1.0])))


def test_ada_begins_at_the_strength_asked_for(prior: str, train: Callable[..., Path]) -> None:
    assert Strength("cpu", start=0.3).p.item() == 0.3 and Strength("cpu", start=1.0).p.item() == Strength.MOST
    run = train(method="b", noise="concat", preset="tiny", ada_start=0.3, ada_kimg=1e6, kimg=0.008, phase2_epochs=0)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["augment/p"] == pytest.approx(0.3, abs=1e-6)
