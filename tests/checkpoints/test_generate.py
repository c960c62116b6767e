"""`facegan generate NETWORK` and `facegan convert` as a user calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.checkpoints.pretrained import located
from facegan.cli import main
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.options import SYNTHETIC


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=8, z_dim=4, w_dim=4, mapping_layers=2, channel_base=64, channel_max=8)
    generator = Generator(config)
    generator.mapping.w_avg.normal_()
    save_networks(StyleGAN2Checkpoint(config, {"G_ema": generator.state_dict()}), tmp_path / "net")
    return tmp_path / "net", generator


def test_a_seed_means_what_it_means_to_nvidia(network, tmp_path):
    folder, generator = network
    assert main(["generate", str(folder), "--seeds", "0,7", "--truncation", "0.7", "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["grid.png", "seed0000.png", "seed0007.png"]
    z = torch.from_numpy(np.random.RandomState(7).randn(1, 4)).float()
    with torch.no_grad():
        w_avg = generator.mapping.w_avg
        image = generator.synthesis(w_avg + 0.7 * (generator.mapping(z) - w_avg), "const")[0]
    expected = np.clip(image.permute(1, 2, 0).numpy() * 127.5 + 128, 0, 255)
    found = np.asarray(Image.open(tmp_path / "out" / "seed0007.png")).astype(float)
    assert np.abs(found - np.floor(expected)).max() <= 1  # a last digit may round across


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["generate", "nowhere.pkl", "--out", "o"], "nowhere.pkl does not exist"),
        (["generate", "NET", "--best", "3", "--out", "o"], "is a StyleGAN2 network: --best goes with a run of Method A"),
        (["convert", "nowhere", "o"], "nowhere does not exist"),
        (["convert", "BROKEN", "o"], "is refused: it asks for os.system"),
    ],
)
def test_mistakes_are_one_line_and_status_2(network, tmp_path, capsys, arguments, words):
    (tmp_path / "broken.pkl").write_bytes(b"\x80\x03cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    names = {"NET": str(network[0]), "BROKEN": str(tmp_path / "broken.pkl"), "o": str(tmp_path / "o")}
    assert main([names.get(a, a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_slim_copy_makes_the_same_faces_and_keeps_a_discriminator_in_half_the_room(tmp_path):
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=8, z_dim=4, w_dim=4, mapping_layers=2, channel_base=64, channel_max=8)
    states = {"G": Generator(config).state_dict(), "G_ema": Generator(config).state_dict(), "D": Discriminator(config).state_dict()}
    save_networks(StyleGAN2Checkpoint(config, states), tmp_path / "net")
    assert main(["convert", str(tmp_path / "net"), str(tmp_path / "slim"), "--slim"]) == 0
    found = open_networks(tmp_path / "slim").states
    assert found.keys() == {"G_ema", "D"} and all(torch.equal(value, states["G_ema"][name]) for name, value in found["G_ema"].items())
    for name, value in found["D"].items():
        assert value.dtype == torch.float32 and torch.equal(value, states["D"][name].half().float())
    assert main(["convert", str(tmp_path / "net"), str(tmp_path / "slim.pt"), "--slim"]) == 2


def test_a_path_comes_before_the_name_of_a_shipped_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("nowhere") == Path("nowhere")
    (tmp_path / SYNTHETIC).mkdir()
    assert located(SYNTHETIC) == Path(SYNTHETIC)


@pytest.mark.parametrize("channels,mode", [(1, "L"), (4, "RGBA")])
def test_grey_and_transparent_networks_make_such_pictures(tmp_path, capsys, channels, mode):
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=64, channel_max=8, img_channels=channels)
    save_networks(StyleGAN2Checkpoint(config, {"G_ema": Generator(config).state_dict()}), tmp_path / "net")
    assert main(["generate", str(tmp_path / "net"), "--seeds", "0-2", "--out", str(tmp_path / "out")]) == 0
    for name in ("seed0001.png", "grid.png"):
        assert Image.open(tmp_path / "out" / name).mode == mode
    command = ["mix", "--network", str(tmp_path / "net"), "--rows", "0", "--cols", "1", "--layers", "0-2", "--out", str(tmp_path / "mix")]
    assert main(command) == 0
    assert Image.open(tmp_path / "mix/row-seed0000_col-seed0001.png").mode == mode
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    assert main(["project", "--network", str(tmp_path / "net"), "--target", str(tmp_path / "photo.png"), "--out", str(tmp_path / "p")]) == 2
    assert "RGB networks alone can be projected into; generate and mix serve others" in capsys.readouterr().err
