"""A cache of decoded images that a power cut, a disk or a hand has damaged is noticed, said, and made again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facegan.data import images as images_module
from facegan.data import verified
from facegan.data.images import cached
from facegan.data.verified import digest_of_pixels, is_verified

PIXELS = np.random.default_rng(3).integers(1, 256, (60, 3, 16, 16), np.uint8)  # no zeros


class Source:
    """Makes an entry, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0

    def __call__(self) -> np.ndarray:
        def produce(notes: dict) -> np.ndarray:
            self.made += 1
            return PIXELS

        return cached("key", PIXELS.shape, produce, self.folder).images


@pytest.fixture(params=["in memory", "mapped"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    if request.param == "mapped":
        monkeypatch.setattr(images_module, "_IN_MEMORY", 1000)
    return Source(tmp_path)


def zeroed(path: Path, start: int, size: int) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(b"\0" * size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "zeroed pages": lambda entry: zeroed(entry / "images.npy", 4096, 4096),
    "one byte": lambda entry: zeroed(entry / "images.npy", os.path.getsize(entry / "images.npy") - 1, 1),
    "a zeroed header": lambda entry: zeroed(entry / "images.npy", 0, 64),
    "cut short": lambda entry: os.truncate(entry / "images.npy", 8192),
    "empty": lambda entry: os.truncate(entry / "images.npy", 0),
    "zeroed notes": lambda entry: zeroed(entry / "meta.json", 0, os.path.getsize(entry / "meta.json")),
    "other notes": lambda entry: (entry / "meta.json").write_text("[1, 2]"),
    "no digest": lambda entry: (entry / "meta.json").write_text('{"count": 60}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_and_mended(damage: str, source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source(), source()
    assert source.made == 1
    DAMAGES[damage](source.folder / "key")
    with caplog.at_level(logging.WARNING, "facegan.data"):
        np.testing.assert_array_equal(source(), PIXELS)
    assert source.made == 2 and "is damaged" in caplog.text and "made again" in caplog.text
    np.testing.assert_array_equal(source(), PIXELS)
    assert source.made == 2 and [path.name for path in source.folder.iterdir()] == ["key"]


def test_large_arrays_are_read_through_once_after_each_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = tmp_path / "images.npy", []
    np.save(file, PIXELS)
    digest = hashlib.sha256(PIXELS.tobytes()).hexdigest()
    monkeypatch.setattr(verified, "digest_of_pixels", lambda array, **_: read.append(1) or digest_of_pixels(array))

    def look(boot: str, expected: bool = True) -> int:
        monkeypatch.setattr(verified, "_boot", lambda: boot)
        before = len(read)
        assert is_verified(tmp_path, file, np.load(file, mmap_mode="r"), digest) is expected
        return len(read) - before

    assert [look("first"), look("first"), look("second"), look("second"), look(""), look("")] == [1, 0, 1, 0, 1, 1]
    assert look("second") == 0
    os.utime(file, ns=(1, 1))
    assert [look("second"), look("second")] == [1, 0]
    (tmp_path / verified.STAMP).write_bytes(b"\0\0")
    assert look("second") == 1
    zeroed(file, 4096, 100)
    assert [look("second", False), look("second", False)] == [1, 1]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_digest_is_of_all_bytes_whatever_the_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "_PART", 2000)
    assert digest_of_pixels(PIXELS[:count]) == hashlib.sha256(PIXELS[:count].tobytes()).hexdigest()


def test_halves_that_killed_processes_left_are_swept_when_an_entry_is_made(source: Source) -> None:
    from facegan.files import _machine

    half = source.folder / f".other.{_machine()}-0123abcd.tmp"
    half.mkdir(parents=True)
    (half / "images.npy").write_bytes(b"x" * 1000)
    source()
    assert [path.name for path in source.folder.iterdir()] == ["key"]
