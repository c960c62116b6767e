"""One folder, one run: a second process is refused, and what a kill or a power cut leaves costs no result."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facegan.checkpoints.run import RunFolder
from facegan.errors import FaceganError
from facegan.files import _machine
from facegan.training import loop

FLAGS = dict(phase1_epochs=8, epochs=0, log_every=1, snapshot_every=2, keep_checkpoints=2)
HOLDER = """
import sys; from pathlib import Path; from facegan.locks import FolderLock
lock = FolderLock(Path(sys.argv[1])); print(1, flush=True); input()
"""
Train, Rows = Callable[..., Path], Callable[[Path], list[dict]]


@pytest.fixture(scope="module")
def whole(train: Train) -> Path:
    """A run that nothing happens to."""
    return train(**FLAGS)


@pytest.fixture
def cut(train: Train, tmp_path: Path) -> Path:
    """The run as a kill in its sixth step leaves it: checkpoints after 2 and 4 steps, five rows."""
    timed = loop.StageRun._timed_step

    def stopping(self: loop.StageRun, at: int) -> None:
        if at == 5:
            raise KeyboardInterrupt
        timed(self, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.StageRun, "_timed_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", **FLAGS)
    assert [path.name for path in sorted((tmp_path / "run/checkpoints").iterdir())] == ["phase1-0000002", "phase1-0000004"]
    return tmp_path / "run"


def same(run: Path, whole: Path, rows: Rows) -> bool:
    file = "stages/phase1/model.safetensors"
    return (run / file).read_bytes() == (whole / file).read_bytes() and rows(run) == rows(whole)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


# --- one process at a time


def test_a_second_training_in_a_folder_is_refused_and_changes_nothing(cut: Path, train: Train) -> None:
    before = {file: file.read_bytes() for file in cut.rglob("*") if file.is_file()}
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(cut)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "1\n"
    for flags in (FLAGS, {**FLAGS, "lr": 0.5}):
        with pytest.raises(FaceganError, match=f"`out={cut}` is in use by process {other.pid} on .*, since .*: wait until it has ended"):
            train(cut, **flags)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    (cut / ".lock").unlink()
    assert before == {file: file.read_bytes() for file in cut.rglob("*") if file.is_file()}


def test_the_lock_is_held_while_steps_are_taken_and_given_back_whatever_ends_them(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed, refused = loop.StageRun._timed_step, []

    def stepping(self: loop.StageRun, at: int) -> None:
        with pytest.raises(FaceganError, match="is in use by process"):
            train(tmp_path / "run", **FLAGS)
        refused.append(at)
        if len(refused) == 2:
            raise RuntimeError("a fault")
        timed(self, at)

    monkeypatch.setattr(loop.StageRun, "_timed_step", stepping)
    with pytest.raises(RuntimeError, match="a fault"):
        train(tmp_path / "run", **FLAGS)
    monkeypatch.undo()
    assert not (tmp_path / "run/.lock").exists()
    train(tmp_path / "run", **FLAGS)


def test_a_folder_of_other_files_is_refused_untouched(train: Train, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.jpg").write_bytes(b"x")
    with pytest.raises(FaceganError, match="holds other files and no config.json"):
        train(tmp_path / "photos", **FLAGS)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]


# --- after a power cut

TORN: dict[str, Callable[[Path], object]] = {
    "tensors cut short": lambda path: os.truncate(path / "model.safetensors", 5000),
    "tensors of zeros": lambda path: zeroed(path / "model.safetensors"),
    "a page of zeros": lambda path: (path / "model.safetensors").write_bytes(
        (content := (path / "model.safetensors").read_bytes())[:-4096] + bytes(min(4096, len(content)))
    ),
    "no tensors": lambda path: (path / "model.safetensors").unlink(),
    "a record of zeros": lambda path: zeroed(path / "state.json"),
    "half a record": lambda path: os.truncate(path / "state.json", 40),
    "no record": lambda path: (path / "state.json").unlink(),
}


@pytest.mark.parametrize("damage", TORN)
def test_of_a_torn_newest_checkpoint_the_one_before_is_taken(
    damage: str, cut: Path, whole: Path, train: Train, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    TORN[damage](cut / "checkpoints/phase1-0000004")
    with caplog.at_level(logging.WARNING, "facegan.train"):
        train(cut, **FLAGS)
    assert same(cut, whole, rows)
    assert "phase1-0000004" in caplog.text and "the checkpoint before it, phase1-0000002, is taken" in caplog.text


def test_where_none_is_whole_the_way_out_is_said(cut: Path, whole: Path, train: Train, rows: Rows) -> None:
    for name in ("phase1-0000002", "phase1-0000004"):
        os.truncate(cut / "checkpoints" / name / "model.safetensors", 100)
    with pytest.raises(FaceganError, match=r"no checkpoint of phase1 is whole .* remove its 2 folder\(s\) phase1-\*") as refused:
        train(cut, **FLAGS)
    assert str(refused.value).isprintable()
    for path in (cut / "checkpoints").glob("phase1-*"):  # what it says
        shutil.rmtree(path)
    train(cut, **FLAGS)
    assert same(cut, whole, rows)


@pytest.mark.parametrize("damage", ["cut within row 4", "cut after row 3", "zeroed within row 3"])
def test_metrics_that_lost_rows_are_made_again_from_the_checkpoint_that_has_its_rows(
    damage: str, cut: Path, whole: Path, train: Train, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (cut / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    damaged = {
        "cut within row 4": b"".join(lines[:3]) + lines[3][:20],
        "cut after row 3": b"".join(lines[:3]),
        "zeroed within row 3": b"".join(lines[:2]) + bytes(len(lines[2])) + b"".join(lines[3:]),
    }
    (cut / "metrics.jsonl").write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING, "facegan.train"):
        train(cut, **FLAGS)
    assert same(cut, whole, rows)
    assert "has not all rows that phase1-0000004 counts: phase1-0000002" in caplog.text


@pytest.mark.parametrize("damage", ["empty", "absent", "row 1 zeroed"])
def test_rows_that_no_checkpoint_can_give_back_are_said_to_be_lost(
    damage: str, cut: Path, whole: Path, train: Train, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    path = cut / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(bytes(len(lines[0]) - 1) + b"\n" + b"".join(lines[1:]) if "zeroed" in damage else b"")
    if damage == "absent":
        path.unlink()
    with caplog.at_level(logging.WARNING, "facegan.train"):
        train(cut, **FLAGS)
    assert "metrics.jsonl was damaged, or cut short" in caplog.text and "rows from the first on are lost" in caplog.text
    lost = 1 if "zeroed" in damage else 4  # the checkpoint is that of step 4
    assert rows(cut) == rows(whole)[lost:]
    file = "stages/phase1/model.safetensors"
    assert (cut / file).read_bytes() == (whole / file).read_bytes()


def test_metrics_are_on_the_disk_before_a_checkpoint_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, order = RunFolder(tmp_path), []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    folder.append_metrics({"stage": "phase1", "step": 1})
    monkeypatch.setattr(os, "fsync", noted)
    folder.save_checkpoint("phase1", 1, {}, {}, keep=1)
    assert order[0] == "metrics.jsonl" and "state.json" in order and order[-1] == "checkpoints"


def test_a_finished_stage_whose_tensors_were_damaged_is_not_used(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    file = run / "stages/phase1/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-8:] = bytes(8)
    file.write_bytes(content)
    with pytest.raises(FaceganError, match="model.safetensors is damaged: it is not what was written"):
        RunFolder(run).load_stage("phase1")


def test_a_run_of_an_older_version_without_digests_goes_on(cut: Path, whole: Path, train: Train, rows: Rows) -> None:
    for file in cut.glob("checkpoints/*/state.json"):
        record = json.loads(file.read_text())
        del record["tensors_sha256"]
        file.write_text(json.dumps(record))
    record = json.loads((cut / "config.json").read_text())
    del record["sources"]
    (cut / "config.json").write_text(json.dumps(record))
    train(cut, **FLAGS)
    assert same(cut, whole, rows)


# --- litter


def test_what_kills_left_in_a_run_is_swept_at_the_next_start(cut: Path, train: Train) -> None:
    ours, older = f"{_machine()}-0123abcd.tmp", "0123abcd.old"
    for place in ("samples/.phase1-0000002.png.", "ids/.phase1.txt.", ".config.json."):
        (cut / f"{place}{ours}").write_bytes(b"x")
    for place in ("checkpoints/.phase1-0000004.", "stages/.phase1."):
        (cut / f"{place}{older}").mkdir(parents=True)
    (cut / ".hidden").write_text("somebody's own")
    train(cut, **FLAGS)
    assert [path.name for path in cut.rglob(".*")] == [".hidden"]


@pytest.mark.parametrize("method", ["a", "b"])
def test_checkpoints_that_a_kill_at_the_end_of_a_stage_left_are_removed(method: str, train: Train, tmp_path: Path) -> None:
    flags = FLAGS if method == "a" else dict(method="b", phase2_epochs=2, kimg=0.048, snapshot_every=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "_keep", lambda *_: None)
        run = train(tmp_path / "run", **flags)
    assert len(list((run / "checkpoints").iterdir())) > 1
    train(run, **flags)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ([] if method == "a" else ["stylegan2-0000006"])


@pytest.mark.parametrize("damage", ["cut short", "zeros", "gone"])
def test_a_damaged_list_of_a_finished_stage_is_said(
    damage: str, whole: Path, train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    with caplog.at_level(logging.WARNING, "facegan.train"):
        train(run, **FLAGS)
    assert "list of images" not in caplog.text
    file = run / "ids/phase1.txt"
    {"cut short": lambda: os.truncate(file, file.stat().st_size - 3), "zeros": lambda: zeroed(file), "gone": file.unlink}[damage]()
    with caplog.at_level(logging.WARNING, "facegan.train"):
        train(run, **FLAGS)
    assert f"{file} is not the list of images that was written when phase1 ended" in caplog.text
    assert "restore the file from a copy" in caplog.text
