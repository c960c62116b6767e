"""--pretrain-from: whose networks a run begins with, what is refused, and the folders of `facegan convert` that hold such a start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save_file

import facegan
from facegan import cli
from facegan.checkpoints import checkpoint, pretrained
from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.restorers import open_restorer
from facegan.checkpoints.run import RunFolder
from facegan.checkpoints.starts import is_start, open_start, save_start
from facegan.checkpoints.trained import TrainedRun
from facegan.errors import FaceganError
from facegan.experiments.ablation import rows
from facegan.experiments.ablation.tasks import Settings, method_a
from facegan.methods import configured
from facegan.methods.a.phase1 import Phase1, Pretraining
from facegan.options import SYNTHETIC
from facegan.session import accelerator_for, make_context

Train = Callable[..., Path]
OTHER = dict(data="synthetic:5", num=200)  # faces of no one in the tests' folder
SHORT = dict(recipe="plain", width=0.125, phase1_epochs=1, epochs=0)
ONLY = dict(SHORT, phase1_epochs=0)  # the networks as they begin are those that the run ends with


@pytest.fixture(scope="module")
def taught(train: Train) -> Path:
    """A run with a pre-training, on other data."""
    return train(**SHORT, **OTHER, pretrain_epochs=3)


@pytest.fixture(scope="module")
def untaught(train: Train) -> Path:
    """A run of its phase 1 alone, on other data."""
    return train(**SHORT, **OTHER)


@pytest.fixture
def packed(taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Path:
    """What `facegan convert --slim` makes of it."""
    assert cli.main(["convert", str(taught), str(tmp_path / "packed"), "--slim"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'packed'}: start of Method A, 16 px, width 0.125, pretrain, 24 images\n"
    return tmp_path / "packed"


def networks_of(run: Path, stage: str) -> dict[str, torch.Tensor]:
    """The tensors of a stage, named as in a folder."""
    found = load_file(run / f"stages/{stage}/model.safetensors")
    kept = ("generator/", "discriminator/")
    return {name.replace("/", ".", 1): value for name, value in found.items() if name.startswith(kept)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(value.dtype == b[name].dtype and torch.equal(value, b[name]) for name, value in a.items())


def begin(configure: Callable, folder: Path, kind: type = Phase1, **flags: object) -> Phase1 | Pretraining:
    """A first stage before its first step."""
    config = configure(out=str(folder), **{**SHORT, **flags})
    context = make_context(config, accelerator_for(config))
    return Phase1(context, None) if kind is Phase1 else Pretraining(context)


# --- where it starts


def test_phase_1_begins_with_the_weights_of_the_pretraining_of_a_run(taught: Path, train: Train, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "facegan.train")
    run = train(**ONLY, pretrain_from=str(taught))
    assert equal(networks_of(run, "phase1"), networks_of(taught, "pretrain"))
    assert not equal(networks_of(taught, "phase1"), networks_of(taught, "pretrain"))
    assert f"`pretrain_from={taught}`: 16 px, width 0.125, pretrain, 24 images" in caplog.text
    assert not (run / "stages/pretrain").exists()


def test_or_of_its_phase_1_where_it_has_no_pretraining(untaught: Path, train: Train) -> None:
    run = train(**ONLY, pretrain_from=str(untaught))
    assert equal(networks_of(run, "phase1"), networks_of(untaught, "phase1"))
    about = checkpoint.load_metadata(run / "stages/phase1")["started_from"]
    assert about == {"network": str(untaught), "stage": "phase1", "images": 8, "attributes": ["bald", "beard"]}


def test_or_with_those_of_a_folder_in_half_precision_to_the_last_bit(packed: Path, configure: Callable, tmp_path: Path) -> None:
    halves = load_file(packed / "model.safetensors")
    stage = begin(configure, tmp_path / "run", pretrain_from=str(packed))
    generator, average = stage.generator.generator, stage.average.network
    discriminator = stage.discriminators.get_submodule("members.0.network")
    assert {value.dtype for value in halves.values()} == {torch.float16}
    for name, network in (("generator", generator), ("generator", average), ("discriminator", discriminator)):
        expected = {key.removeprefix(f"{name}."): value.float() for key, value in halves.items() if key.startswith(name)}
        assert equal(dict(network.state_dict()), expected)
    assert all(parameter.requires_grad for parameter in [*generator.parameters(), *discriminator.parameters()])


def test_a_name_that_comes_with_the_package_is_one_too(packed: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "__file__", str(tmp_path / "package/__init__.py"))
    shutil.copytree(packed, tmp_path / "package/mine16")
    run = train(tmp_path / "run", **ONLY, pretrain_from="mine16")
    expected = {name: value.float() for name, value in load_file(packed / "model.safetensors").items()}
    assert equal(networks_of(run, "phase1"), expected)
    assert is_start("mine16") and RunFolder(run).record()["sources"]["pretrain_from"]  # type: ignore[typeddict-item]


def test_training_goes_on_from_there(packed: Path, train: Train) -> None:
    longer = {**SHORT, "phase1_epochs": 2}
    from_start, new = (networks_of(train(**longer, pretrain_from=start), "phase1") for start in (str(packed), ""))
    begun = {name: value.float() for name, value in load_file(packed / "model.safetensors").items()}
    name = "generator.blocks.16.conv1.weight"
    assert not torch.equal(from_start[name], begun[name])
    assert (from_start[name] - begun[name]).abs().mean() < 0.1 * (new[name] - begun[name]).abs().mean()


def test_pretraining_goes_on_from_it_and_phase_1_from_there(packed: Path, configure: Callable, train: Train, tmp_path: Path) -> None:
    begun = {name: value.float() for name, value in load_file(packed / "model.safetensors").items()}
    stage = begin(configure, tmp_path / "context", Pretraining, pretrain_from=str(packed), pretrain_epochs=1)
    assert equal({f"generator.{key}": value for key, value in stage.generator.generator.state_dict().items()},
                 {key: value for key, value in begun.items() if key.startswith("generator.")})  # fmt: skip
    run = train(**ONLY, pretrain_from=str(packed), pretrain_epochs=2)
    assert equal(networks_of(run, "phase1"), networks_of(run, "pretrain")) and not equal(networks_of(run, "phase1"), begun)
    for name in ("pretrain", "phase1"):
        assert checkpoint.load_metadata(run / "stages" / name)["started_from"]["network"] == str(packed)


# --- what must agree


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (dict(resolution=32), r"\(`resolution` 16, this run 32\): add `resolution=16`, or"),
        (dict(width=0.25), r"\(`width` 0.125, this run 0.25\): add `width=0.125`, or"),
        (dict(z_shape=(4, 4, 8)), r"\(`z_shape` 128, this run 4,4,8\): add `z_shape=128`, or"),
        (dict(modulate=False), r"\(`modulate` yes, this run no\): add `modulate=True`, or"),
        (dict(minibatch_deviation=False), r"\(`minibatch_deviation` yes, this run no\): add `minibatch_deviation=True`, or"),
        (dict(conditional=True), r"\(`conditional` no, this run yes\): add `conditional=False`, or"),
        (dict(width=1.0, modulate=False), r"`width` 0.125, .* 1; `modulate` yes, .* no\): add `width=0.125` `modulate=True`, or"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["run", "folder"])
def test_networks_of_another_shape_are_refused_with_both_values(
    form: str, flags: dict, words: str, taught: Path, packed: Path, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(FaceganError, match=r"`pretrain_from=.*` has networks of another shape .*" + words) as refused:
        train(tmp_path / "run", **{**SHORT, **flags, "pretrain_from": str(taught if form == "run" else packed)})
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()


def test_all_shapes_are_told_of_other_networks_too(train: Train, tmp_path: Path) -> None:
    """Of networks without modulation and deviation, with a noise image and labels, in a run and in a folder."""
    shape = dict(z_shape=(2, 2, 2), modulate=False, minibatch_deviation=False, conditional=True)
    other = train(**SHORT, **OTHER, **shape)
    assert cli.main(["convert", str(other), str(tmp_path / "packed")]) == 0
    for path in (other, tmp_path / "packed"):
        assert equal(networks_of(train(**ONLY, **shape, pretrain_from=str(path)), "phase1"), networks_of(other, "phase1"))
        with pytest.raises(FaceganError, match=r"`modulate` no, .* yes; `minibatch_deviation` no, .* yes; `conditional` yes, this run no"):
            train(**SHORT, pretrain_from=str(path))
        with pytest.raises(FaceganError, match=r"another shape \(2 `attributes`, this run 3\)"):
            train(**SHORT, **shape, attributes="bald,beard,glasses", pretrain_from=str(path))


def test_a_command_is_told_what_to_type(packed: Path, capsys: pytest.CaptureFixture, faces: Path, tmp_path: Path) -> None:
    words = ["train", f"--data={faces}", "--minimum-images=4", "--resolution=16", f"--pretrain-from={packed}", f"--out={tmp_path / 'run'}"]
    assert cli.main([*words, "--no-modulate", "--conditional"]) == 2
    said = capsys.readouterr().err
    assert "(--width 0.125, this run 1; --modulate yes, this run no; --conditional no, this run yes)" in said
    assert "add --width 0.125 --modulate --no-conditional, or start" in said
    assert cli.main(["train", "--pretrain-from=nothing", "--out=x"]) == 2
    assert "nothing does not exist; expected a run of `train --method a`" in capsys.readouterr().err


# --- a run goes on with what it began with


def test_a_resumed_run_must_be_given_the_same_network(packed: Path, taught: Path, train: Train, tmp_path: Path) -> None:
    run = train(tmp_path / "run", **SHORT, pretrain_from=str(packed))
    weights = (run / "stages/phase1/model.safetensors").read_bytes()
    shutil.copytree(packed, tmp_path / "moved")
    train(run, **SHORT, pretrain_from=str(tmp_path / "moved"))
    start = open_start(packed)
    with torch.no_grad():
        start.generator.stem.weight[0, 0] += 1
    save_start(start, tmp_path / "other", half=True)
    for other in (tmp_path / "other", taught):  # the run's weights are those of the folder before they were rounded
        with pytest.raises(FaceganError, match=r"`pretrain_from` '.*moved' there, '.*' here"):
            train(run, **SHORT, pretrain_from=str(other))
    with pytest.raises(FaceganError, match=r"`pretrain_from` '.*moved' there, '' here"):
        train(run, **SHORT)
    shutil.rmtree(tmp_path / "moved")
    train(run, **SHORT, pretrain_from=str(tmp_path / "moved"))  # what has ended needs no start
    assert (run / "stages/phase1/model.safetensors").read_bytes() == weights


def test_a_run_stands_for_the_stage_that_was_taken(taught: Path, train: Train, tmp_path: Path) -> None:
    run = train(tmp_path / "run", **SHORT, pretrain_from=str(taught))
    for name, words in (("pretrain", "`pretrain_from` .* there"), ("phase1", "")):
        shutil.copytree(taught, tmp_path / name)
        tensors, metadata = checkpoint.load(tmp_path / name / "stages" / name)
        tensors["generator/stem.weight"][0, 0] += 1
        checkpoint.save(tmp_path / name / "stages" / name, tensors, metadata)
        if words:
            with pytest.raises(FaceganError, match=words):
                train(run, **SHORT, pretrain_from=str(tmp_path / name))
        else:
            train(run, **SHORT, pretrain_from=str(tmp_path / name))


def test_a_finished_phase_1_takes_no_start(taught: Path, configure: Callable) -> None:
    with pytest.raises(FaceganError, match="`phase1_from` and `pretrain_from`"):
        configure(out="x", phase1_from=str(taught), pretrain_from=str(taught))


# --- joint faces


def marked(run: Path, stage: str = "phase1") -> bool:
    return checkpoint.load_metadata(run / "stages" / stage)["may_have_seen_joint_faces"]


@pytest.mark.parametrize("form", ["run", "folder"])
def test_a_start_that_learned_from_joint_faces_of_this_run_is_refused(form: str, train: Train, tmp_path: Path) -> None:
    start = train(**SHORT, attributes="glasses,smile", pretrain_epochs=1)  # on the same faces, bald and bearded ones among them
    words = r"`pretrain_from=.*` learned from \d+ faces that carry, or may carry, all attributes of this run"
    if form == "folder":
        assert cli.main(["convert", str(start), str(tmp_path / "packed")]) == 0
        start, words = tmp_path / "packed", "learned from the images of `data`, divided for glasses, smile"
    with pytest.raises(FaceganError, match=words):
        train(tmp_path / "run", **SHORT, pretrain_from=str(start))
    assert not (tmp_path / "run").exists()


def test_and_one_that_learned_from_images_of_the_judge(configure: Callable, train: Train, tmp_path: Path) -> None:
    start = train(**SHORT, pretrain_epochs=1)
    config = configure(out=str(tmp_path / "context"), **SHORT)
    context = make_context(config, accelerator_for(config))
    RunFolder(start).write_ids("pretrain", [context.data.table.ids[row] for row in context.split.judge[:3]])
    with pytest.raises(FaceganError, match=r"`pretrain_from=.*` learned from 3 images that this run keeps for its judge, such as"):
        train(**SHORT, pretrain_from=str(start))


@pytest.mark.parametrize("form", ["run", "folder"])
def test_a_start_of_the_same_faces_is_clean_and_its_images_are_listed(form: str, train: Train, tmp_path: Path) -> None:
    start = train(**SHORT, seed=3, pretrain_epochs=1)
    save_start(open_start(start), tmp_path / "packed")
    run = train(**SHORT, pretrain_from=str(start if form == "run" else tmp_path / "packed"))
    own = train(**SHORT)
    assert not marked(run)
    assert {*RunFolder(run).ids("phase1")} == {*RunFolder(start).ids("pretrain"), *RunFolder(own).ids("phase1")}
    assert len(RunFolder(own).ids("phase1")) < len(RunFolder(run).ids("phase1"))
    assert "may_have_seen_joint_faces" not in checkpoint.load_metadata(own / "stages/phase1")
    assert not TrainedRun(run).may_have_seen_joint_faces and not TrainedRun(own).may_have_seen_joint_faces


@pytest.mark.parametrize(
    ("attributes", "known"), [("bald,beard", True), ("beard,bald", True), ("bald,beard,glasses", True), ("bald,glasses", False)]
)
def test_a_start_of_other_faces_is_clean_where_it_saw_none_with_those_attributes(
    attributes: str, known: bool, packed: Path, taught: Path, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    assert json.loads((packed / "config.json").read_text())["may_have_seen_joint_faces"] is False
    for start in (packed, taught):
        caplog.clear()
        run = train(**SHORT, attributes=attributes, minimum_images=2, pretrain_from=str(start))
        assert marked(run) is not known and TrainedRun(run).may_have_seen_joint_faces is not known
        assert ("may have seen faces with all attributes" in caplog.text) is not known


def test_a_mark_goes_with_the_networks(packed: Path, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Through all stages, `--phase1-from`, further runs and folders."""
    save_start(replace(open_start(packed), may_have_seen_joint_faces=True), tmp_path / "marked")
    first = train(**SHORT, pretrain_epochs=1, pretrain_from=str(tmp_path / "marked"))
    assert marked(first, "pretrain") and marked(first)
    second = train(**{**SHORT, "epochs": 1, "phase2_epochs": 0}, pretrain_epochs=1, phase1_from=str(first))
    assert marked(second) and marked(second, "phase3-beard") and TrainedRun(second).may_have_seen_joint_faces
    assert marked(train(**SHORT, pretrain_from=str(second)))
    capsys.readouterr()
    assert cli.main(["convert", str(second), str(tmp_path / "again"), "--slim"]) == 0
    assert capsys.readouterr().out.endswith("; may have seen joint faces in its training\n")
    assert open_start(tmp_path / "again").may_have_seen_joint_faces


# --- folders


def test_a_folder_gives_back_the_weights_within_rounding(taught: Path, packed: Path, tmp_path: Path) -> None:
    expected = networks_of(taught, "pretrain")
    assert cli.main(["convert", str(taught), str(tmp_path / "whole")]) == 0
    whole, half = load_file(tmp_path / "whole/model.safetensors"), load_file(packed / "model.safetensors")
    assert equal(whole, expected) and half.keys() == expected.keys()
    for name, value in half.items():
        bound = np.spacing(expected[name].abs().numpy().astype(np.float16)).astype(np.float32) / 2
        assert (np.abs((value.float() - expected[name]).numpy()) <= bound).all()
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (packed, tmp_path / "whole")]
    weights = sum(value.numel() for value in expected.values())
    assert 2 * weights < sizes[0] < 2 * weights + 8192 and 4 * weights < sizes[1] < 4 * weights + 8192
    again = tmp_path / "again"
    assert cli.main(["convert", str(packed), str(again), "--slim"]) == 0
    assert equal(load_file(again / "model.safetensors"), half)
    assert (again / "config.json").read_text() == (packed / "config.json").read_text()


def test_what_a_folder_says_of_itself(packed: Path, taught: Path) -> None:
    record = RunFolder(taught).record()
    assert sorted(path.name for path in packed.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((packed / "config.json").read_text()) == {
        "kind": "start", "may_have_seen_joint_faces": False, "attributes": ["bald", "beard"], "stage": "pretrain", "images": 24,
        "data_fingerprint": record["data_fingerprint"], "minibatch_deviation": True,
        "generator": {"resolution": 16, "z_shape": [128], "width": 0.125, "num_attributes": 0, "grown": False, "modulated": True},
    }  # fmt: skip


def test_other_readers_say_what_it_is(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    what = r"config.json describes networks that Method A starts from \(`facegan train --pretrain-from`\), and does not describe a "
    with pytest.raises(FaceganError, match=what + "StyleGAN2 network"):
        open_networks(packed)
    with pytest.raises(FaceganError, match=what + "restorer"):
        open_restorer(packed)
    with pytest.raises(FaceganError, match="holds networks for Method A's training .*: give it to `facegan train --pretrain-from`"):
        facegan.load(packed)
    assert cli.main(["convert", str(packed), str(tmp_path / "net.pt")]) == 2
    assert "that format has no networks of Method A" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (SYNTHETIC, r"describes a StyleGAN2 network, and does not describe a start of Method A; expected a run of `train --method a`"),
        ("synthetic256", r"describes a restorer, and does not describe a start of Method A"),
        ("PRIOR", r"is a run of another method, whose networks are of another kind; expected a run of `train --method a`"),
        ("nowhere", r"nowhere does not exist; expected a run of"), ("EMPTY", r"holds no model.safetensors and config.json of a start of"),
        ("FILE", r"net.pkl is a file; expected a run"),
    ],
)  # fmt: skip
def test_what_is_no_start_is_refused(start: str, words: str, prior: str, train: Train, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "net.pkl").write_bytes(b"x")
    path = {"PRIOR": prior, "EMPTY": str(tmp_path / "empty"), "FILE": str(tmp_path / "net.pkl")}.get(start, start)
    with pytest.raises(FaceganError, match=r"`pretrain_from=.*`: .*" + words) as refused:
        train(tmp_path / "run", **SHORT, pretrain_from=path)
    assert "\n" not in str(refused.value)


def test_an_unfinished_run_is_refused(taught: Path, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    shutil.copy(taught / "config.json", tmp_path / "begun")
    with pytest.raises(FaceganError, match="has finished neither its pre-training nor its phase 1: let one of them end first"):
        open_start(tmp_path / "begun")


def test_damaged_configurations_are_a_sentence(packed: Path) -> None:
    path = packed / "config.json"
    whole = json.loads(path.read_text())
    shape = whole["generator"]
    for change, words in [
        ({"images": -1}, "images is -1"), ({"images": "many"}, "images is many"), ({"attributes": 3}, "attributes is 3"),
        ({"minibatch_deviation": False}, "final.weight"), ({"generator": None}, "generator"), ({"stage": []}, "stage"),
        ({"stage": "phase2-bald"}, "stage is phase2-bald; expected one of pretrain, phase1"),
        ({"generator": {**shape, "resolution": 48}}, "resolution 48"), ({"generator": {**shape, "width": 1e9}}, "width"),
        ({"generator": {**shape, "resolution": 512, "width": 64}}, "in the file, and"),  # terabytes, if it were believed
        ({"generator": {**shape, "z_shape": [1 << 20]}}, "in the file, and"), ({"generator": {**shape, "depth": 3}}, "depth"),
        ({"generator": {**shape, "grown": True}}, "extra"), ({"kind": "nothing"}, "does not describe a start"),
    ]:  # fmt: skip
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(FaceganError, match=words) as refused:
            open_start(packed)
        assert "\n" not in str(refused.value)
    for text in ("", "[]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(FaceganError):
            open_start(packed)
    for key in whole.keys() - {"may_have_seen_joint_faces", "kind"}:
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(FaceganError, match=f"does not say {key}"):
            open_start(packed)
    path.write_text(json.dumps({name: value for name, value in whole.items() if name != "may_have_seen_joint_faces"}))
    assert open_start(packed).may_have_seen_joint_faces  # what does not say may have seen any face
    path.write_text(json.dumps({**whole, "attributes": []}))
    assert open_start(packed).may_have_seen_joint_faces  # and so may what held back the faces of no attribute


def test_damaged_weights_are_a_sentence(packed: Path) -> None:
    path = packed / "model.safetensors"
    whole = path.read_bytes()
    tensors = load(whole)
    name = "generator.stem.weight"
    for change, words in [
        ({name: tensors[name][:-1].clone()}, r"stem.weight is \["), ({name: torch.full_like(tensors[name], torch.nan)}, "not finite"),
        ({name: tensors[name].to(torch.int32)}, "floating point"), ({"critic.weight": torch.zeros(2)}, "holds critic.weight"),
        ({"generator.more": torch.zeros(2)}, "more is"),
    ]:  # fmt: skip
        save_file({**tensors, **change}, path)
        with pytest.raises(FaceganError, match=words):
            open_start(packed)
    save_file({key: value for key, value in tensors.items() if key != "discriminator.score.weight"}, path)
    with pytest.raises(FaceganError, match="score.weight is absent"):
        open_start(packed)
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(FaceganError):
            open_start(packed)
    path.unlink()
    with pytest.raises(FaceganError, match="holds no model.safetensors"):
        open_start(packed)


def test_a_run_is_not_written_into(packed: Path, taught: Path, prior: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its config.json is the record of its options."""
    shutil.copytree(taught, tmp_path / "run")
    record = (tmp_path / "run/config.json").read_bytes()
    for source in (str(packed), prior, SYNTHETIC, "synthetic256"):
        assert cli.main(["convert", source, str(tmp_path / "run")]) == 2
        assert "is a run of `facegan train`: name another folder" in capsys.readouterr().err
    assert (tmp_path / "run/config.json").read_bytes() == record and not (tmp_path / "run/model.safetensors").exists()


def test_weights_beyond_half_precision_are_not_packed(packed: Path, tmp_path: Path) -> None:
    start = open_start(packed)
    with torch.no_grad():
        start.generator.stem.weight[0, 0] = 1e5
    with pytest.raises(FaceganError, match="`slim` and .*generator.stem.weight holds values that are not finite"):
        save_start(start, tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()


# --- ablations


@pytest.mark.parametrize("name", rows.ROWS)
def test_row_phase1_alone_is_handed_the_start(name: str) -> None:
    given = dict(data="synthetic", width=0.5, pretrain_from="start", pretrain_epochs=2)
    config = configured(**rows.flags_of(name, given, 1, "out", "common"))
    assert config.pretrain_from == ("start" if name == "phase1" else "")
    assert ("--pretrain-from" in rows.to_argv(rows.flags_of(name, given, 1, "out", "common"))) is (name == "phase1")


def test_an_ablation_hands_it_on(packed: Path, faces: Path, tmp_path: Path) -> None:
    given = dict(data=str(faces), resolution=16, width=0.125, attributes=("bald", "beard"), pretrain_from=str(packed))
    study = method_a(given, Settings(tmp_path, (0, 1), 8), tmp_path, ["plain", "scratch", "conditional"])
    words = {(task.row, task.seed): task.commands[0] for task in study.tasks}
    assert words.keys() == {(row, seed) for row in ("phase1", "conditional", "scratch", "plain") for seed in (0, 1)}
    for (row, seed), line in words.items():
        assert ("--pretrain-from" in line) is (row == "phase1")
        assert ("--phase1-from" in line) is (row in ("scratch", "plain"))
        assert str(packed) in line or row != "phase1", (row, seed)
