"""The list that `facegan data align` writes beside faces, read for the report; damaged ones and those of other programs."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facegan.data.leftovers import ADVICE, Leftovers, kind, leftovers
from facegan.data.sources import open_source

HEADER = ["source", "face", "file", "reason", "score", "side", "hash"]


def _list(rows: list[list[object]], header: list[str] = HEADER) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


ROWS: list[list[object]] = [
    ["photos/a.jpg", 0, "bald/a.png", "", 0.99, 300.5, "ab"],
    ["photos/a.jpg", 1, "", "small", 0.98, 60, ""],
    ["photos/b,c.jpg", "", "", "no face", "", "", ""],
    ["photos/bald/d.jpg", 0, "", "duplicate of bald/a.png", 0.9, 301, "ab"],
    ["photos/beard/e.jpg", 0, "", "duplicate of bald/b.png", 0.9, 301, "ab"],
    ["photos/f.jpg", "", "", "unreadable: OSError: image file is truncated", "", "", ""],
    ["photos/g.jpg", 0, "beard/g.png", "", 0.9, 900, "ac"],
]


def _read(folder: Path, content: str | bytes, name: str = "faces.csv") -> Leftovers:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "bald").mkdir(exist_ok=True)
    (folder / "bald/a.png").write_bytes(b"x")
    found = leftovers(open_source(folder))
    assert found
    return found


def test_what_was_taken_and_left_out(tmp_path: Path) -> None:
    found = _read(tmp_path, _list(ROWS))
    assert (found.name, found.problem, found.photos, found.taken, found.gone) == ("faces.csv", "", 6, 2, 1)
    assert dict(found.reasons) == {"duplicate": 2, "small": 1, "no face": 1, "unreadable": 1} and found.reasons[0][0] == "duplicate"
    np.testing.assert_array_equal(found.sides, [300.5, 900])
    assert found.elsewhere == (("photos/beard/e.jpg", "bald/b.png"),)
    assert set(dict(found.reasons)) <= set(ADVICE)


@pytest.mark.parametrize(("photo", "twin", "elsewhere"), [
    ("p/bald/1.jpg", "bald/2.png", False), ("p/notbald/1.jpg", "bald/2.png", True), ("p/1.jpg", "2.png", False), ("1.jpg", "2.png", False),
    (r"C:\p\bald\1.jpg", "bald/2.png", False), ("bald/1.jpg", "a/bald/2.png", True), ("p/a/bald/1.jpg", "a/bald/2.png", False),
])  # fmt: skip
def test_duplicates_with_another_label(photo: str, twin: str, elsewhere: bool, tmp_path: Path) -> None:
    found = _read(tmp_path, _list([[photo, 0, "", f"duplicate of {twin}", "", "", ""]]))
    assert found.elsewhere == (((photo, twin),) if elsewhere else ())


def test_of_an_archive_and_nearest_to_its_root(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("faces/faces.csv", _list(ROWS[:1]))
        archive.writestr("faces/bald/a.png", b"x")
        archive.writestr("a/b/faces.csv", "other")
    found = leftovers(open_source(tmp_path / "x.zip"))
    assert found and (found.name, found.taken, found.gone) == ("faces/faces.csv", 1, 0)
    assert leftovers(open_source(_folder(tmp_path / "none"))) is None


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(("reason", "short"), [
    ("duplicate of a/b: c.png", "duplicate"), ("unreadable: x: y", "unreadable"), ("turned", "turned"),
    ("another face of a labelled photo", "another face of a labelled photo"),
])  # fmt: skip
def test_reasons_without_what_follows_them(reason: str, short: str) -> None:
    assert kind(reason) == short


@pytest.mark.parametrize(("content", "problem"), [
    ("name,label\nx,1\n", "no list of `facegan data align`: no column source, face, file, reason"),
    ("", "no column source"),
    (_list(ROWS)[:-20], r"line 8 has \d cells; expected 7"),
    (_list(ROWS, ["source", "face", "file", "reason", "side", "side", "hash"]), "a column twice"),
    (_list([["a.jpg", 0, "", "", "", "", ""]]), "line 2 names neither a file nor why there is none"),
    (_list([["a.jpg", 0, "a.png", "", "", "wide", ""]]), "line 2: side is wide; expected pixels"),
    (_list([["a.jpg", 0, "a.png", "", "", "-3", ""]]), "side is -3"),
    (_list([[f"{i}.jpg", 0, "", f"because {i}", "", "", ""] for i in range(30)]), "30 different reasons"),
    (_list(ROWS).encode("utf-16"), "UTF-16"),
    (b"source,face,file,reason\n\xff\xfe\xff,1,2,3\n", "cannot read"),
    ('source,face,file,reason\n"a', "line 2"),
])  # fmt: skip
def test_damaged_lists_and_those_of_others_are_told(content: str | bytes, problem: str, tmp_path: Path) -> None:
    found = _read(tmp_path, content)
    assert found.taken == 0 and found.reasons == ()
    assert re.search(problem, found.problem), found.problem
