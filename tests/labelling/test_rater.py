"""Features, the closed form and the parts, each restated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facegan.labelling.features import features
from facegan.labelling.rater import STRENGTH, fitted, folds


def histogram_of_cell(grey: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """Nine directions of one cell, pixel by pixel, before they are normalised."""
    size, found = len(grey), np.zeros(9)
    for y in range(top, top + side):
        for x in range(left, left + side):
            gx = (grey[y, min(x + 1, size - 1)] - grey[y, max(x - 1, 0)]) / 2
            gy = (grey[min(y + 1, size - 1), x] - grey[max(y - 1, 0), x]) / 2
            place = (math.atan2(gy, gx) % math.pi) / math.pi * 9
            low = int(place) % 9
            found[low] += (1 - (place - int(place))) * math.hypot(gx, gy)
            found[(low + 1) % 9] += (place - int(place)) * math.hypot(gx, gy)
    return found / side**2


@pytest.mark.parametrize("size", [16, 32, 64])
def test_features_pixel_by_pixel(size: int) -> None:
    image = np.random.default_rng(size).integers(0, 256, (1, 3, size, size), np.uint8)
    found = features(image).numpy().reshape(12, 16, 8)
    side = size // 16
    for row, column in ((0, 0), (3, 7), (15, 2)):
        both = []
        for pixels in (image[0] / 255, image[0, :, :, ::-1] / 255):
            h = histogram_of_cell(pixels.mean(0), row * side, column * side, side)
            colour = pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side].mean((1, 2)) * 2 - 1
            both.append(np.concatenate([h / (np.linalg.norm(h) + 0.005), colour]))
        np.testing.assert_allclose(found[:, row, column], np.mean(both, 0), atol=2e-4)


def test_a_face_and_its_mirror_image_are_alike_and_flat_pictures_are_finite() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    np.testing.assert_allclose(features(image), features(image[..., ::-1]), atol=1e-4)
    flat = features(np.full((1, 3, 32, 32), 255, np.uint8)).numpy().reshape(12, -1)
    assert (flat[:9] == 0).all() and (flat[9:] == 1).all()


@pytest.mark.parametrize(("faces", "width"), [(20, 50), (50, 20)])
def test_the_closed_form_is_the_least_of_the_penalised_squares(faces: int, width: int) -> None:
    """Both forms, against the gradient of the objective written out."""
    random = np.random.default_rng(faces)
    x = random.normal(3, 2, (faces, width))
    y = np.repeat([1.0, 0.0], [6, faces - 6])
    w, c = fitted(x, y)
    side = np.where(y == 1, 0.5 / 6, 0.5 / (faces - 6))
    mean = sum(s * row for s, row in zip(side, x, strict=True))
    penalty = STRENGTH * sum(s * ((row - mean) ** 2).sum() for s, row in zip(side, x, strict=True)) / faces
    residual = x @ w + c - y
    np.testing.assert_allclose(x.T @ (side * residual) + penalty * w, 0, atol=1e-8)
    assert side @ residual == pytest.approx(0, abs=1e-10)


def test_persons_stay_together_and_each_part_has_its_share_of_both_sides() -> None:
    random = np.random.default_rng(1)
    people = [f"p{i // 3}" for i in range(90)]
    values = np.full((90, 2), np.nan)
    values[:, 0] = np.repeat(random.permutation(np.repeat([1, 0], [10, 20])), 3)
    values[:45, 1] = np.repeat(random.permutation(np.repeat([1, 0], [5, 10])), 3)
    part = folds(people, values, 5, seed=3)
    assert all(len({p for p, name in zip(part, people, strict=True) if name == each}) == 1 for each in people)
    for k, value, total in ((0, 1, 30), (0, 0, 60), (1, 1, 15), (1, 0, 30)):
        counts = np.bincount(part[values[:, k] == value], minlength=5)
        assert counts.sum() == total and counts.max() - counts.min() <= 6, (k, value, counts)
    np.testing.assert_array_equal(part, folds(people, values, 5, seed=3))
    assert (part != folds(people, values, 5, seed=4)).any()
