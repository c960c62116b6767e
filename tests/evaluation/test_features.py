"""Features of images: the judge's, Inception's by torch-fidelity's own network, and their cache."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from facegan.errors import FaceganError
from facegan.evaluation import features
from facegan.evaluation.features import Attributes, Inception, attr_features, data_features
from facegan.extras import NEEDED, available, library

needs_extra = pytest.mark.skipif(not available(), reason=NEEDED)


def floats(images):
    return torch.from_numpy(images).float() / 127.5 - 1


def test_the_judges_features_are_means_of_what_its_heads_read(world, judge):
    images, seen = floats(world[0].images[:7]), []
    hooks = [net.head.register_forward_hook(lambda _m, inputs, _y: seen.append(inputs[0])) for net in judge.nets]
    for net in judge.nets:
        net(images)
    for hook in hooks:
        hook.remove()
    # a head reads 4 x 4 places of each channel: the mean of each 2 x 2 of them
    quarters = [x.reshape(7, -1, 2, 2, 2, 2).mean((3, 5)).flatten(1) for x in seen]
    found = attr_features(judge, images)
    torch.testing.assert_close(found, torch.cat(quarters, 1), rtol=1e-4, atol=1e-5)
    assert found.dtype == torch.float32 and found.shape[1] == 2 * 4 * 16
    torch.testing.assert_close(attr_features(judge, images[2:4], batch=1), found[2:4], rtol=1e-4, atol=1e-5)
    assert attr_features(judge, images[:0]).shape == (0, found.shape[1])


def test_images_that_the_judge_refuses_have_no_features(judge):
    with pytest.raises(FaceganError, match="images must be float"):
        attr_features(judge, torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"other", "has sha256 d9298a10…")])
def test_a_bad_file_of_weights_is_told_with_file_url_digest_and_flag(tmp_path, content, said):
    path = tmp_path / "weights.pth"
    if content:
        path.write_bytes(content)
    with pytest.raises(FaceganError) as caught:
        Inception(path)
    for words in (str(path), said, features.INCEPTION_URL, "6726825d", f"`weights={path}` ", "name it with `weights`"):
        assert words in str(caught.value)


@needs_extra
def test_inception_is_torch_fidelitys_on_bytes(tmp_path, monkeypatch):
    network = library("torch_fidelity").FeatureExtractorInceptionV3
    (tmp_path / "nothing.pth").write_bytes(b"")
    with monkeypatch.context() as patch:  # a network of random weights: the real ones are on few machines
        patch.setattr(torch, "load", lambda *_a, **_k: {})
        patch.setattr(network, "load_state_dict", lambda *_a, **_k: None)
        own = network("random", ["2048"], feature_extractor_weights_path=str(tmp_path / "nothing.pth"))
    torch.save(own.state_dict(), tmp_path / "random.pth")
    digest = hashlib.sha256((tmp_path / "random.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(features, "INCEPTION_SHA256", digest[:8])
    extractor = Inception(tmp_path / "random.pth")
    pixels = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    torch.testing.assert_close(extractor(pixels.float() / 127.5 - 1).to("cpu"), own(pixels)[0], rtol=1e-3, atol=1e-5)
    assert extractor.suffix == "" and digest in extractor.identity and Attributes.suffix == "_attr"


class Counting:
    """An extractor that knows how often it was asked."""

    suffix, description, identity, calls = "_count", "counted", "counting-1", 0

    def __call__(self, images, progress=False):
        self.calls += 1
        return images.mean((2, 3))


def test_features_of_data_are_extracted_once_for_the_same_question(world, tmp_path):
    data, extractor, rows = world[0], Counting(), np.arange(300)
    first = data_features(extractor, data, rows, tmp_path)
    torch.testing.assert_close(first, floats(data.images[:300]).mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert extractor.calls == 2  # pieces that fit in memory
    assert torch.equal(data_features(extractor, data, rows, tmp_path), first) and extractor.calls == 2
    assert len(data_features(extractor, data, rows[1:], tmp_path)) == 299 and extractor.calls == 4
    extractor.identity = "counting-2"
    data_features(extractor, data, rows, tmp_path)
    assert extractor.calls == 6
    for file in (tmp_path / "features").iterdir():
        file.write_bytes(b"torn")
    assert torch.equal(data_features(extractor, data, rows, tmp_path), first) and extractor.calls == 8
    assert len(list((tmp_path / "features").iterdir())) == 3


def test_without_a_place_for_the_cache_features_are_extracted_all_the_same(world, tmp_path):
    (tmp_path / "file").write_text("")
    assert data_features(Counting(), world[0], np.arange(5), tmp_path / "file").shape == (5, 3)
