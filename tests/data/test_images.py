"""Decoding to exact pixels whatever the file's form, files that cannot be read, and the cache."""

from __future__ import annotations

import io
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.data import images as images_module
from facegan.data.images import build, decode
from facegan.errors import FaceganError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 6, 3), np.uint8)  # [H, W, C]


def _file(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _chw(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(2, 0, 1)


def test_rgb_is_exact_and_channels_come_first() -> None:
    pixels = decode(_file(Image.fromarray(RGB)), 6)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, _chw(RGB))


def test_grey_and_one_bit_are_repeated() -> None:
    grey = RGB[..., 0]
    np.testing.assert_array_equal(decode(_file(Image.fromarray(grey)), 6), np.stack([grey] * 3))
    bits = grey > 127
    np.testing.assert_array_equal(decode(_file(Image.fromarray(bits)), 6), np.stack([bits * np.uint8(255)] * 3))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form: str) -> None:
    wide = RNG.integers(0, 65536, (6, 6)).astype(np.uint16)
    wide[0, :3] = 0, 300, 65535  # 300 is nearly black: clipping would make it white
    expected = np.rint(wide / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(_file(Image.fromarray(wide), form), 6), np.stack([expected] * 3))


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1, 1, 0])
    first, second = [10, 20, 30], [200, 100, 50]
    np.testing.assert_array_equal(decode(_file(image), 2), _chw(np.array([[first, second], [second, first]])))
    white = [255, 255, 255]
    clear = decode(_file(image, transparency=1), 2)
    np.testing.assert_array_equal(clear, _chw(np.array([[first, white], [white, first]])))


def test_transparency_lies_on_white() -> None:
    alpha = RNG.integers(0, 256, (6, 6, 1), np.uint8)
    alpha[0, :2, 0] = 0, 255
    pixels = decode(_file(Image.fromarray(np.concatenate([RGB, alpha], -1))), 6).astype(int)
    exact = (RGB * (alpha / 255) + 255 * (1 - alpha / 255)).transpose(2, 0, 1)
    assert np.abs(pixels - exact).max() <= 1  # Pillow composites in integers
    np.testing.assert_array_equal(pixels[:, 0, 0], 255)
    np.testing.assert_array_equal(pixels[:, 0, 1], RGB[0, 1])
    grey = decode(_file(Image.fromarray(np.concatenate([RGB[..., :1], alpha], -1))), 6)  # LA
    np.testing.assert_array_equal(grey[:, 0, 0], 255)


def test_cmyk_becomes_rgb() -> None:
    ink = np.zeros((4, 4, 4), np.uint8)
    ink[..., 0] = 255  # full cyan
    np.testing.assert_array_equal(decode(_file(Image.fromarray(ink, "CMYK"), "TIFF"), 4)[:, 0, 0], [0, 255, 255])


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
        (8, lambda p: np.rot90(p)),
    ],
)
def test_exif_rotation_is_undone(orientation: int, upright) -> None:  # type: ignore[no-untyped-def]
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(_file(Image.fromarray(RGB), exif=exif), 6), _chw(upright(RGB)))


@pytest.mark.parametrize(("height", "width", "top", "left"), [(6, 11, 0, 2), (12, 6, 3, 0), (7, 6, 0, 0)])
def test_the_central_square_is_kept(height: int, width: int, top: int, left: int) -> None:
    pixels = RNG.integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(decode(_file(Image.fromarray(pixels)), 6), _chw(pixels[top : top + 6, left : left + 6]))


def test_shrinking_is_antialiased_and_growing_keeps_the_mean() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)  # one-pixel chequers: any point sampling gives 0 or 255
    small = decode(_file(Image.fromarray(board.astype(np.uint8))), 8)
    assert np.abs(small.astype(int) - 127.5).max() < 3
    large = decode(_file(Image.fromarray(RGB)), 24)
    assert large.shape == (3, 24, 24)
    assert abs(float(large.mean()) - float(RGB.mean())) < 5


@pytest.mark.parametrize("resolution", [16, 60, 128])
def test_large_jpeg_matches_its_own_full_decoding(resolution: int) -> None:
    """The DCT shortcut must not show: compare with Pillow decoding every pixel, on patches as fine as 8 pixels."""
    patches = RNG.integers(64, 192, (64, 64, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    data = _file(Image.fromarray(patches), "JPEG", quality=95)
    full = Image.open(io.BytesIO(data)).resize((resolution, resolution), Image.Resampling.LANCZOS)
    error = decode(data, resolution).astype(float) - _chw(np.asarray(full))
    assert np.sqrt((error**2).mean()) < 3


@pytest.mark.parametrize("pixels", [np.ones((4, 4), np.float32), np.full((4, 4), 70000, np.int32)])
def test_pixels_without_an_agreed_range_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="8 or 16 bits"):
        decode(_file(Image.fromarray(pixels), "TIFF"), 4)


class Files:
    """A data set in memory that counts how often it is read."""

    def __init__(self, files: dict[str, bytes | Exception]) -> None:
        self.files, self.reads, self.lock = files, 0, threading.Lock()

    def read(self, name: str) -> bytes:
        with self.lock:
            self.reads += 1
        content = self.files[name]
        if isinstance(content, Exception):
            raise content
        return content

    def build(self, cache: Path, resolution: int = 4, stamp: int = 0) -> images_module.Decoded:
        names = list(self.files)
        return build(self.read, names, [(stamp, 0)] * len(names), resolution, cache_dir=cache, progress=False)


@pytest.fixture
def files() -> Files:
    flat: dict[str, bytes | Exception] = {f"{i:04d}.png": _file(Image.new("RGB", (4, 4), (i % 256, i // 256, 7))) for i in range(1500)}
    return Files(flat)


def test_bad_files_among_many_are_skipped_named_and_logged(files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = _file(Image.fromarray(noise), "JPEG")
    files.files |= {
        "0003.png": jpeg[: len(jpeg) // 2],
        "0700.png": b"this is no image",
        "1030.png": b"",
        "1499.png": PermissionError("denied"),
    }
    with caplog.at_level(logging.WARNING, "facegan.data"):
        decoded = files.build(tmp_path)
    bad = [3, 700, 1030, 1499]
    assert [name for name, _ in decoded.skipped] == [f"{i:04d}.png" for i in bad]
    assert "truncated" in decoded.skipped[0][1] and "denied" in decoded.skipped[3][1]
    assert all(any(name in record.getMessage() for record in caplog.records) for name, _ in decoded.skipped)
    good = np.setdiff1d(np.arange(1500), bad)
    np.testing.assert_array_equal(decoded.kept, good)
    np.testing.assert_array_equal(decoded.images[:, 0, 0, 0], good % 256)
    np.testing.assert_array_equal(decoded.images[:, 1, 3, 3], good // 256)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match="none of the 2 images.*a.png"):
        Files({"a.png": b"x", "b.png": b"y"}).build(tmp_path)


def test_the_cache_is_read_not_the_files(files: Files, tmp_path: Path) -> None:
    cold = files.build(tmp_path)
    assert files.reads == 1500
    warm = files.build(tmp_path)
    assert files.reads == 1500
    np.testing.assert_array_equal(cold.images, warm.images)
    assert cold.digest == warm.digest and not warm.images.flags.writeable
    assert [path.suffix for path in tmp_path.iterdir()] == [""]  # no partial entry is left


def test_other_content_or_resolution_is_another_entry(files: Files, tmp_path: Path) -> None:
    files.build(tmp_path)
    files.build(tmp_path, stamp=1)
    assert files.build(tmp_path, resolution=2).images.shape == (1500, 3, 2, 2)
    assert files.reads == 4500


@pytest.mark.parametrize("damage", ["images.npy", "meta.json"])
def test_a_damaged_entry_is_made_anew(files: Files, tmp_path: Path, damage: str) -> None:
    cold = files.build(tmp_path)
    (entry,) = tmp_path.iterdir()
    (entry / damage).write_bytes((entry / damage).read_bytes()[:200])
    np.testing.assert_array_equal(files.build(tmp_path).images, cold.images)
    assert files.reads == 3000


def test_large_arrays_stay_on_disk(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = files.build(tmp_path).images
    assert not isinstance(small, np.memmap)
    monkeypatch.setattr(images_module, "_IN_MEMORY", 1000)
    large = files.build(tmp_path).images
    assert isinstance(large, np.memmap)
    np.testing.assert_array_equal(large, small)


def test_without_a_writable_cache_images_stay_in_memory(files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    unwritable = files.build(tmp_path / "file" / "cache")
    assert len(unwritable.images) == 1500 and not unwritable.images.flags.writeable
    assert unwritable.digest == files.build(tmp_path / "cache").digest


def test_cache_folder_comes_from_the_environment(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGAN_CACHE", str(tmp_path / "there"))
    build(files.read, ["0001.png"], [(0, 0)], 4, progress=False)
    assert len(list((tmp_path / "there").iterdir())) == 1
