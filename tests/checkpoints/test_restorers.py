"""Restorers on disk: our folders, in full and in half precision, `facegan convert`, shipped names, and damaged files."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from torch import nn

from facegan.checkpoints import pretrained as networks
from facegan.checkpoints.networks import is_network, open_networks
from facegan.checkpoints.restorers import RestorerWeights, is_restorer, open_restorer, save_restorer
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.models.restorer import Restorer
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.options import SYNTHETIC

CONFIG = StyleGAN2Config(resolution=8, z_dim=6, w_dim=5, mapping_layers=2, channel_base=64, channel_max=8, noise="concat", conv_clamp=256.0)


@pytest.fixture
def weights():
    torch.manual_seed(0)
    restorer = Restorer(CONFIG)
    for parameter in restorer.parameters():
        nn.init.normal_(parameter)
    return RestorerWeights(CONFIG, restorer.state_dict(), may_have_seen_joint_faces=False)


@pytest.fixture
def folder(weights, tmp_path):
    save_restorer(weights, tmp_path / "restorer")
    return tmp_path / "restorer"


def same(a: RestorerWeights, b: RestorerWeights) -> bool:
    return a.state.keys() == b.state.keys() and all(torch.equal(value, b.state[name]) for name, value in a.state.items())


def test_a_folder_gives_back_what_was_saved(weights, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    found = open_restorer(folder)
    assert found.config == CONFIG and same(found, weights) and not found.may_have_seen_joint_faces
    faces, network = torch.rand(2, 3, 8, 8), found.restorer()
    expected = Restorer(CONFIG)
    expected.load_state_dict(weights.state)
    torch.testing.assert_close(network(faces), expected(faces), rtol=1e-5, atol=1e-5)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    assert is_restorer(folder) and is_restorer(str(folder)) and not is_network(folder)


def test_half_precision_is_half_the_size_and_opens_in_float32(weights, tmp_path):
    save_restorer(weights, tmp_path / "half", half=True)
    save_restorer(weights, tmp_path / "whole")
    assert all(value.dtype == torch.float16 for value in load_file(tmp_path / "half/model.safetensors").values())
    sizes = [sum(value.nbytes for value in load_file(tmp_path / name / "model.safetensors").values()) for name in ("half", "whole")]
    assert 2 * sizes[0] == sizes[1]
    found = open_restorer(tmp_path / "half")
    assert all(torch.equal(value, weights.state[name].half().float()) for name, value in found.state.items())
    faces = torch.rand(4, 3, 8, 8) * 2 - 1
    expected = weights.restorer()(faces)
    assert (found.restorer()(faces) - expected).abs().max() < 1e-2 * expected.abs().max()


def test_lower_precision_of_training_is_left_when_restoring(weights, tmp_path):
    lower = StyleGAN2Config(**{**CONFIG.to_json(), "half_sizes": 2})
    save_restorer(RestorerWeights(lower, weights.state), tmp_path / "lower")
    found = open_restorer(tmp_path / "lower")
    assert found.config == lower and found.restorer().config == CONFIG and found.may_have_seen_joint_faces


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("slim", [False, True])
def test_convert_keeps_what_is_known_of_the_faces_it_saw(seen, slim, weights, tmp_path, capsys):
    save_restorer(RestorerWeights(CONFIG, weights.state, seen), tmp_path / "in")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), *(["--slim"] if slim else [])]) == 0
    note = "; may have seen joint faces in its training" if seen else ""
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: restorer, 8 px{note}\n"
    found = open_restorer(tmp_path / "out")
    assert found.may_have_seen_joint_faces == seen and same(found, weights) == (not slim)
    assert load_file(tmp_path / "out/model.safetensors")["bottleneck.weight"].dtype == (torch.float16 if slim else torch.float32)


def test_a_network_is_not_converted_onto_itself(folder, capsys, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.chdir(folder.parent)
    for out in (str(folder), "restorer/", "restorer/../restorer"):
        assert main(["convert", str(folder), out, "--slim"]) == 2
        assert capsys.readouterr().err == f"facegan: {out} is what is to be converted: name another folder for the result\n"
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_folder_that_does_not_say_may_have_seen_any_face(folder):
    metadata = json.loads((folder / "config.json").read_text())
    assert metadata.pop("may_have_seen_joint_faces") is False
    (folder / "config.json").write_text(json.dumps(metadata))
    assert open_restorer(folder).may_have_seen_joint_faces


def test_a_shipped_network_is_opened_by_its_name_and_a_path_comes_first(weights, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "__file__", str(tmp_path / "package/__init__.py"))
    shutil.copytree(folder, tmp_path / "package/mine64")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert same(open_restorer("mine64"), weights) and is_restorer("mine64")
    (tmp_path / "elsewhere/mine64").mkdir()
    assert not is_restorer("mine64")
    with pytest.raises(FaceganError, match="mine64 holds no model"):
        open_restorer("mine64")


# --- damaged and foreign ones


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FaceganError, match="nowhere does not exist; expected a run of `train --method restore`, a folder with"):
        open_restorer(tmp_path / "nowhere")
    with pytest.raises(FaceganError, match="holds no model.safetensors and config.json of a restorer; expected a run"):
        open_restorer(tmp_path)
    assert not is_restorer(tmp_path / "nowhere") and not is_restorer(tmp_path)


def test_a_generator_is_no_restorer_and_a_restorer_no_generator(folder):
    with pytest.raises(FaceganError, match="does not describe a restorer; expected a run of `train --method restore`"):
        open_restorer(SYNTHETIC)
    with pytest.raises(FaceganError, match="does not describe a StyleGAN2 network"):
        open_networks(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not valid JSON"), ("[]", "does not describe a restorer"), ("[" * 100_000, "nests too deeply"),
        ("{}", "does not describe a restorer"),
        ('{"kind": "restorer", "depth": 3}', "holds depth, which no StyleGAN2"),
        ('{"kind": "restorer", "resolution": 48}', "resolution is 48"),
        ('{"kind": "restorer", "resolution": 8, "noise": "add"}', "a restorer's decoder has noise concatenated"),
        ('{"kind": "restorer", "resolution": 8, "noise": "concat", "c_dim": 3}', "no labels"),
        ('{"kind": "restorer", "resolution": 4096, "noise": "concat", "channel_base": 1048576}', r"is .* in the file, and"),
    ],
)  # fmt: skip
def test_a_damaged_configuration_is_a_sentence(content, words, folder):
    (folder / "config.json").write_text(content)
    with pytest.raises(FaceganError, match=words) as refused:
        open_restorer(folder)
    assert "\n" not in str(refused.value)


def test_damaged_weights_are_a_sentence(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    tensors = load(whole)  # and not load_file, which maps what is about to be overwritten

    def refused(words: str) -> None:
        with pytest.raises(FaceganError, match=words) as error:
            open_restorer(folder)
        assert "\n" not in str(error.value)

    for content in (b"", whole[:100], whole[:-7], b"\xff" * 1000):
        path.write_bytes(content)
        refused("model.safetensors is no readable file of tensors|model.safetensors has a header of [0-9,]+ bytes")
    save_file({name: value for name, value in tensors.items() if name != "encoder.b8.bias"}, path)
    refused(r"encoder.b8.bias is absent in the file, and \[8\] in a network of its kind")
    save_file({**tensors, "another": torch.zeros(2)}, path)
    refused(r"another is \[2\] in the file, and absent in a network of its kind")
    save_file({**tensors, "bottleneck.weight": torch.zeros(6, 64)}, path)
    refused(r"bottleneck.weight is \[6, 64\] in the file, and \[6, 128\]")
    save_file({**tensors, "bottleneck.bias": tensors["bottleneck.bias"] * torch.nan}, path)
    refused("bottleneck.bias holds values that are not finite")
    path.unlink()
    refused("holds no model.safetensors")


def test_a_restorer_has_no_form_as_a_pt_file(tmp_path, capsys):
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=32, channel_max=4, noise="concat")
    save_restorer(RestorerWeights(config, Restorer(config).state_dict()), tmp_path / "folder")
    assert main(["convert", str(tmp_path / "folder"), str(tmp_path / "out.pt")]) == 2
    assert "has no restorers" in capsys.readouterr().err and not (tmp_path / "out.pt").exists()
