"""Windows of pictures, and boxes of which the best are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.alignment.boxes import suppressed
from facegan.alignment.windows import Picture, Windows, lit

CPU = torch.device("cpu")


def windows(*each: tuple[int, float, float, float, float, bool]) -> Windows:
    which, x, y, half, angle, mirrored = (np.array(part) for part in zip(*each, strict=True))
    return Windows(which, np.stack([x, y], 1), half.astype(float), angle.astype(float), mirrored)


def levels(pixels: torch.Tensor) -> np.ndarray:
    """[N, 3, S, S] as the networks take them -> [N, S, S, 3] of 0 to 255."""
    return (pixels * 128 + 127.5).permute(0, 2, 3, 1).numpy()


def test_an_upright_window_is_the_picture():
    photo = Image.fromarray(np.random.default_rng(0).integers(100, 256, (60, 80, 3), np.uint8))
    picture = Picture.of(photo, 80, 60, CPU)
    got = levels(windows((0, 30, 25, 12, 0, False), (0, 30, 25, 12, 0, True)).pixels([picture], 24))
    np.testing.assert_allclose(got[0], np.asarray(photo)[13:37, 18:42], atol=1e-3)
    np.testing.assert_allclose(got[1], np.asarray(photo)[13:37, 18:42][:, ::-1], atol=1e-3)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_quarter_turns_are_those_of_numpy(quarter):
    photo = np.random.default_rng(1).integers(100, 256, (40, 40, 3), np.uint8)
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(photo, -quarter)))  # clockwise
    got = levels(windows((0, 20, 20, 12, 90 * quarter, False)).pixels([Picture.of(turned, 40, 40, CPU)], 24))
    np.testing.assert_allclose(got[0], photo[8:32, 8:32], atol=1e-3)


def test_points_and_pixels_agree():
    """A bright dot seen in a window is, by `points`, where it is in the photo."""
    random = np.random.default_rng(2)
    for _ in range(12):
        dot = random.uniform(90, 110, 2)
        x, y = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
        spot = np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / 18)
        photo = Image.fromarray(np.repeat((100 + 155 * spot)[..., None], 3, 2).astype(np.uint8))
        some = windows((0, *(dot + random.uniform(-8, 8, 2)), random.uniform(24, 60), random.uniform(-180, 180), bool(random.integers(2))))
        seen = (some.pixels([Picture.of(photo, 200, 200, CPU)], 48)[0, 0] * 128 + 27.5).clamp(min=0).numpy()
        at = np.array([(seen.sum(0) * (np.arange(48) + 0.5)).sum(), (seen.sum(1) * (np.arange(48) + 0.5)).sum()]) / seen.sum()
        np.testing.assert_allclose(some.points((at / 24 - 1)[None, None])[0, 0], dot, atol=0.6)


def test_parts_and_scales_of_a_photo_show_the_same():
    photo = Image.fromarray(np.random.default_rng(3).integers(90, 256, (12, 16, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    some = windows((0, 160.3, 120.2, 60, 33, False), (1, 160.3, 120.2, 60, 33, False), (2, 160.3, 120.2, 60, 33, False))
    whole, half, part = (
        Picture.of(photo, 320, 240, CPU),
        Picture.of(photo, 160, 120, CPU),
        Picture.of(photo, 100, 100, CPU, (60, 20, 260, 220)),
    )
    got = levels(some.pixels([whole, half, part], 24))
    np.testing.assert_allclose(got[1], got[0], atol=3)
    np.testing.assert_allclose(got[2], got[0], atol=3)


def test_beyond_the_picture_is_grey():
    got = levels(windows((0, -100, -100, 20, 10, False)).pixels([Picture.of(Image.new("RGB", (50, 50), "white"), 50, 50, CPU)], 24))
    np.testing.assert_allclose(got, 127.5)


def test_dark_windows_are_exposed_longer():
    scene = np.random.default_rng(4).uniform(0.3, 0.8, (2, 3, 24, 24))
    pixels = torch.from_numpy(np.stack([scene[0], scene[1] * 0.2]) * 255 - 127.5).float() / 128
    got = (lit(pixels).double().numpy() * 128 + 127.5) / 255
    np.testing.assert_allclose(got[0], scene[0], atol=1e-6)
    np.testing.assert_allclose(got[1] / got[1].mean(), scene[1] / scene[1].mean(), atol=1e-5)  # multiplied, nothing bleached
    assert 0.35 < got[1].mean() < 0.45


def test_moved_windows_are_the_boxes():
    some = windows((0, 100, 50, 20, 0, False), (0, 100, 50, 20, 90, False))
    moved = some.moved(np.array([(0.1, 0.2, 0.3, -0.1)] * 2))  # shares of 40 px: x0 +4, y0 +8, x1 +12, y1 -4
    np.testing.assert_allclose(moved.centres, [(108, 52), (98, 58)])  # the box's middle is 8 to the right, 2 down; turned: 2 left, 8 down
    np.testing.assert_allclose(moved.halves, [24, 24])  # of 48 x 28


@pytest.mark.parametrize("by", ["union", "smaller"])
def test_suppression_is_the_greedy_one(by):
    random = np.random.default_rng(5)
    low = random.uniform(0, 60, (80, 2))
    boxes, scores = np.concatenate([low, low + random.uniform(5, 40, (80, 2))], 1), random.permutation(80) / 80.0
    kept: list[int] = []
    for i in sorted(range(80), key=lambda i: -scores[i]):

        def overlap(j: int, i: int = i) -> float:
            width = max(0.0, min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]))
            height = max(0.0, min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]))
            area = [(box[2] - box[0]) * (box[3] - box[1]) for box in boxes[[i, j]]]
            return width * height / (min(area) if by == "smaller" else sum(area) - width * height)

        if all(overlap(j) <= 0.4 for j in kept):
            kept.append(i)
    assert suppressed(boxes, scores, 0.4, by).tolist() == kept
    assert suppressed(np.empty((0, 4)), np.empty(0), 0.4, by).tolist() == []
