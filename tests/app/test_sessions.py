"""What visitors have: bounded, apart from each other, gone when they leave."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from facegan.app import sessions as module
from facegan.app.sessions import Session, Sessions, file_name, zipped
from facegan.app.turns import Stopped
from facegan.errors import FaceganError


def test_each_visitor_has_a_folder_that_goes_with_them(sessions: Sessions) -> None:
    one, two = sessions.of("one"), sessions.of("two")
    assert sessions.of("one") is one
    assert one.folder != two.folder
    (one.fresh("faces") / "x.png").write_bytes(b"x")
    sessions.close("one")
    assert not one.folder.exists()
    assert two.folder.exists()
    assert sessions.of("one") is not one
    sessions.close("nobody who came")


def test_leaving_stops_what_runs(sessions: Sessions) -> None:
    with sessions.of("one").job("mix") as job:
        sessions.close("one")
        with pytest.raises(Stopped):
            job.checked()


def test_of_many_visitors_those_who_were_here_last_stay(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 3)
    first = sessions.of("first")
    with first.job("photo"):  # works: stays
        for number in range(6):
            sessions.of(f"visitor {number}")
        assert len(sessions) == 3
        assert sessions.of("first") is first
    assert sum(path.name.startswith("visitor") for path in sessions.root.iterdir()) == len(sessions)


def test_a_new_request_of_a_tab_calls_off_the_one_before(session: Session) -> None:
    with session.job("mix") as old, session.job("photo") as other, session.job("mix") as new:
        with pytest.raises(Stopped):
            old.checked()
        new.checked()
        other.checked()
        assert session.stop("mix")
    assert not session.stop("mix")
    assert session.jobs == {}


def test_a_picture_that_follows_a_control_calls_off_no_video(session: Session) -> None:
    with session.job("mix", "walk") as video, session.job("mix") as picture:
        video.checked()
        assert session.works("mix") and not session.works("photo")
        assert session.stop("mix")
        for job in (video, picture):
            with pytest.raises(Stopped):
                job.checked()
    assert not session.works("mix")


def test_faces_are_kept_and_let_go_of(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.keep("net", 3)
    assert session.keep("net", 4)
    assert session.keep("other", 3)
    assert not session.keep("net", 3)
    assert session.kept == [("net", 4), ("other", 3)]
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    with pytest.raises(FaceganError, match="2 faces are kept already"):
        session.keep("net", 9)


def test_old_copies_go_when_there_are_too_many(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CACHED", 250)
    old = time.time() - 1000
    for number in range(5):
        path = sessions.cache / f"{number}" / "x.png"
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        if number < 4:
            os.utime(path, (old + number, old + number))
    sessions.tidy()
    assert sorted(path.parent.name for path in sessions.cache.rglob("x.png")) == ["3", "4"]
    monkeypatch.setattr(module, "MOST_CACHED", 0)
    sessions.tidy()
    assert [path.parent.name for path in sessions.cache.rglob("x.png")] == ["4"]  # a page may just be loading it


def test_an_archive_holds_the_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.png").write_bytes(b"1")
    (tmp_path / "a" / "b" / "y.png").write_bytes(b"2")
    (tmp_path / "a" / ".z").write_bytes(b"3")
    with zipfile.ZipFile(zipped(tmp_path / "a", tmp_path / "a.zip")) as archive:
        assert archive.namelist() == ["b/y.png", "x.png"]
        assert archive.read("x.png") == b"1"


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("me.jpg", "me.jpg"),
        ("../../etc/pass wd.PNG", "pass-wd.PNG"),
        ("C:\\photos\\me & you.jpeg", "me-you.jpeg"),
        ("-rf.jpg", "rf.jpg"),
        (".jpg", "jpg"),
        ("é ü.webp", "é-ü.webp"),
        ("", "photo"),
        ("x" * 300 + ".png", "x" * 80 + ".png"),
    ],
)
def test_names_of_uploads_are_harmless(sent: str, name: str) -> None:
    assert file_name(sent) == name


def test_nothing_is_left_when_the_server_ends() -> None:
    every = Sessions()
    every.of("one").fresh("x")
    every.end()
    assert not every.root.exists()
