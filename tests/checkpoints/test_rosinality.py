"""rosinality's `.pt`: a network written in its names, by hand, opens as the same function; ours written there come back."""

from __future__ import annotations

import argparse
import io
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from facegan.checkpoints.convert import convert
from facegan.checkpoints.networks import Networks, open_networks, save_networks
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config

CONFIG = StyleGAN2Config(resolution=16, z_dim=5, w_dim=5, mapping_layers=2, channel_base=96, channel_max=12)
CHANNELS = {4: 12, 8: 12, 16: 6}


def styled(prefix, i, o, size, noise, state):
    state[f"{prefix}.conv.weight"] = torch.randn(1, o, i, 3, 3)
    state[f"{prefix}.conv.modulation.weight"], state[f"{prefix}.conv.modulation.bias"] = torch.randn(i, 5), torch.randn(i)
    state[f"{prefix}.noise.weight"], state[f"{prefix}.activate.bias"] = torch.randn(1), torch.randn(o)
    state[f"noises.noise_{noise}"] = torch.randn(1, 1, size, size)


def coloured(prefix, i, state):
    state[f"{prefix}.conv.weight"], state[f"{prefix}.bias"] = torch.randn(1, 3, i, 1, 1), torch.randn(1, 3, 1, 1)
    state[f"{prefix}.conv.modulation.weight"], state[f"{prefix}.conv.modulation.bias"] = torch.randn(i, 5), torch.randn(i)


@pytest.fixture
def their_generator():
    """Names and shapes as that project's generator has them at 16 px."""
    torch.manual_seed(0)
    state = {"input.input": torch.randn(1, 12, 4, 4)}
    for layer in (1, 2):
        state[f"style.{layer}.weight"], state[f"style.{layer}.bias"] = torch.randn(5, 5), torch.randn(5)
    styled("conv1", 12, 12, 4, 0, state)
    coloured("to_rgb1", 12, state)
    for block, (i, o, size) in enumerate([(12, 12, 8), (12, 6, 16)]):
        styled(f"convs.{2 * block}", i, o, size, 2 * block + 1, state)
        styled(f"convs.{2 * block + 1}", o, o, size, 2 * block + 2, state)
        coloured(f"to_rgbs.{block}", o, state)
    return state


def test_opens_their_generator(their_generator, tmp_path):
    content = {"g_ema": their_generator, "latent_avg": torch.arange(5.0), "args": argparse.Namespace(size=16)}
    torch.save(content, tmp_path / "net.pt")
    opened = open_networks(tmp_path / "net.pt")
    assert opened.config == CONFIG
    state = opened.states["G_ema"]
    assert torch.equal(state["mapping.w_avg"], torch.arange(5.0))
    assert torch.equal(state["synthesis.b16.conv0.weight"], their_generator["convs.2.conv.weight"][0].flip(2, 3))
    assert torch.equal(state["synthesis.b16.conv1.noise_const"], their_generator["noises.noise_4"][0, 0])
    assert torch.equal(state["synthesis.b8.torgb.bias"], their_generator["to_rgbs.0.bias"].flatten())
    assert opened.generator()(torch.randn(2, 5), noise_mode="const").shape == (2, 3, 16, 16)


def test_older_files_have_no_noises(their_generator, tmp_path):
    torch.save({"g_ema": {k: v for k, v in their_generator.items() if not k.startswith("noises")}}, tmp_path / "net.pt")
    assert open_networks(tmp_path / "net.pt").states["G_ema"]["synthesis.b8.conv0.noise_const"].eq(0).all()


def test_a_training_checkpoint_gets_the_mean_style_that_it_does_not_bring(their_generator, tmp_path):
    torch.save({"g_ema": their_generator}, tmp_path / "net.pt")
    generator = open_networks(tmp_path / "net.pt").generator()
    z = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(3))
    mean, deviation = generator.mapping(z)[:, 0].mean(0), generator.mapping(z)[:, 0].std(0)
    assert ((generator.mapping.w_avg - mean).abs() < 5 * deviation / 10_000**0.5).all() and mean.abs().max() > 0.1 * deviation.max()


def test_ours_written_there_come_back(tmp_path):
    torch.manual_seed(1)
    kinds = (("G_ema", Generator), ("G", Generator), ("D", Discriminator))
    states = {name: kind(CONFIG).state_dict() for name, kind in kinds}
    save_networks(Networks(CONFIG, states), tmp_path / "ours")
    convert(str(tmp_path / "ours"), str(tmp_path / "theirs.pt"))
    stored = torch.load(tmp_path / "theirs.pt", weights_only=True)
    assert stored["g_ema"]["to_rgbs.0.upsample.kernel"].sum().item() == pytest.approx(4)
    assert {"convs.0.0.weight", "convs.1.conv1.0.weight", "convs.2.skip.1.weight", "final_linear.1.bias"} <= stored["d"].keys()
    back = open_networks(tmp_path / "theirs.pt")
    for name, state in states.items():
        assert state.keys() == back.states[name].keys()
        assert all(torch.equal(value, back.states[name][key]) for key, value in state.items())
    convert(str(tmp_path / "theirs.pt"), str(tmp_path / "again"))  # one mean style for both generators, but no shared memory
    assert open_networks(tmp_path / "again").states.keys() == states.keys()


def test_what_cannot_be_read_or_written(their_generator, tmp_path):
    with pytest.raises(FaceganError, match="does not exist"):
        open_networks(tmp_path / "absent.pt")
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(FaceganError, match="cannot be read as weights alone"):
        open_networks(tmp_path / "net.pt")
    torch.save({"g_ema": {k: v for k, v in their_generator.items() if k != "convs.1.activate.bias"}}, tmp_path / "net.pt")
    with pytest.raises(FaceganError, match="lacks convs.1.activate.bias"):
        open_networks(tmp_path / "net.pt")
    (tmp_path / "net.onnx").touch()
    with pytest.raises(FaceganError, match="of no known kind"):
        open_networks(tmp_path / "net.onnx")


def test_a_folder_that_is_none_of_ours(tmp_path):
    with pytest.raises(FaceganError, match="holds no readable model.safetensors and config.json"):
        open_networks(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "stylegan2", "resolution": 4096, "channel_base": 1048576}')
    save_file({"G_ema.mapping.w_avg": torch.zeros(512)}, tmp_path / "model.safetensors")
    with pytest.raises(FaceganError, match="absent in the file"):  # and not gigabytes of noise
        open_networks(tmp_path)
    for wrong, words in (
        ('"resolution": 1048576, "channel_base": 1048576', "resolution is 1048576"),
        ('"mapping_layers": 1000000000', "mapping_layers is 1000000000; expected a whole number from 1 to 64"),
        ('"z_dim": 4.0', "z_dim is 4.0"),
        ('"architecture": "orig"', "architecture is 'orig'"),
        ('"conv_clamp": NaN', "conv_clamp is nan"),
        ('"z_dim": ' + "[" * 100_000, "holds no readable"),
    ):
        (tmp_path / "config.json").write_text('{"kind": "stylegan2", ' + wrong + "}")
        with pytest.raises(FaceganError, match=words):
            open_networks(tmp_path)


def test_small_files_do_not_fill_memory(their_generator, tmp_path):
    def attempt(content, words):
        torch.save(content, tmp_path / "net.pt")
        with pytest.raises(FaceganError, match=words):
            open_networks(tmp_path / "net.pt")

    endless = torch.zeros(1).expand(1, 1 << 20, 1 << 20, 3, 3)
    attempt({"g": {**their_generator, "convs.1.conv.weight": endless}}, "more numbers than that")
    attempt({"g": their_generator, "latent_avg": torch.zeros(1).expand(1 << 40)}, "more numbers than that")
    tiny = {f"to_rgbs.{i}.conv.weight": torch.zeros(1) for i in range(14)}
    tiny |= {f"convs.{i}.conv.weight": torch.zeros(1, 1) for i in range(30)}  # noise maps of 65536 px, if they were made
    attempt({"g": {**their_generator, **tiny}}, "resolution is 65536")
    attempt({"g": {**their_generator, "input.input": torch.zeros(0, 12, 4, 4)}}, "unknown shapes")
    buffer = io.BytesIO()
    torch.save({"g": {"a": torch.zeros(1 << 20)}}, buffer)
    with zipfile.ZipFile(buffer) as stored, zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for part in stored.infolist():
            packed.writestr(part.filename, stored.read(part))
    with pytest.raises(FaceganError, match="bytes would unpack to"):
        open_networks(tmp_path / "net.pt")
