"""Styles as other projects write them."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch

from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.styles.store import read_styles, resolve

CONFIG = StyleGAN2Config(resolution=8, z_dim=4, w_dim=3, mapping_layers=2, channel_base=64, channel_max=8)  # num_ws 4


@pytest.mark.parametrize("shape,count", [((3,), 1), ((2, 3), 2), ((4, 3), 1), ((1, 3), 1), ((2, 1, 3), 2), ((5, 4, 3), 5)])
def test_arrays(tmp_path, shape, count):
    array = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "some.npy", array)
    styles = read_styles(tmp_path / "some.npy", CONFIG)
    assert [style.name for style in styles] == (["some"] if count == 1 else [f"some-{i}" for i in range(count)])
    for index, style in enumerate(styles):
        row = array.reshape(count, -1, 3)[index]
        assert style.w.dtype == torch.float32 and np.allclose(style.w.numpy(), np.broadcast_to(row, (4, 3)))
    assert [style.name for style in resolve([str(tmp_path / "some.npy")], Generator(CONFIG))] == [style.name for style in styles]


def test_tensors(tmp_path):
    w, wide = torch.randn(2, 3), torch.randn(2, 4, 3)
    photo = dict(img=torch.zeros(1, 3, 8, 8), noise=[torch.zeros(1, 1, 4, 4)])
    for content, expected in (
        ({"a.png": {**photo, "latent": w[0]}}, w[:1, None].expand(1, 4, 3)),
        ({"a.png": {**photo, "latent": w[0]}, "b.png": {**photo, "latent": w[1]}}, w[:, None].expand(2, 4, 3)),
        ({"a.png": {**photo, "latent": wide[0]}, "b.png": {**photo, "latent": wide[1]}}, wide),
        (wide, wide), ({"latent": w[1]}, w[1:, None].expand(1, 4, 3)), (wide[0], wide[:1]),
    ):  # fmt: skip
        torch.save(content, tmp_path / "faces.pt")
        found = read_styles(tmp_path / "faces.pt", CONFIG)
        assert torch.equal(torch.stack([style.w for style in found]), expected)


def test_a_table_is_ambiguous_without_a_network(tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((4, 3)))
    with pytest.raises(FaceganError, match=r"4 rows, the layers of one style or as many styles: save it as \[1, 4, 3\]"):
        read_styles(tmp_path / "w.npy")
    np.save(tmp_path / "w.npy", np.zeros((1, 4, 3)))
    assert len(read_styles(tmp_path / "w.npy")) == 1
    torch.save({"a.png": {"latent": torch.zeros(4, 3)}}, tmp_path / "w.pt")  # one photo's
    assert len(read_styles(tmp_path / "w.pt")) == 1


def bytes_of(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.npy", bytes_of(np.zeros((1, 6, 3))), r"shape \[1, 6, 3\]; this network takes"),
        ("a.npy", bytes_of(np.array([{}])), "no array of numbers in numpy's form"),
        ("a.npy", bytes_of(np.zeros(3, complex)), "no array of real numbers"),
        ("a.npy", bytes_of(np.full(3, np.nan)), "not finite"),
        ("a.npy", bytes_of(np.zeros(3)).replace(b"(3,)", b"(1099511627776,)")[:128], "no array of numbers in numpy's form"),
        ("a.npy", b"", "no array of numbers in numpy's form"),
        ("a.pt", pickle.dumps({"a": 1}), "cannot be read as weights alone"),
    ],
)
def test_what_is_none(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FaceganError, match=words) as refusal:
        read_styles(tmp_path / name, CONFIG)
    assert "\n" not in str(refusal.value)


def test_networks_are_no_styles(tmp_path):
    torch.save({"g_ema": {"a": torch.zeros(2)}}, tmp_path / "net.pt")
    with pytest.raises(FaceganError, match="holds no styles: expected a tensor, or tensors under latent"):
        read_styles(tmp_path / "net.pt", CONFIG)
