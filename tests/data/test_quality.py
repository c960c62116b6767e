"""Sharpness and near-duplicates of faces, against restatements by loops and against CelebA where it is at hand."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from facegan import options
from facegan.data import quality
from facegan.data.quality import HASH_BITS, Duplicates, perceptual_hash, sharpness

SHARED = Path(__file__).parents[3] / "shared" / "data"


def _scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Ellipses and lines with sharp edges."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw.ellipse((x, y, x + int(rng.integers(3, width // 2)), y + int(rng.integers(3, height // 2))), fill=colour)
    return image


def _faces512() -> list[Image.Image]:
    if not (SHARED / "faces512.zip").exists():
        pytest.skip("faces512.zip is not in ../shared/data beside the repository")
    with zipfile.ZipFile(SHARED / "faces512.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        return [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]


# --- Sharpness


def _blur_effect(luma: np.ndarray) -> float:
    """Crete et al. 2007, equations 1 to 6, pixel by pixel."""
    blurs = []
    for picture in (luma.astype(float), luma.T.astype(float)):
        height, width = picture.shape
        blurred = np.empty_like(picture)
        for y in range(height):
            blurred[y] = np.mean([picture[min(max(y + k, 0), height - 1)] for k in range(-4, 5)], axis=0)
        of_sharp = of_variation = 0.0
        for y in range(1, height):
            for x in range(width):
                sharp, blunt = abs(picture[y, x] - picture[y - 1, x]), abs(blurred[y, x] - blurred[y - 1, x])
                of_sharp += sharp
                of_variation += max(0.0, sharp - blunt)
        blurs.append((of_sharp - of_variation) / of_sharp)
    return max(blurs)


@pytest.mark.parametrize("size", [(40, 31), (9, 17), (5, 3), (2, 2), (64, 10)])
def test_sharpness_is_the_papers(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, size[::-1], np.uint8)
    for image in (Image.fromarray(pixels), _scene(*size).convert("L") if min(size) > 8 else Image.fromarray(pixels // 9)):
        assert sharpness(image) == pytest.approx(1 - _blur_effect(np.asarray(image)), abs=1e-12)


def test_sharpness_falls_with_blur_and_enlargement_and_is_of_the_luma() -> None:
    scene = _scene(256, 256)
    blurred = [sharpness(scene.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    small = [scene.resize((side, side)).resize((256, 256)) for side in (256, 128, 64, 32)]
    assert blurred == sorted(blurred, reverse=True) and np.all(np.diff(blurred) < 0)
    assert np.all(np.diff([sharpness(image) for image in small]) < 0)
    assert sharpness(scene) == sharpness(scene.convert("L"))
    turned = [sharpness(scene.transpose(turn)) for turn in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.TRANSPOSE)]
    np.testing.assert_allclose(turned, sharpness(scene), rtol=1e-12)


def test_sharpness_orders_pictures_as_scikit_image_does() -> None:
    measure = pytest.importorskip("skimage.measure")
    scenes = [_scene(96, 80, seed).filter(ImageFilter.GaussianBlur(radius)) for seed in range(4) for radius in (0, 0.7, 1.5, 3)]
    theirs = [
        1 - measure.blur_effect(np.asarray(scene.convert("L")), h_size=9) for scene in scenes
    ]  # by Sobel's filter, not by differences
    assert np.corrcoef([sharpness(scene) for scene in scenes], theirs)[0, 1] > 0.95


def test_sharpness_of_pictures_with_nothing_to_see() -> None:
    assert sharpness(Image.new("RGB", (64, 64), "teal")) == 0
    assert sharpness(Image.new("L", (1, 1))) == sharpness(Image.new("L", (1, 9))) == 0
    stripes = np.zeros((32, 32), np.uint8)
    stripes[:, ::8] = 255
    assert sharpness(Image.fromarray(stripes)) > 0.7  # down there is nothing to compare: across alone counts
    assert sharpness(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))) > 0.85


@pytest.mark.parametrize("side", [128, 256, 512])
def test_the_default_threshold_parts_sharp_faces_from_blurred_ones(side: int) -> None:
    faces = [face.resize((side, side), Image.Resampling.LANCZOS) for face in _faces512()]
    half = [face.resize((side // 2, side // 2)).resize((side, side)) for face in faces]
    slightly = [face.filter(ImageFilter.GaussianBlur(1)) for face in faces]
    assert min(map(sharpness, [*faces, *half, *slightly])) > options.BLURRED
    blurred = [face.filter(ImageFilter.GaussianBlur(radius)) for face in faces for radius in (2, 4)]
    assert max(map(sharpness, blurred)) < options.BLURRED


# --- Hashes


def _hash(image: Image.Image) -> int:
    luma, text = image.convert("L"), ""
    across, down = luma.resize((13, 12), Image.Resampling.LANCZOS), luma.resize((12, 13), Image.Resampling.LANCZOS)
    for y in range(12):
        for x in range(12):
            text += "01"[across.getpixel((x + 1, y)) > across.getpixel((x, y))]  # type: ignore[operator]
    for y in range(12):
        for x in range(12):
            text += "01"[down.getpixel((x, y + 1)) > down.getpixel((x, y))]  # type: ignore[operator]
    return int(text, 2)


@pytest.mark.parametrize("size", [(64, 64), (100, 37), (12, 12), (3, 5), (1, 1)])
def test_the_hash_says_which_neighbour_is_brighter(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (*size[::-1], 3), np.uint8))
    assert perceptual_hash(image) == _hash(image) < 2**HASH_BITS


def test_hashes_of_gradients_are_known() -> None:
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    right = Image.fromarray(np.tile(ramp, (96, 1)))
    assert perceptual_hash(right) == (2**144 - 1) << 144  # brighter to the right everywhere, nowhere downwards
    assert perceptual_hash(right.transpose(Image.Transpose.TRANSPOSE)) == 2**144 - 1
    assert perceptual_hash(right.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == perceptual_hash(Image.new("RGB", (9, 9), "red")) == 0


def _distance(a: Image.Image, b: Image.Image) -> int:
    return (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()


def _saved(image: Image.Image, quality_: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality_)
    return Image.open(buffer)


def _changed(face: Image.Image) -> dict[str, Image.Image]:
    side = face.width
    moved = face.transform((side, side), Image.Transform.AFFINE, (1, 0.017, -side // 80, -0.017, 1, side // 60), Image.Resampling.BICUBIC)
    return {
        "JPEG": _saved(face, 50),
        "brighter": face.point(lambda v: int(255 * (v / 255) ** 0.7)),
        "darker": face.point(lambda v: int(255 * (v / 255) ** 1.5)),
        "contrast": ImageEnhance.Contrast(face).enhance(1.4),
        "smaller": face.resize((side * 7 // 10, side * 7 // 10)),
        "blurred": face.filter(ImageFilter.GaussianBlur(side * 0.015)),
        "moved": moved.resize((side, side)),
    }


def test_the_default_distance_takes_the_same_face_twice_and_no_two_faces() -> None:
    faces = _faces512()
    for face in faces:
        distances = {name: _distance(face, changed) for name, changed in _changed(face).items()}
        assert max(distances.values()) <= options.DUPLICATE_BITS, distances
    assert min(_distance(a, b) for i, a in enumerate(faces) for b in faces[:i]) > 1.5 * options.DUPLICATE_BITS


def test_celebas_own_duplicates_are_found_and_no_others() -> None:
    if not (SHARED / "celeba64.zip").exists():
        pytest.skip("celeba64.zip is not in ../shared/data beside the repository")
    with zipfile.ZipFile(SHARED / "celeba64.zip") as archive:
        rows = (line.split() for line in archive.read("celeba64/identity_CelebA.txt").decode().splitlines())
        persons = {row[0]: row[1] for row in rows if len(row) == 2}
        known, person = Duplicates(), []
        same = other = 0
        for name in sorted(name for name in archive.namelist() if name.endswith(".jpg"))[:5000]:
            code = perceptual_hash(Image.open(io.BytesIO(archive.read(name))))
            person.append(persons[name.rpartition("/")[2]])
            for index in known.within(code, options.DUPLICATE_BITS)[0]:
                same, other = same + (person[index] == person[-1]), other + (person[index] != person[-1])
            known.add(code)
    assert len(known) == 5000 and 30 <= same <= 36 and other == 0, (same, other)  # 33 of 12.5 million pairs


# --- What was kept so far


@pytest.mark.parametrize("counted", [True, False])
def test_the_nearest_of_those_kept(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not counted:  # NumPy 1
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    rng = np.random.default_rng(5)
    codes = [int.from_bytes(rng.bytes(HASH_BITS // 8), "big") for _ in range(2500)]
    codes[700] = codes[30] ^ 1 << 287
    known = Duplicates()
    assert known.nearest(codes[0]) is None and len(known.within(codes[0], HASH_BITS)[0]) == 0 and len(known) == 0
    assert [known.add(code) for code in codes] == list(range(2500)) and len(known) == 2500
    for code in [*codes[:40], 0, 2**HASH_BITS - 1, codes[3] ^ 0b1011 << 100]:
        distances = [(code ^ each).bit_count() for each in codes]
        assert known.nearest(code) == (int(np.argmin(distances)), min(distances))
        near = [(i, each) for i, each in enumerate(distances) if each <= 110]
        assert list(zip(*known.within(code, 110), strict=True)) == near
    assert list(zip(*known.within(codes[700], 1), strict=True)) == [(30, 1), (700, 0)]


def test_memory_of_many_hashes() -> None:
    known = Duplicates()
    for code in range(5000):
        known.add(code)
    assert known._words.nbytes <= 2 * 40 * 5000 + 40 * 1024 and quality._WORDS == 5
