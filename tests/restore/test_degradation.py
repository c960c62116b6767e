"""Spoiling faces against what makes such pictures elsewhere: Pillow's resampling and JPEG, and convolutions written out."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.errors import FaceganError
from facegan.methods.restore.degradation import NUMBERS, degrade, fade, gaussian, lanczos_matrix, rounded
from facegan.methods.restore.jpeg import jpeg
from facegan.methods.restore.ranges import Degradation

NOTHING = Degradation(blur=(0, 0), downsample=(1, 1), noise=(0, 0), jpeg=(100, 100), fade=(0, 0))


def smooth(side: int, seed: int = 0) -> np.ndarray:
    """uint8 [side, side, 3]: coloured waves, an edge, and a little grain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = [128 + 70 * np.sin(2 * math.pi * (a * x + b * y) + c) for a, b, c in random.uniform(0, 2, (3, 3))]
    face = np.stack(waves, axis=2) + random.normal(0, 2, (side, side, 3))
    face[side // 3 : side // 2, side // 4 : side // 2] += 40
    return face.clip(0, 255).astype(np.uint8)


def noisy(side: int, seed: int = 0) -> np.ndarray:
    return np.clip(smooth(side, seed) + np.random.default_rng(seed).normal(0, 25, (side, side, 3)), 0, 255).astype(np.uint8)


def tensor(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def levels(images: torch.Tensor) -> np.ndarray:
    """[N, 3, H, W] in [-1, 1] -> [N, H, W, 3] in 0 ... 255, not rounded."""
    return images.permute(0, 2, 3, 1).numpy() * 127.5 + 127.5


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)))


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    """By Pillow, colours at half the size."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "jpeg", quality=quality, subsampling=2)
    return np.asarray(Image.open(data))


def degraded(picture: np.ndarray | torch.Tensor, ranges: Degradation, u: float = 0.5, noise: torch.Tensor | None = None) -> torch.Tensor:
    images = picture if isinstance(picture, torch.Tensor) else tensor(picture)
    noise = torch.zeros(len(images), *ranges.noise_shape(images.shape[-1])) if noise is None else noise
    return degrade(images, ranges, torch.full((len(images), NUMBERS), u), noise)


# --- resampling


@pytest.mark.parametrize("small", [8, 13, 24, 31, 48, 60])
def test_lanczos_is_pillows_in_both_directions(small):
    face = smooth(48)
    if small <= 48:
        matrix = lanczos_matrix(48, 48, torch.tensor([float(small)]), onto=64)[0]
        found = levels(rounded(matrix @ tensor(face) @ matrix.T))[0]
        assert np.abs(found[:small, :small] - resized(face, small)).max() <= 1.01
        assert np.array_equal(found[small:], np.broadcast_to(found[small - 1], found[small:].shape))  # the last row again
        assert np.array_equal(found[:, small:], np.broadcast_to(found[:, small - 1 : small], found[:, small:].shape))
    canvas = torch.full((1, 3, 64, 64), 9.0)  # beyond the small image: what must not be looked at
    canvas[:, :, :small, :small] = tensor(smooth(small))
    matrix = lanczos_matrix(64, 48, torch.tensor([float(small)]))[0]
    found = levels(rounded(matrix @ rounded(canvas @ matrix.T)))[0]
    assert np.abs(found - resized(smooth(small), 48)).max() <= 1.01


def test_each_image_has_a_size_of_its_own():
    sizes = torch.tensor([8.0, 20.0, 48.0])
    for onto in (0, 48):
        together = lanczos_matrix(48, 48, sizes, onto=onto)
        assert all(torch.equal(together[i], lanczos_matrix(48, 48, sizes[i : i + 1], onto=onto)[0]) for i in range(3))
        torch.testing.assert_close(together.sum(2), torch.ones(3, 48))
    torch.testing.assert_close(lanczos_matrix(48, 48, sizes)[2], torch.eye(48), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.0, 3.0, 20.0])
def test_the_blur_is_a_convolution_that_forgets_what_lies_outside(sigma):
    matrix, line = gaussian(21, torch.tensor([sigma]))[0], np.random.default_rng(0).normal(size=21)
    expected = line.copy()
    if sigma:
        for place in range(21):
            weights = [math.exp(-((other - place) ** 2) / (2 * sigma**2)) for other in range(21)]
            expected[place] = sum(w * value for w, value in zip(weights, line, strict=True)) / sum(weights)
    np.testing.assert_allclose((matrix.double() @ torch.from_numpy(line)).numpy(), expected, atol=1e-5)


# --- JPEG


@pytest.mark.parametrize("quality", [30, 50, 60, 75, 90, 95])
@pytest.mark.parametrize("draw", [smooth, noisy])
def test_jpeg_is_pillows(draw, quality):
    face = draw(64, quality)
    found, expected = levels(rounded(jpeg(tensor(face), torch.tensor([float(quality)]))))[0], compressed(face, quality)
    # What is left are coefficients that its integer arithmetic rounds to the other step.
    assert rms(found, expected) < min(0.3 * rms(face, expected) + 0.4, 1.5 if draw is smooth else 2.5)
    assert rms(found, compressed(face, quality - 15)) > 1.5 * rms(found, expected)
    assert abs(found.mean() - expected.mean()) < 0.3


def test_each_image_has_a_quality_of_its_own_and_other_shapes_are_refused():
    faces, qualities = tensor(smooth(32), noisy(32, 1), noisy(32, 2)), torch.tensor([20.0, 60.0, 95.0])
    together = jpeg(faces, qualities)
    assert all(torch.equal(together[i : i + 1], jpeg(faces[i : i + 1], qualities[i : i + 1])) for i in range(3))
    wide = jpeg(tensor(noisy(32)[:16]), torch.tensor([75.0]))  # 16 x 32
    assert rms(levels(wide)[0], compressed(noisy(32)[:16], 75)) < 2
    with pytest.raises(FaceganError, match=r"images have shape \[1, 3, 24, 32\]; JPEG at 4:2:0 works on multiples of 16 pixels"):
        jpeg(torch.zeros(1, 3, 24, 32), torch.tensor([75.0]))


# --- colours


def test_fading_ends_at_grey_and_at_the_mean():
    faces, none, all_of_it = tensor(smooth(16), noisy(16)), torch.zeros(2), torch.ones(2)
    torch.testing.assert_close(fade(faces, none, none), faces)
    luma = 0.299 * faces[:, 0] + 0.587 * faces[:, 1] + 0.114 * faces[:, 2]
    torch.testing.assert_close(fade(faces, all_of_it, none), luma[:, None].expand(-1, 3, -1, -1))
    torch.testing.assert_close(fade(faces, none, all_of_it), faces.mean((1, 2, 3), keepdim=True).expand_as(faces))
    half = fade(faces, torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.25]))
    torch.testing.assert_close(half[0], (faces[0] + luma[0]) / 2)
    torch.testing.assert_close(half[1], 0.75 * faces[1] + 0.25 * faces[1].mean())


# --- all of it


@pytest.mark.parametrize("side", [16, 20, 33, 64])
def test_settings_that_spoil_nothing_change_rounding_alone(side):
    grey = np.repeat(smooth(side)[:, :, :1], 3, axis=2)
    assert np.abs(levels(degraded(grey, NOTHING))[0] - grey).max() <= 1.01
    waves = (smooth(side) // 8 * 8).astype(np.uint8)
    assert rms(levels(degraded(waves, NOTHING))[0], waves) < 12  # colours at half the size, as in every JPEG
    brightness = np.array([0.299, 0.587, 0.114])
    assert rms(levels(degraded(waves, NOTHING))[0] @ brightness, waves @ brightness) < 1.5


@pytest.mark.parametrize(
    ("side", "factor", "quality", "sigma"), [(64, 2.0, 75, 0.7), (64, 4.0, 60, 1.5), (48, 1.0, 90, 0.0), (37, 2.5, 80, 0.5)]
)
def test_the_whole_is_blur_pillows_lanczos_pillows_jpeg_and_back(side, factor, quality, sigma):
    face = smooth(side, 3)
    ranges = replace(NOTHING, blur=(sigma, sigma), downsample=(factor, factor), jpeg=(quality, quality))
    small = round(side / factor)
    matrix = gaussian(side, torch.tensor([sigma]))[0].numpy()
    blurred = np.einsum("ij,jkc,lk->ilc", matrix, face.astype(float), matrix).round().clip(0, 255).astype(np.uint8)
    expected = resized(compressed(resized(blurred, small), quality), side)
    assert rms(levels(degraded(face, ranges))[0], expected) < 2.2
    assert rms(face, expected) > 4 or factor == 1


def test_noise_has_the_strength_that_is_asked_for():
    ranges = replace(NOTHING, noise=(10, 10))
    noise = torch.randn(8, *ranges.noise_shape(32), generator=torch.Generator().manual_seed(0))
    found = levels(degraded(torch.zeros(8, 3, 32, 32), ranges, noise=noise)) @ np.array([0.299, 0.587, 0.114])
    # brightness alone: JPEG keeps the colours' noise at half the size
    assert found.std() == pytest.approx(10 * math.sqrt(0.299**2 + 0.587**2 + 0.114**2), rel=0.05)
    assert found.mean() == pytest.approx(127.5, abs=0.5)


@pytest.mark.parametrize("u", [0.0, 0.25, 1.0])
def test_numbers_choose_within_the_ranges(u):
    ranges = Degradation(blur=(0.5, 2), downsample=(1, 4), noise=(2, 8), jpeg=(60, 90), fade=(0, 0.4))
    chosen = {name: low + u * (high - low) for name, (low, high) in vars(ranges).items()}
    chosen["downsample"] = 4**u  # logarithmically
    fixed = Degradation(**{name: (value, value) for name, value in chosen.items()})
    noise = torch.randn(2, *ranges.noise_shape(32), generator=torch.Generator().manual_seed(1))
    faces, side = tensor(smooth(32), noisy(32)), fixed.canvas(32)
    found, expected = degraded(faces, ranges, u, noise), degraded(faces, fixed, 0.7, noise[:, :, :side, :side])
    assert rms(levels(found), levels(expected)) < 0.1  # the same but for levels that round across


def test_each_number_counts_and_the_same_ones_give_the_same_face():
    ranges, faces = Degradation(), tensor(smooth(32), noisy(32))
    random = torch.Generator().manual_seed(2)
    u, noise = torch.rand(2, NUMBERS, generator=random), torch.randn(2, *ranges.noise_shape(32), generator=random)
    before = faces.clone(), u.clone(), noise.clone()
    once = degrade(faces, ranges, u, noise)
    torch.randn(3)
    assert torch.equal(once, degrade(faces, ranges, u, noise))
    assert all(torch.equal(*pair) for pair in zip(before, (faces, u, noise), strict=True))
    for index in range(NUMBERS):
        other = u.clone()
        other[:, index] = (other[:, index] + 0.5) % 1
        changed = degrade(faces, ranges, other, noise)
        assert all(not torch.equal(changed[n], once[n]) for n in range(2)), index
    assert not torch.equal(degrade(faces, ranges, u, -noise), once)


def test_a_face_is_spoiled_alike_to_the_bit_whatever_is_beside_it():
    ranges, random = Degradation(), torch.Generator().manual_seed(3)
    faces = tensor(*(noisy(32, seed) for seed in range(8)))
    u, noise = torch.rand(8, NUMBERS, generator=random), torch.randn(8, *ranges.noise_shape(32), generator=random)
    whole = degrade(faces, ranges, u, noise)
    for batch in (1, 3, 4):
        parts = [degrade(*part[:1], ranges, *part[1:]) for part in zip(*(x.split(batch) for x in (faces, u, noise)), strict=True)]
        assert torch.equal(torch.cat(parts), whole), batch


def test_what_comes_out_are_pictures_of_the_old_shape_on_the_device():
    ranges = Degradation()
    u, noise = torch.rand(2, NUMBERS), torch.randn(2, *ranges.noise_shape(32))
    found = degrade(tensor(smooth(32), noisy(32)), ranges, u, noise)
    assert found.shape == (2, 3, 32, 32) and found.dtype == torch.float32 and found.abs().max() <= 1
    whole = found * 127.5 + 127.5
    torch.testing.assert_close(whole, whole.round(), rtol=0, atol=1e-3)
    away = [x.to("meta") for x in (found, u, noise)]  # where a tensor made on the CPU would be noticed
    assert degrade(away[0], ranges, *away[1:]).device.type == "meta"


@pytest.mark.parametrize(("factor", "canvas"), [(0.5, 64), (0.8, 48), (1.0, 32), (3.0, 16), (0.79, 48)])
def test_the_canvas_holds_the_largest_of_the_small_images(factor, canvas):
    ranges = replace(NOTHING, downsample=(factor, 8))
    assert ranges.canvas(32) == canvas and ranges.noise_shape(32) == (3, canvas, canvas)
    face = smooth(32)
    found = levels(degraded(face, ranges, u=0.0))[0]
    small = round(32 / factor)
    assert rms(found, resized(compressed(resized(face, small), 100), 32)) < 1.5


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        (dict(blur=(2, 1)), "`blur` is 2,1: expected two numbers in order, from 0 to 100"),
        (dict(blur=(-1, 1)), "`blur` is -1,1"), (dict(downsample=(0.1, 2)), "`downsample` is 0.1,2: .* from 0.25 to 32"),
        (dict(downsample=(1, 64)), "`downsample` is 1,64"), (dict(noise=(0, 300)), "`noise` is 0,300"),
        (dict(jpeg=(0, 100)), "`jpeg` is 0,100"),
        (dict(jpeg=(60, 101)), "`jpeg` is 60,101"), (dict(fade=(0, 1.5)), "`fade` is 0,1.5"), (dict(fade=(math.nan, 1)), "`fade` is nan,1"),
        (dict(noise=(0, math.inf)), "`noise` is 0,inf"),
    ],
)  # fmt: skip
def test_ranges_of_nonsense_are_refused(ranges, words):
    with pytest.raises(FaceganError, match=words):
        Degradation(**ranges)
