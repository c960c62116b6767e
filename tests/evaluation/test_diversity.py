"""Diversity and memorisation against brute force, and LPIPS from a file against the library's own."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facegan.errors import FaceganError
from facegan.evaluation import diversity
from facegan.evaluation.diversity import lpips_here, lpips_with, mean_distance, mean_lpips, memorisation, nearest
from facegan.evaluation.joint_rate import laplacian_sharpness
from facegan.evaluation.judge.degradation import gaussian_blur
from facegan.extras import NEEDED, available, library

needs_extra = pytest.mark.skipif(not available(), reason=NEEDED)


def floats(images):
    return torch.from_numpy(images).float() / 127.5 - 1


def seen(images):
    """What `look` keeps of faces no larger than its copies."""
    judge = SimpleNamespace(device=torch.device("cpu"))
    return SimpleNamespace(judge=judge, draw=images.__getitem__, small=images, sharpness=laplacian_sharpness(images))


def test_the_mean_distance_is_that_of_all_pairs():
    assert mean_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])) == pytest.approx((5 + 4 + 3) / 3)
    assert mean_distance(torch.zeros(1, 2)) is None


def test_the_nearest_training_image_is_found_also_mirrored(world):
    data, rows = world[0], np.arange(50, 300)
    images = floats(data.images[[3, 60, 70]])
    images[2] = images[2].flip(-1)
    found, place = nearest(images, data, rows)
    known = data.images[rows].astype(np.float64)
    both = np.stack([known, known[..., ::-1]])
    apart = np.sqrt(((both - data.images[3].astype(np.float64)) ** 2).mean((2, 3, 4))) / 127.5
    assert found[0] == pytest.approx(apart.min(), rel=1e-4) and place[0] == apart.min(0).argmin()
    assert found[1:].tolist() == pytest.approx([0, 0], abs=1e-3) and rows[place[1:].numpy()].tolist() == [60, 70]


def test_copies_are_told_from_strangers(world):
    data, groups, split = world
    rows, held_out = np.intersect1d(split.train, groups.usable), split.judge[50:]
    others = floats(data.images[split.judge[:50]])
    fresh, picture = memorisation(seen(others), held_out, data, rows, [str(i) for i in range(50)])
    assert fresh["ratio"] == pytest.approx(1, abs=0.1) and fresh["closer_than_any_held_out"] < 0.2
    assert fresh["training_images"] == len(rows) and picture.width > 200 and picture.height > 1000
    assert fresh["held_out"] == len(held_out) and fresh["by_chance"] == pytest.approx(1 / (1 + len(held_out)))
    copied, _ = memorisation(seen(floats(data.images[rows[:40]])), held_out, data, rows, [str(i) for i in range(40)])
    assert copied["ratio"] < 0.01 and copied["closer_than_any_held_out"] == 1
    # a few copies among many held_out leave the median where it is
    few, _ = memorisation(seen(torch.cat([others[:45], floats(data.images[rows[:5]])])), held_out, data, rows, ["x"] * 50)
    assert few["ratio"] > 0.9 and few["closer_than_any_held_out"] >= 0.1


def test_one_stranger_more_is_the_nearest_as_often_as_chance_says(world):
    """Every face of a set in turn against the others: the share that comes nearer than all of these is 1 / (M + 1) by symmetry."""
    data, _, split = world
    rows, people = split.train, split.judge[:30]
    near = nearest(floats(data.images[people]), data, rows)[0]
    found = []
    for i in range(len(people)):
        found.append(float((near[i] < near[[j for j in range(30) if j != i]].min()).float()))
    assert np.mean(found) == pytest.approx(1 / 30)


def test_blur_alone_makes_no_difference(world):
    data, _, split = world
    soft = gaussian_blur(floats(data.images[split.judge[:40]]), torch.tensor([1.5]))
    metadata, _ = memorisation(seen(soft), split.judge[40:], data, split.train, ["x"] * 40)
    assert metadata["ratio"] == pytest.approx(1, abs=0.05)
    sharp = float(nearest(floats(data.images[split.judge[40:]]), data, split.train)[0].median())
    assert abs(metadata["median"] / sharp - 1) > 0.15  # what the ratio would be off by without the blur


@needs_extra
def test_lpips_from_a_file_is_the_librarys(tmp_path, monkeypatch):
    torch.manual_seed(0)
    own = library("lpips").LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    # the file as torchvision has it: places in `features`, which lpips cuts into slices
    torch.save({f"features.{name.partition('.')[2]}": value for name, value in own.net.state_dict().items()}, tmp_path / "vgg16.pth")
    digest = hashlib.sha256((tmp_path / "vgg16.pth").read_bytes()).hexdigest()
    with pytest.raises(FaceganError, match="`lpips=.*` has sha256 .* expected vgg16-397923af.pth"):
        lpips_with(tmp_path / "vgg16.pth")
    monkeypatch.setattr(diversity, "VGG16_SHA256", digest[:8])
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = own(images[:1], images[1:])
    measure = lpips_here(str(tmp_path / "vgg16.pth"))
    assert mean_lpips(measure, images.__getitem__, 2) == pytest.approx(expected.item(), rel=1e-3)
    assert mean_lpips(measure, images.__getitem__, 1) is None


def test_without_weights_there_is_no_lpips(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips_here() is None
