"""A run goes on wherever its data and the networks that it started from lie now; what they hold is compared."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from facegan.checkpoints.networks import open_networks, save_networks
from facegan.checkpoints.run import RunFolder
from facegan.checkpoints.sources import digest
from facegan.errors import FaceganError

SHORT = dict(phase1_epochs=2, epochs=0)


def test_the_data_may_be_written_otherwise_linked_or_moved(
    faces: Path, train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path / "run", **SHORT)
    (tmp_path / "link").symlink_to(faces)
    shutil.copytree(faces, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    weights = (run / "stages/phase1/model.safetensors").read_bytes()
    for data in (f"{faces}/", f"{faces}/.", os.path.relpath(faces), str(tmp_path / "link"), "moved"):
        train(run, **SHORT, data=data)
        assert RunFolder(run).record()["config"]["data"] == data
    assert (run / "stages/phase1/model.safetensors").read_bytes() == weights
    picture = tmp_path / "moved/img_align_celeba/000003.png"
    Image.new("RGB", (16, 16), "red").save(picture)
    with pytest.raises(FaceganError, match=r"images or labels under `data` changed"):
        train(run, **SHORT, data="moved")
    with pytest.raises(FaceganError, match=r"`data` 'moved' there, '.*/moved' here, of other content"):
        train(run, **SHORT, data=str(tmp_path / "moved"))


def test_synthetic_faces_of_another_number_or_seed_are_other_data(train: Callable[..., Path], tmp_path: Path) -> None:
    flags = dict(**SHORT, data="synthetic", num=200)
    run = train(tmp_path / "run", **flags)
    train(run, **{**flags, "data": "synthetic:0"})
    with pytest.raises(FaceganError, match="of other content"):
        train(run, **{**flags, "data": "synthetic:1"})


@pytest.mark.parametrize(("flag", "stage"), [("init_from", "stylegan2"), ("prior", "restorer")])
def test_a_network_that_a_run_starts_from_may_lie_elsewhere(
    flag: str, stage: str, prior: str, train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("net", "moved"):
        save_networks(open_networks(prior), tmp_path / name)
    method: dict = dict(method="b", phase2_epochs=0) if flag == "init_from" else dict(method="restore")
    flags = {**method, "kimg": 0.016}
    run = train(tmp_path / "run", **flags, **{flag: str(tmp_path / "net")})
    began = RunFolder(run).record()
    assert dict(began)["sources"] == {flag: digest(str(tmp_path / "net"), "stylegan2")}
    monkeypatch.chdir(tmp_path)
    for path in ("net", "net/", "moved"):
        train(run, **flags, **{flag: path})
    other = open_networks(prior)
    other.states["G_ema"]["mapping.w_avg"] += 1
    save_networks(other, tmp_path / "other")
    with pytest.raises(FaceganError, match=f"`{flag}` 'moved' there, 'other' here"):
        train(run, **flags, **{flag: "other"})
    record = json.loads((run / "config.json").read_text())
    del record["sources"]  # of an older version: paths that come to the same, and no others
    (run / "config.json").write_text(json.dumps(record))
    train(run, **flags, **{flag: str(tmp_path / "moved")})
    with pytest.raises(FaceganError, match=f"`{flag}` '.*moved' there, 'net' here"):
        train(run, **flags, **{flag: "net"})


def test_phase_1_may_come_from_a_run_of_moved_data(faces: Path, train: Callable[..., Path], tmp_path: Path) -> None:
    first = train(tmp_path / "first", **SHORT)
    shutil.copytree(faces, tmp_path / "moved")
    run = train(tmp_path / "run", phase1_epochs=2, phase2_epochs=2, epochs=2, phase1_from=str(first), data=str(tmp_path / "moved"))
    assert (run / "stages/phase1/model.safetensors").read_bytes() == (first / "stages/phase1/model.safetensors").read_bytes()


def test_a_digest_is_of_a_file_a_folder_or_a_stage_and_nothing_elsewhere(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "stages/phase1").mkdir(parents=True)
    (tmp_path / "stages/phase1/model.safetensors").write_bytes(b"a")
    (tmp_path / "model.safetensors").write_bytes(b"b")
    (tmp_path / "net.pkl").write_bytes(b"c")
    expected = [hashlib.sha256(letter).hexdigest() for letter in (b"a", b"b", b"c")]
    assert [digest(str(tmp_path), "phase1"), digest(str(tmp_path), "stylegan2"), digest(str(tmp_path / "net.pkl"), "phase1")] == expected
    assert digest(str(tmp_path / "absent"), "phase1") == ""
