"""The networks, restated in float64 from their paper's figure and TensorFlow's rules for borders; what reads their weights."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import numpy as np
import pytest
import torch

from facegan.alignment import weights
from facegan.errors import FaceganError
from facegan.models.mtcnn import LandmarkNetwork, ProposalNetwork, RefinementNetwork

SHAPES = {  # (height and width of kernels, inputs, outputs) in order; (inputs, outputs) of linear layers
    ProposalNetwork: ([(3, 3, 10), (3, 10, 16), (3, 16, 32)], [], [(1, 32, 4), (1, 32, 2)]),
    RefinementNetwork: ([(3, 3, 28), (3, 28, 48), (2, 48, 64)], [(576, 128)], [(128, 4), (128, 2)]),
    LandmarkNetwork: ([(3, 3, 32), (3, 32, 64), (3, 64, 64), (2, 64, 128)], [(1152, 256)], [(256, 4), (256, 10), (256, 2)]),
}
POOLS = {
    ProposalNetwork: [(2, "same"), None, None],
    RefinementNetwork: [(3, "same"), (3, "valid"), None],
    LandmarkNetwork: [(3, "same"), (3, "valid"), (2, "same"), None],
}


def random_arrays(kind: type, random: np.random.Generator) -> list[np.ndarray]:
    """In the order and the layout of the files."""
    convolutions, linear, heads = SHAPES[kind]
    arrays = []
    for size, inputs, outputs in convolutions:
        arrays += [random.normal(size=(size, size, inputs, outputs)) / (size * inputs**0.5), random.normal(size=outputs)]
        arrays += [random.normal(size=(1, 1, outputs))]
    for inputs, outputs in linear:
        arrays += [random.normal(size=(inputs, outputs)) / inputs**0.5, random.normal(size=outputs), random.normal(size=outputs)]
    for head in heads:
        shape = (1, 1, *head[1:]) if len(head) == 3 else head
        arrays += [random.normal(size=shape) / head[-2] ** 0.5, random.normal(size=head[-1])]
    return arrays


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """[H, W, C], no border."""
    size = kernel.shape[0]
    rows, columns = x.shape[0] - size + 1, x.shape[1] - size + 1
    out = np.zeros((rows, columns, kernel.shape[3])) + bias
    for i in range(size):
        for j in range(size):
            out += x[i : i + rows, j : j + columns] @ kernel[i, j]
    return out


def pooled(x: np.ndarray, size: int, border: str) -> np.ndarray:
    """Largest of each window, stride 2; "same": as many as half of the input, rounded up, the border at the end."""
    count = [-(-n // 2) if border == "same" else (n - size) // 2 + 1 for n in x.shape[:2]]
    return np.array([[x[2 * i : 2 * i + size, 2 * j : 2 * j + size].max((0, 1)) for j in range(count[1])] for i in range(count[0])])


def restated(kind: type, arrays: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """The heads' outputs, each [..., outputs], the last one after a softmax."""
    left = list(arrays)
    for pool in POOLS[kind]:
        kernel, bias, slope = left.pop(0), left.pop(0), left.pop(0)
        x = convolved(x, kernel, bias)
        x = np.maximum(x, 0) + slope[0] * np.minimum(x, 0)
        x = pooled(x, *pool) if pool else x
    for _ in SHAPES[kind][1]:
        x = x.transpose(1, 0, 2).reshape(-1)  # column by column
        matrix, bias, slope = left.pop(0), left.pop(0), left.pop(0)
        x = x @ matrix + bias
        x = np.maximum(x, 0) + slope * np.minimum(x, 0)
    heads = []
    while left:
        kernel, bias = left.pop(0), left.pop(0)
        heads.append(x @ (kernel[0, 0] if kernel.ndim == 4 else kernel) + bias)
    odds = np.exp(heads[-1] - heads[-1].max(-1, keepdims=True))
    heads[-1] = odds / odds.sum(-1, keepdims=True)
    return heads


@pytest.mark.parametrize("kind, shape", [(ProposalNetwork, (12, 12)), (ProposalNetwork, (23, 31)), (ProposalNetwork, (40, 17)),
                                         (RefinementNetwork, (24, 24)), (LandmarkNetwork, (48, 48))])  # fmt: skip
def test_networks_are_their_equations(kind, shape):
    random = np.random.default_rng(3)
    arrays, images = random_arrays(kind, random), random.normal(size=(2, *shape, 3))
    net = kind()
    net.load(arrays)
    with torch.no_grad():
        outputs = net.double()(torch.from_numpy(images).permute(0, 3, 1, 2))
    for number, image in enumerate(images):
        heads = restated(kind, [array.astype(np.float32).astype(np.float64) for array in arrays], image)
        np.testing.assert_allclose(outputs[0][number].numpy(), heads[-1][..., 1], atol=1e-12)
        offsets = outputs[1][number].numpy()
        np.testing.assert_allclose(np.moveaxis(offsets, 0, -1) if offsets.ndim == 3 else offsets, heads[0], atol=1e-12)
        if len(heads) == 3:  # x of all points, then y of all
            np.testing.assert_allclose(outputs[2][number].numpy(), heads[1].reshape(2, 5).T, atol=1e-12)


def test_other_arrays_are_no_weights():
    arrays = random_arrays(RefinementNetwork, np.random.default_rng(0))
    with pytest.raises(ValueError, match="shorter|zip"):
        RefinementNetwork().load(arrays[:-1])
    arrays[0] = arrays[0][:2]
    with pytest.raises(ValueError, match="expected"):
        RefinementNetwork().load(arrays)


def test_no_package_is_a_sentence(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    assert not weights.available() and "facegan[align]" in weights.missing()
    weights.networks.cache_clear()
    with pytest.raises(FaceganError, match=r"pip install 'facegan\[align\]'"):
        weights.networks(torch.device("cpu"))


def test_another_release_is_refused_unread(monkeypatch, tmp_path: Path):
    """Its files are pickles: bytes other than those known are never handed to the reader."""
    folder = tmp_path / "mtcnn" / "assets" / "weights"
    folder.mkdir(parents=True)
    for name in ("pnet.lz4", "rnet.lz4", "onet.lz4"):
        (folder / name).write_bytes(b"other bytes")
    spec = importlib.machinery.ModuleSpec("mtcnn", None, origin=str(tmp_path / "mtcnn" / "__init__.py"))
    real = weights.importlib.util.find_spec
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: spec if name == "mtcnn" else real(name) or spec)
    weights.networks.cache_clear()
    with pytest.raises(FaceganError, match="not the file of mtcnn 1.0.0"):
        weights.networks(torch.device("cpu"))
    (folder / "pnet.lz4").unlink()
    assert "has no pnet.lz4" in weights.missing()
    weights.networks.cache_clear()


def test_making_networks_draws_no_random_numbers(networks):
    weights.networks.cache_clear()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    weights.networks(torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
