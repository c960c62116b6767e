"""Folders and archives as they come: odd names, damaged streams, files that are no files, and limits on what is read."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.data import layouts, lists, sources
from facegan.data.faces import open_faces
from facegan.data.loaders import Catalog, open_catalog
from facegan.data.sources import ZipSource, open_source
from facegan.errors import FaceganError


def _png(i: int, folder: Path) -> bytes:
    Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / "made.png")
    return (folder / "made.png").read_bytes()


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """zipped({name: content}) -> an archive; names as they are written there."""

    def write(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(tmp_path / "data.zip", "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return tmp_path / "data.zip"

    return write


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Catalog]:
    """listed(name, text) -> the catalog of the images 0.png, 1.png and 2.png with such a list."""

    def read(name: str, text: str) -> Catalog:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        for i in range(3):
            (root / f"{i}.png").write_bytes(_png(i, tmp_path))
        (root / name).write_text(text)
        return open_catalog(root)

    return read


# --- Names and archives


def test_members_with_absolute_and_relative_names_are_read_as_below_the_root(zipped: Callable[..., Path], tmp_path: Path) -> None:
    names = ["/abs/bald/0.png", "../bald/1.png", "./bald/2.png", "beard\\3.png", "C:\\beard\\4.png", "beard/../beard/5.png"]
    path = zipped({name: _png(i, tmp_path) for i, name in enumerate(names)})
    source = open_source(path)
    assert source.names == ("abs/bald/0.png", "bald/1.png", "bald/2.png", "beard/3.png", "beard/4.png", "beard/5.png")
    assert source.read("bald/1.png") == _png(1, tmp_path)
    catalog = open_catalog(path)  # `commonpath` of absolute and relative names would fail
    assert catalog.table.columns == ("abs", "bald", "beard")


def test_two_members_of_one_name_are_an_error_that_names_both(zipped: Callable[..., Path]) -> None:
    with pytest.raises(FaceganError, match=r"its members a/1.png and ../a/1.png have one name"):
        open_source(zipped({"a/1.png": b"1", "../a/1.png": b"2"}))


def _damaged(path: Path, at: bytes) -> Path:
    data = bytearray(path.read_bytes())
    place = data.index(at) + len(at) + 4  # inside the stream of the first member, whose header ends with its name
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_stream_is_a_sentence(method: int, zipped: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = json.dumps({"labels": [[f"{i}.png", [i % 2, 1]] for i in range(3)]}).encode()
    images = {f"{i}.png": _png(i, tmp_path) for i in range(3)}
    with pytest.raises(FaceganError, match="cannot read dataset.json as text: "):
        open_catalog(_damaged(zipped({"dataset.json": labels, **images}, method), b"dataset.json"))
    faces = open_faces(_damaged(zipped({**images, "dataset.json": labels}, method), b"0.png"), 4, cache_dir=tmp_path / "c", progress=False)
    assert faces.table.ids == ("1.png", "2.png") and faces.skipped[0][0] == "0.png" and "skipped 0.png" in caplog.text


def test_an_archive_with_a_long_list_is_refused_before_it_is_read(zipped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped({f"{i}.png": b"" for i in range(20)})
    monkeypatch.setattr(sources, "_DIRECTORY_LIMIT", 500)
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda _: pytest.fail("read the list"))
    with pytest.raises(FaceganError, match=r"its list of members has 1,\d\d\d bytes, expected at most 500"):
        open_source(path)


def test_members_unpack_to_no_more_than_a_picture_has(zipped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped({"flat.png": b"\0" * 100_000, "noise.png": np.random.default_rng(0).bytes(100_000)})
    monkeypatch.setattr(sources, "_UNPACKED", 10_000)
    source = ZipSource(path)
    assert len(source.read("noise.png")) == 100_000  # it takes as much in the archive
    with pytest.raises(FaceganError, match=r"flat.png would unpack to 100,000 bytes; expected at most \d\d,\d\d\d"):
        source.read("flat.png")
    with pytest.raises(FaceganError, match="would unpack to 100,000 bytes; expected at most 50,000"):
        source.read("noise.png", 50_000)
    monkeypatch.setattr(sources, "TEXT_LIMIT", 50_000)
    with pytest.raises(FaceganError, match="noise.png would unpack"):
        source.text("noise.png")


def test_pipes_and_devices_are_no_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(FaceganError, match="is no regular file: expected a folder or .zip archive"):
            open_catalog(path)
    (tmp_path / "faces").mkdir()
    os.mkfifo(tmp_path / "faces/x.png")
    (tmp_path / "faces/y.png").symlink_to("/dev/zero")
    assert open_source(tmp_path / "faces").names == ()


def test_files_of_a_folder_are_read_within_limits(listed: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = listed("metadata.csv", "file_name,a\n0.png,1\n1.png,0\n")
    with pytest.raises(FaceganError, match="more than the 20 bytes of any"):
        catalog.source.read("0.png", 20)
    monkeypatch.setattr(sources, "TEXT_LIMIT", 20)
    with pytest.raises(FaceganError, match="metadata.csv has 28 bytes, more than the 20 bytes of any"):
        open_catalog(catalog.source.path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(path: Path, onerror: Callable[[OSError], None], followlinks: bool) -> list[object]:
        onerror(PermissionError(13, "Permission denied", str(path / "closed")))
        return []

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(FaceganError, match=r"contains no image; 1 files .*closed: cannot be listed: Permission denied"):
        open_catalog(tmp_path)


# --- Lists that would grow


def test_classes_cost_what_the_file_holds(listed: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MOST_CELLS", 30)
    assert listed("dataset.json", '{"labels": [["0.png", 9], ["1.png", 0], ["2.png", 1]]}').table.values.shape == (3, 10)
    with pytest.raises(FaceganError, match="dataset.json: 3 rows of 11 columns; expected at most"):
        listed("dataset.json", '{"labels": [["0.png", 10], ["1.png", 0], ["2.png", 1]]}')
    with pytest.raises(FaceganError, match="dataset.json: 1 rows of 2147483000 columns|2,147,483,001 columns"):
        listed("dataset.json", '{"labels": [["0.png", 2147483000]]}')


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset.json", '{"labels": [' + ", ".join(f'["{i}.png", [1]]' for i in range(9)) + "]}"),
        ("metadata.csv", "file_name,a\n" + "0.png,1\n" * 9),
        ("metadata.jsonl", '{"file_name": "0.png"}\n' * 9),
        ("list_attr_celeba.txt", "9\na\n" + "0.png 1\n" * 9),
        ("identity_CelebA.txt", "0.png 1\n" * 9),
    ],
)
def test_rows_are_counted_before_they_are_read(
    name: str, text: str, listed: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lists, layouts):
        monkeypatch.setattr(module, "MOST_ROWS", 8)
    if name == "identity_CelebA.txt":
        listed("list_attr_celeba.txt", "1\na\n0.png 1\n")
    with pytest.raises(FaceganError, match=f"{name}: (has some|9 rows|10 rows|11 rows).*; expected at most (8|16)( |$)"):
        listed(name, text)


@pytest.mark.parametrize("column", ["a" * 201, "a\\u001b[31m", "a\\nb", "\\ud800"])
def test_names_of_columns_are_words(column: str, listed: Callable[..., Catalog]) -> None:
    with pytest.raises(FaceganError, match="is no name of an attribute: expected 1 to 200 printable characters") as caught:
        listed("metadata.jsonl", f'{{"file_name": "0.png", "{column}": 1}}')
    assert re.fullmatch(r"[\x20-\x7e]*", str(caught.value)) and len(str(caught.value)) < 400
