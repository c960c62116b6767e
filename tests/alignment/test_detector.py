"""Where faces are found. Drawn faces do not fool the networks: what is looked for is an array that their own gradients made, and real
faces where they are at hand, for which the figures of docs/alignment.md hold."""

from __future__ import annotations

import numpy as np
import pytest
from photographs import IDEAL
from PIL import Image

from facegan.alignment import detector, windows
from facegan.alignment.detector import Detector
from facegan.alignment.geometry import square_of


@pytest.fixture(scope="module")
def find(networks) -> Detector:
    return Detector("cpu")


def scene(portrait: Image.Image, side: int, at: tuple[int, int], size: tuple[int, int] = (400, 300), roll: float = 0) -> Image.Image:
    photo = Image.new("RGB", size, (120, 130, 110))
    photo.paste(portrait.resize((side, side), Image.Resampling.BICUBIC), at)
    return photo.rotate(-roll, Image.Resampling.BICUBIC, expand=True) if roll else photo


@pytest.mark.parametrize("side, at", [(96, (80, 60)), (160, (200, 100)), (220, (10, 5))])
def test_a_face_is_found_where_it_is(find, portrait, side, at):
    [[face]] = find([scene(portrait, side, at)], side)
    expected = IDEAL * side + at
    assert np.linalg.norm(face.landmarks - expected, axis=1).max() < 0.06 * side
    assert face.score > 0.95 and face.box[0] < face.landmarks[:, 0].min() and face.box[3] > face.landmarks[:, 1].max()


@pytest.mark.parametrize("roll", [20, 90, 180, 270])
def test_turned_faces_have_their_landmarks_turned(find, portrait, roll):
    [[upright]] = find([scene(portrait, 120, (140, 90))], 120)
    [[turned]] = find([scene(portrait, 120, (140, 90), roll=roll)], 120)
    away = (square_of(turned.landmarks).roll - square_of(upright.landmarks).roll - roll + 180) % 360 - 180
    assert abs(away) < 3
    assert square_of(turned.landmarks).side == pytest.approx(square_of(upright.landmarks).side, rel=0.05)


def test_several_faces_come_largest_first(find, portrait):
    photo = scene(portrait, 100, (20, 20), (500, 300))
    photo.paste(portrait.resize((160, 160), Image.Resampling.BICUBIC), (250, 90))
    [faces] = find([photo], 100)
    assert len(faces) == 2 and faces[0].landmarks[:, 0].mean() > 250 > faces[1].landmarks[:, 0].mean()


def test_the_larger_face_is_the_one_whose_square_is_larger(find, monkeypatch):
    wide = np.array([(100, 100), (150, 100), (125, 120), (105, 140), (145, 140)], float)  # eyes 50 apart, 40 above the mouth: 4 * 50
    long = np.array([(300, 100), (340, 100), (320, 130), (305, 155), (335, 155)], float)  # 40 apart, 55 above: 3.6 * 55
    none = np.full((5, 2), 200.0)
    sizes = windows.Windows(np.zeros(3, int), np.zeros((3, 2)), np.array([50.0, 55.0, 90.0]), np.zeros(3), np.zeros(3, bool))
    found = detector._Faces(sizes, np.stack([wide, long, none]), np.ones(3), np.zeros(3))
    monkeypatch.setattr(Detector, "_landmarks", lambda *_: found)
    [faces] = find([Image.new("RGB", (400, 300))], 100)
    assert [face.landmarks.tolist() for face in faces] == [wide.tolist(), long.tolist()]


def test_a_batch_equals_one_at_a_time(find, portrait):
    photos = [
        scene(portrait, 100, (50, 40)),
        Image.new("RGB", (64, 200)),
        scene(portrait, 130, (180, 90)),
        scene(portrait, 100, (5, 5), (150, 140)),
    ]
    together = find(photos, 90)
    for photo, faces in zip(photos, together, strict=True):
        [alone] = find([photo], 90)
        assert len(alone) == len(faces)
        for one, other in zip(alone, faces, strict=True):
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.01)
    assert find([], 90) == []


def test_what_is_no_face_is_none(find):
    random = np.random.default_rng(0)
    flat = [Image.new("RGB", (300, 200), (level,) * 3) for level in (0, 60, 127, 255)]
    noise = [Image.fromarray(random.integers(0, 256, (200, 300, 3), np.uint8)) for _ in range(3)]
    clouds = [
        Image.fromarray(random.integers(0, 256, (k, k, 3), np.uint8)).resize((320, 320), Image.Resampling.BICUBIC)
        for k in (4, 8, 12, 20, 40)
    ]
    y, x = np.indices((300, 300))
    texture = [
        (x // 16 + y // 16) % 2 * 255,
        (np.sin(x / 5) * np.sin(y / 7) + 1) * 127,
        (np.hypot(x - 150, y - 150) // 9 % 2) * 200,
        x * 255 // 299,
    ]
    drawn = [Image.fromarray(np.repeat(each.astype(np.uint8)[..., None], 3, 2)) for each in texture]
    for photo in [*flat, *noise, *clouds, *drawn]:
        assert find([photo], 40) == [[]]


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (11, 400), (400, 11), (13, 13), (3, 900)])
def test_tiny_and_narrow_photos_hold_none(find, size):
    assert find([Image.new("RGB", size, (90, 80, 70))], 40) == [[]]


# --- real faces: what docs/alignment.md says


def errors(find: Detector, photos: list[Image.Image], middle: float, roll: float, smallest: float) -> np.ndarray:
    """Distance of each square's centre from the middle; every photo has one face, turned by `roll`."""
    found = find(photos, smallest)
    assert [len(faces) for faces in found] == [1] * len(photos)
    squares = [square_of(faces[0].landmarks) for faces in found]
    assert max(abs((square.roll - roll + 180) % 360 - 180) for square in squares) < 4
    return np.array([np.hypot(square.centre[0] - middle, square.centre[1] - middle) for square in squares])


def test_aligned_faces_are_where_they_were_cut(find, faces512):
    away = errors(find, faces512, 256, 0, 400)
    assert away.mean() <= 3.5 and away.max() <= 7


@pytest.mark.parametrize("roll", [20, 90, 180])
def test_turned_faces_are_found_alike(find, faces512, roll):
    photos = []
    for face in faces512:
        photo = Image.new("RGB", (900, 900), (90, 110, 120))
        photo.paste(face, (194, 194))
        photos.append(photo.rotate(-roll, Image.Resampling.BICUBIC))
    away = errors(find, photos, 450, roll, 300)
    assert away.mean() <= 3.5 and away.max() <= 7


def test_small_faces_have_their_eyes_where_large_ones_have(find, faces512):
    large = [faces[0].landmarks for faces in find(faces512, 400)]
    small = [faces[0].landmarks for faces in find([face.resize((64, 64), Image.Resampling.LANCZOS) for face in faces512], 50)]
    shares = [np.linalg.norm(8 * few[:2] - many[:2], axis=1).mean() / np.linalg.norm(many[1] - many[0])
              for few, many in zip(small, large, strict=True)]  # fmt: skip
    assert np.median(shares) <= 0.022


def test_pairs_and_dark_pictures(find, faces512):
    for one, other in zip(faces512, faces512[1:] + faces512[:1], strict=True):
        photo = Image.new("RGB", (1000, 700), (90, 110, 120))
        photo.paste(one.resize((400, 400)), (50, 200))
        photo.paste(other.resize((300, 300)), (600, 100))
        assert len(find([photo], 200)[0]) == 2
    dark = [face.point(lambda level: level * 3 // 20) for face in faces512]
    away = errors(find, dark, 256, 0, 400)
    assert away.mean() <= 3.5 and away.max() <= 7
