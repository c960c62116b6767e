"""Style files and names: NVIDIA's form, ours, seeds, and a sentence for everything else."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.styles import store
from facegan.styles.store import read_styles, resolve, write_style

CONFIG = StyleGAN2Config(resolution=8, z_dim=4, w_dim=3, mapping_layers=2, channel_base=64, channel_max=8)  # num_ws 4


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    generator = Generator(CONFIG).eval()
    generator.mapping.w_avg.normal_()
    return generator


def test_a_style_survives_the_file_in_nvidias_form(tmp_path):
    w = torch.randn(4, 3)
    write_style(tmp_path / "deep" / "face.npz", w)
    with np.load(tmp_path / "deep" / "face.npz") as file:
        assert list(file) == ["w"] and file["w"].dtype == np.float32
        assert file["w"].shape == (1, 4, 3) and np.array_equal(file["w"][0], w.numpy())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["face.npz"]
    [style] = read_styles(tmp_path / "deep" / "face.npz", CONFIG)
    assert style.name == "face" and torch.equal(style.w, w) and not style.is_plain


@pytest.mark.parametrize("shape,count", [((3,), 1), ((2, 3), 2), ((2, 1, 3), 2), ((5, 4, 3), 5), ((1, 4, 3), 1)])
def test_every_shape_that_means_styles_is_read(tmp_path, shape, count):
    array = np.random.default_rng(0).normal(size=shape)
    np.savez(tmp_path / "some.npz", w=array)
    styles = read_styles(tmp_path / "some.npz", CONFIG)
    assert [style.name for style in styles] == (["some"] if count == 1 else [f"some-{i}" for i in range(count)])
    for index, style in enumerate(styles):
        row = array.reshape(count, -1, 3)[index]
        assert style.w.dtype == torch.float32 and np.allclose(style.w.numpy(), np.broadcast_to(row, (4, 3)))


@pytest.mark.parametrize(
    "arrays,words",
    [
        (dict(w=np.zeros((1, 6, 3))), r"shape \[1, 6, 3\]; this network takes \[N, 4, 3\]"),
        (dict(w=np.zeros((1, 4, 5))), r"shape \[1, 4, 5\]"),
        (dict(w=np.zeros((1, 1, 4, 3))), r"shape \[1, 1, 4, 3\]"),
        (dict(w=np.float64(3)), r"shape \[\]"),
        (dict(w=np.zeros((0, 4, 3))), r"shape \[0, 4, 3\]"),
        (dict(w=np.full((1, 4, 3), np.nan)), "not finite"),
        (dict(w=np.array(["a", "b", "c"])), "expected real numbers"),
        (dict(w=np.array([{}, 1, 2], dtype=object)), "type object; expected real numbers"),
        (dict(direction=np.zeros((4, 3))), "has no key w, but direction"),
        (dict(), "has no key w, but nothing"),
    ],
)
def test_a_wrong_file_gets_one_sentence(tmp_path, arrays, words):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(FaceganError, match=words) as caught:
        read_styles(tmp_path / "bad.npz", CONFIG)
    assert "bad.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_files_get_one_sentence(tmp_path):
    write_style(tmp_path / "cut.npz", torch.randn(4, 3))
    data = (tmp_path / "cut.npz").read_bytes()
    for size in (0, 10, len(data) - 30):
        (tmp_path / "cut.npz").write_bytes(data[:size])
        with pytest.raises(FaceganError, match="no readable"):
            read_styles(tmp_path / "cut.npz", CONFIG)
    with pytest.raises(FaceganError, match="does not exist"):
        read_styles(tmp_path / "absent.npz", CONFIG)


@pytest.mark.parametrize(
    "dtype,shape,words",
    [
        ("f4", (5000, 4, 3), "60000 numbers; no style is that large"),
        ("i1", (50_000, 1, 3), "150000 numbers"),  # as float32
        ("f2", (10_000, 1, 3), "10000 styles; expected at most 100000, and less than 0 MiB"),  # as one for each layer
        ("f4", (20, 4, 3), "at most 10"),
    ],
)
def test_arrays_are_held_against_limits_as_they_will_be_used(tmp_path, monkeypatch, dtype, shape, words):
    monkeypatch.setattr(store, "LARGEST", 200_000)
    if len(shape) and shape[0] == 20:
        monkeypatch.setattr(store, "MOST_STYLES", 10)
    np.savez_compressed(tmp_path / "zeros.npz", w=np.zeros(shape, dtype))
    with pytest.raises(FaceganError, match=words):
        read_styles(tmp_path / "zeros.npz", CONFIG)


def test_no_more_is_unpacked_than_the_header_says(tmp_path, monkeypatch):
    """A header of few numbers before many bytes, and one of many before few."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, dict(descr="<f4", fortran_order=False, shape=(1, 4, 3)))
    for body, good in ((bytes(48), True), (bytes(4096), True), (bytes(40), False)):
        with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("w.npy", header.getvalue() + body)
        if good:
            assert read_styles(tmp_path / "w.npz", CONFIG)[0].w.shape == (4, 3)
        else:
            with pytest.raises(FaceganError, match="no readable"):
                read_styles(tmp_path / "w.npz", CONFIG)


def test_long_lists_of_members_pipes_and_names_that_would_garble_a_terminal(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for name in range(40):
            archive.writestr(f"\x1b[31m{name}\n.npy", b"")
    with pytest.raises(FaceganError, match="has no key w, but ") as caught:
        read_styles(tmp_path / "many.npz", CONFIG)
    assert str(caught.value).isprintable()
    monkeypatch.setattr(store, "LONGEST_LIST", 1000)
    with pytest.raises(FaceganError, match="lists more members"):
        read_styles(tmp_path / "many.npz", CONFIG)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(FaceganError, match="no regular file"):
        read_styles(tmp_path / "pipe.npz", CONFIG)
    assert not store.has_key(tmp_path / "pipe.npz", "w")


def test_seeds_are_truncated_styles_of_randomstate(generator):
    styles = resolve(["3", "5-6"], generator, psi=0.7)
    assert [style.name for style in styles] == ["seed0003", "seed0005", "seed0006"]
    z = torch.from_numpy(np.random.RandomState(6).randn(1, 4)).float()
    with torch.no_grad():
        w, mean = generator.mapping(z)[0], generator.mapping.w_avg
    torch.testing.assert_close(styles[2].w, mean + 0.7 * (w - mean))
    assert torch.equal(styles[2].w, resolve(["6"], generator, psi=0.7)[0].w) and styles[2].is_plain


def test_paths_folders_and_names(generator, tmp_path):
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    write_style(tmp_path / "mine" / "bald.npz", first)
    write_style(tmp_path / "mine" / "beard.npz", second)
    write_style(tmp_path / "mine" / "smile.npz", second, key="direction")
    write_style(tmp_path / "shipped" / "bald.npz", second)
    for token in (str(tmp_path / "mine" / "beard.npz"), "beard"):
        [style] = resolve([token], generator, tmp_path / "mine")
        assert style.name == "beard" and torch.equal(style.w, second)
    folder = resolve([str(tmp_path / "mine")], generator)
    assert [style.name for style in folder] == ["bald", "beard"]  # a direction is no point
    both = resolve(["bald"], generator, [tmp_path / "mine", tmp_path / "shipped"])
    assert torch.equal(both[0].w, first)


@pytest.mark.parametrize(
    "token,words",
    [
        ("hat", "one of bald"),
        ("7-3", "style '7-3', 0 faces"),
        ("0-3-5", "style '0-3-5': expected numbers and ranges"),
        ("no.npz", "does not exist"),
    ],
)
def test_an_unknown_name_says_what_there_is(generator, tmp_path, token, words):
    write_style(tmp_path / "bald.npz", torch.zeros(4, 3))
    with pytest.raises(FaceganError, match=words):
        resolve([token], generator, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaceganError, match="holds no styles"):
        resolve([str(tmp_path / "empty")], generator, tmp_path)


def test_seeds_of_a_conditional_network_are_refused_but_not_its_files(tmp_path):
    conditional = Generator(replace(CONFIG, c_dim=2)).eval()
    with pytest.raises(FaceganError, match="style 3 is a seed, and this network is conditional.*name projections instead"):
        resolve(["3-4"], conditional)
    write_style(tmp_path / "bald.npz", torch.ones(4, 3))
    assert resolve(["bald"], conditional, tmp_path)[0].w.eq(1).all()
