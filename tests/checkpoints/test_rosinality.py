"""rosinality's `.pt`: a network written in its names, by hand, opens as the same function; ours written there come back."""

from __future__ import annotations

import argparse
import collections
import io
import logging
import pathlib
import struct
import zipfile

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save_file

from facegan.checkpoints import networks as networks_module
from facegan.checkpoints.convert import convert
from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config

CONFIG = StyleGAN2Config(resolution=16, z_dim=5, w_dim=5, mapping_layers=2, channel_base=96, channel_max=12)
CHANNELS = {4: 12, 8: 12, 16: 6}


def styled(prefix, i, o, size, noise, state):
    state[f"{prefix}.conv.weight"] = torch.randn(1, o, i, 3, 3)
    state[f"{prefix}.conv.modulation.weight"], state[f"{prefix}.conv.modulation.bias"] = torch.randn(i, 5), torch.randn(i)
    state[f"{prefix}.noise.weight"], state[f"{prefix}.activate.bias"] = torch.randn(1), torch.randn(o)
    state[f"noises.noise_{noise}"] = torch.randn(1, 1, size, size)


def coloured(prefix, i, state, colours=3):
    state[f"{prefix}.conv.weight"], state[f"{prefix}.bias"] = torch.randn(1, colours, i, 1, 1), torch.randn(1, colours, 1, 1)
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
    save_networks(StyleGAN2Checkpoint(CONFIG, states), tmp_path / "ours")
    convert(str(tmp_path / "ours"), str(tmp_path / "theirs.pt"), force=True)
    stored = torch.load(tmp_path / "theirs.pt", weights_only=True)
    assert stored["g_ema"]["to_rgbs.0.upsample.kernel"].sum().item() == pytest.approx(4)
    assert {"convs.0.0.weight", "convs.1.conv1.0.weight", "convs.2.skip.1.weight", "final_linear.1.bias"} <= stored["d"].keys()
    back = open_networks(tmp_path / "theirs.pt")
    for name, state in states.items():
        assert state.keys() == back.states[name].keys()
        assert all(torch.equal(value, back.states[name][key]) for key, value in state.items())
    convert(str(tmp_path / "theirs.pt"), str(tmp_path / "again"))  # one mean style for both generators, but no shared memory
    assert open_networks(tmp_path / "again").states.keys() == states.keys()


FORMS = {
    "alone": lambda state, mean: state,
    "of DataParallel": lambda state, mean: {"g_ema": {f"module.{name}": value for name, value in state.items()}, "latent_avg": mean},
    "alone, of DataParallel": lambda state, mean: {f"module.{name}": value for name, value in state.items()},
    "of pSp": lambda state, mean: {"state_dict": {f"decoder.{name}": value for name, value in state.items()} | {"encoder.a": torch.ones(2)},
                                   "latent_avg": mean.repeat(6, 1), "opts": {"start_from_latent_avg": True, "exp_dir": pathlib.Path("a")}},
    "in a table": lambda state, mean: {"state_dict": state},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zipped", [True, False])
def test_forms_of_a_state_dict(their_generator, tmp_path, form, zipped):
    mean = torch.arange(5.0)
    torch.save({"g_ema": their_generator, "latent_avg": mean}, tmp_path / "plain.pt")
    torch.save(FORMS[form](their_generator, mean), tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    expected, found = open_networks(tmp_path / "plain.pt").states["G_ema"], open_networks(tmp_path / "net.pt").states["G_ema"]
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]) or (name == "mapping.w_avg" and "table" in form or "alone" in form), name


def test_a_discriminator_of_another_kind_is_left_out(their_generator, tmp_path, caplog):
    for judge, words in (({"convs.0.0.weight": torch.zeros(6, 3, 1, 1)}, "lacks convs.0.1.bias"), ({}, "lacks convs.0.0.weight")):
        torch.save({"g_ema": their_generator, "d": judge}, tmp_path / "net.pt")
        with caplog.at_level(logging.WARNING):
            assert open_networks(tmp_path / "net.pt").states.keys() == {"G_ema"}
        assert "its discriminator is left out" in caplog.messages[-1] and words in caplog.messages[-1]


def test_grey_networks(their_generator, tmp_path):
    for prefix, channels in (("to_rgb1", 12), ("to_rgbs.0", 12), ("to_rgbs.1", 6)):
        coloured(prefix, channels, their_generator, colours=1)
    torch.save({"g_ema": their_generator}, tmp_path / "net.pt")
    opened = open_networks(tmp_path / "net.pt")
    assert opened.config.img_channels == 1
    assert opened.generator()(torch.randn(2, 5), noise_mode="const").shape == (2, 1, 16, 16)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_values_that_carry_numbers_and_run_nothing(their_generator, tmp_path, zipped, protocol):
    """Whatever training loops put beside their networks."""
    state = torch.nn.Linear(2, 2).state_dict()  # with the `_metadata` that state dicts bear
    state.update(their_generator)
    beside = {
        "args": argparse.Namespace(size=16, path=pathlib.Path("b")), "p": np.float64(0.3), "n": np.int64(3),
        "f": np.float32(1), "mean": np.arange(6.0).reshape(2, 3), "kind": np.dtype("float32"), "device": torch.device("cpu"),
        "dtype": torch.float16, "size": torch.Size([2]), "more": collections.defaultdict(list, a=[1]), "seen": collections.Counter("aab"),
        "last": collections.deque([1, 2]), "names": {"a", "b"}, "bytes": b"x", "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    torch.save({"g_ema": state, "latent_avg": torch.arange(5.0), **beside}, tmp_path / "net.pt", pickle_protocol=protocol,
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    found = open_networks(tmp_path / "net.pt").states["G_ema"]
    assert torch.equal(found["synthesis.b4.const"], their_generator["input.input"][0])


def test_a_refusal_names_the_class_and_nothing_else(their_generator, tmp_path):
    for zipped in (True, False):
        torch.save({"g_ema": their_generator, "extra": torch.nn.Linear(1, 1)}, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(FaceganError, match="asks for torch.nn.modules.linear.Linear, which no network of") as refusal:
            open_networks(tmp_path / "net.pt")
        assert "weights_only" not in str(refusal.value) and str(refusal.value).isprintable()


def test_claims_of_an_archive_are_held_against_its_bytes(their_generator, tmp_path, monkeypatch):
    def attempt(change, words):
        buffer = io.BytesIO()
        torch.save({"g_ema": their_generator}, buffer)
        with zipfile.ZipFile(buffer) as stored, zipfile.ZipFile(tmp_path / "net.pt", "w") as changed:
            for part in stored.infolist():
                data = change(part.filename, stored.read(part))
                if data is not None:
                    changed.writestr(part.filename, data)
        with pytest.raises(FaceganError, match=words) as refusal:
            open_networks(tmp_path / "net.pt")
        assert str(refusal.value).isprintable()

    attempt(lambda name, data: data[:-4] if name.endswith("data/3") else data, "storage of .* numbers in .* bytes")
    attempt(lambda name, data: None if name.endswith("data/3") else data, "lacks its part archive/data/3")
    attempt(lambda name, data: b"big" if name.endswith("byteorder") else data, "big-endian")
    attempt(lambda name, data: None if name.endswith("data.pkl") else data, "without the one data.pkl")
    attempt(lambda name, data: data.replace(b"FloatStorage", b"Storage\x1b[2J\t") if name.endswith("data.pkl") else data, "cannot be read")
    monkeypatch.setattr("facegan.checkpoints.storages.LARGEST_PART", 1000)
    attempt(lambda name, data: data, "larger than any tensor")
    monkeypatch.setattr("facegan.checkpoints.storages._LARGEST_DIRECTORY", 100)
    attempt(lambda name, data: data, "an archive of more parts")


def test_a_wide_mapping_draws_no_styles_before_shapes_are_checked(their_generator, tmp_path, monkeypatch):
    monkeypatch.setattr("facegan.checkpoints.rosinality.mean_style", lambda *_: pytest.fail("styles were drawn"))
    for width, words in ((65536, "z_dim is 65536; expected a whole number from 1 to 4096"), (4096, r"is \[5\] in the file, and \[1\]")):
        torch.save({"g_ema": {**their_generator, "style.1.weight": torch.zeros(1, width)}}, tmp_path / "net.pt")
        with pytest.raises(FaceganError, match=words):
            open_networks(tmp_path / "net.pt")
    torch.save({"g_ema": {**their_generator, "style.1.weight": torch.full((5, 5), torch.nan)}}, tmp_path / "net.pt")
    with pytest.raises(FaceganError, match="mapping.fc0.weight holds values that are not finite"):
        open_networks(tmp_path / "net.pt")


# --- what is written


def states_of(config):
    torch.manual_seed(1)
    return {name: kind(config).state_dict() for name, kind in (("G_ema", Generator), ("G", Generator), ("D", Discriminator))}


def test_the_form_says_what_it_does_not_keep(tmp_path, caplog):
    config = StyleGAN2Config(resolution=8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=4096, mapping_lr=0.02, conv_clamp=256.0,
                             group=8, d_architecture="orig")  # fmt: skip
    with caplog.at_level(logging.WARNING):
        rosinality_write(tmp_path / "net.pt", config)
    (said,) = caplog.messages
    assert "does not keep conv_clamp 256; mapping_lr 0.02; group 8; the discriminator" in said
    stored = torch.load(tmp_path / "net.pt", weights_only=True)
    assert stored.keys() == {"g_ema", "g", "latent_avg"} and [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def rosinality_write(path, config, force=False):
    from facegan.checkpoints import rosinality

    rosinality.write(path, config, states_of(config), force)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(z_dim=4), "z has 4 numbers and w 8"), (dict(channel_base=64), "its channels are 16, 8 from 4 px on"),
        (dict(img_channels=1), r"its images have 1 channel\(s\)"),
    ],
)  # fmt: skip
def test_what_their_code_cannot_load_is_written_by_force_alone(tmp_path, options, words):
    config = StyleGAN2Config(**{**dict(resolution=8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=4096), **options})
    with pytest.raises(FaceganError, match=f"{words}, which rosinality's code cannot load; `force`"):
        rosinality_write(tmp_path / "net.pt", config)
    assert not list(tmp_path.iterdir())
    rosinality_write(tmp_path / "net.pt", config, force=True)
    assert open_networks(tmp_path / "net.pt").config.img_channels == config.img_channels


def test_tensors_that_networks_share_are_written_for_each(tmp_path):
    state = Generator(CONFIG).state_dict()
    save_networks(StyleGAN2Checkpoint(CONFIG, {"G": state, "G_ema": {**state, "mapping.w_avg": torch.ones(50)[::10]}}), tmp_path / "net")
    found = open_networks(tmp_path / "net").states
    assert all(torch.equal(value, found["G"][name]) for name, value in state.items()) and found["G_ema"]["mapping.w_avg"].eq(1).all()


def test_a_folder_is_never_half_of_one_network_and_half_of_another(tmp_path, monkeypatch):
    states = states_of(CONFIG)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/recipe.json").write_text("{}")
    save_networks(StyleGAN2Checkpoint(CONFIG, states), tmp_path / "net")

    def full(*_):
        raise OSError(28, "No space left on device")

    def failed(*_):
        raise safetensors.SafetensorError("I/O error")

    for failure in (full, failed):
        monkeypatch.setattr(networks_module, "save_file", failure)
        with pytest.raises((OSError, FaceganError), match="No space|model.safetensors could not be written: I/O error; make room"):
            save_networks(StyleGAN2Checkpoint(CONFIG, {"G": states["G"]}), tmp_path / "net")
    assert open_networks(tmp_path / "net").states.keys() == states.keys()
    monkeypatch.undo()
    monkeypatch.setattr(networks_module, "write_whole", full)
    with pytest.raises(OSError, match="No space"):
        save_networks(StyleGAN2Checkpoint(CONFIG, {"G": states["G"]}), tmp_path / "net")
    with pytest.raises(FaceganError, match="holds no model.safetensors and config.json"):
        open_networks(tmp_path / "net")
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["model.safetensors", "recipe.json"]


def test_headers_and_files_of_weights_have_limits(tmp_path):
    save_networks(StyleGAN2Checkpoint(CONFIG, states_of(CONFIG)), tmp_path / "net")
    path = tmp_path / "net/model.safetensors"
    whole = path.read_bytes()

    def attempt(content, words):
        path.write_bytes(content)
        with pytest.raises(FaceganError, match=words):
            open_networks(tmp_path / "net")

    attempt(struct.pack("<Q", 1 << 40) + whole[8:], "a header of 1,099,511,627,776 bytes")
    attempt(whole[:-4], "is no readable file of tensors")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(FaceganError, match="model.safetensors is no regular file"):
        open_networks(tmp_path / "net")
    (tmp_path / "net/config.json").unlink()
    (tmp_path / "net/config.json").symlink_to("/dev/zero")
    with pytest.raises(FaceganError, match="holds no|no regular file"):
        open_networks(tmp_path / "net")


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
    with pytest.raises(FaceganError, match="holds no model.safetensors and config.json of a StyleGAN2 network"):
        open_networks(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "stylegan2", "resolution": 4096, "channel_base": 1048576}')
    save_file({"G_ema.mapping.w_avg": torch.zeros(512)}, tmp_path / "model.safetensors")
    with pytest.raises(FaceganError, match="absent in the file"):  # and not gigabytes of noise
        open_networks(tmp_path)
    for wrong, words in (
        ('"resolution": 1048576, "channel_base": 1048576', "resolution is 1048576"),
        ('"mapping_layers": 1000000000', "mapping_layers is 1000000000; expected a whole number from 1 to 64"),
        ('"z_dim": 4.0', "z_dim is 4.0"),
        ('"architecture": "unknown"', "architecture is unknown"),
        ('"conv_clamp": NaN', "conv_clamp is nan"),
        ('"mapping_lr": 1e300', r"mapping_lr is 1e\+300; expected a number"),
        ('"z_dim": ' + "9" * 400, "a whole number beyond 64 bits"),
        ('"z_dim": [[1], {"a": 2}]', "z_dim is a list"),
        ('"' + "x" * 5000 + '": 1', r"holds x{97}\.\.\., which no StyleGAN2 configuration"),
        ('"z_dim": ' + "[" * 100_000, "nests too deeply"),
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
    attempt({"g": {**their_generator, "convs.1.conv.weight": endless}}, "beyond its 1 stored numbers")
    attempt({"g": their_generator, "latent_avg": torch.zeros(1).expand(1 << 40)}, "beyond its 1 stored numbers")
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
