"""One process at a time writes into a folder; what killed writers left goes, and never what others still write."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facegan import files, locks
from facegan.errors import FaceganError
from facegan.files import sweep, write_whole, written
from facegan.locks import FolderLock, held

HOLDER = """
import sys; from pathlib import Path; from facegan.locks import FolderLock
lock = FolderLock(Path(sys.argv[1])); print(1, flush=True); input()
"""
WRITER = """
import sys; from pathlib import Path; from facegan.files import written
with written(Path(sys.argv[1])) as aside: {make}; print(1, flush=True); input()
"""


def started(*command: str) -> subprocess.Popen:
    """A process that has got as far as its first line."""
    process = subprocess.Popen([sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "1\n"
    return process


def killed(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe
        pipe.close()


def test_a_second_process_is_told_whose_the_folder_is_and_gets_it_when_the_first_is_killed(tmp_path: Path) -> None:
    first = started(HOLDER, str(tmp_path))
    with pytest.raises(FaceganError) as refused:
        FolderLock(tmp_path)
    said = str(refused.value)
    assert said.startswith(f"`out={tmp_path}` is in use by process {first.pid} on ") and os.uname().nodename in said
    assert ", since 20" in said and "(-c " in said and said.endswith("or name another folder")
    killed(first)
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_who_opened_the_lock_before_its_holder_removed_it_takes_the_one_that_others_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, flock, calls = FolderLock(tmp_path), locks.fcntl.flock, []

    def late(descriptor: int, kind: int) -> None:
        calls.append(kind)
        if len(calls) == 1:  # opened already, not yet locked
            monkeypatch.setattr(locks.fcntl, "flock", flock)
            first.release()
            monkeypatch.setattr(locks.fcntl, "flock", late)
        flock(descriptor, kind)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    second = FolderLock(tmp_path)
    assert len(calls) == 2
    with pytest.raises(FaceganError, match="is in use"):
        FolderLock(tmp_path)
    second.release()


def test_within_one_process_two_holders_exclude_each_other_and_an_unreadable_note_does_no_harm(tmp_path: Path) -> None:
    with held(tmp_path):
        for note in (b"", b"\xff{", b'{"process": "x"}', b"[]", b"\0" * 100_000):
            (tmp_path / ".lock").write_bytes(note)
            with pytest.raises(FaceganError, match="is in use by another process: wait"), held(tmp_path, "folder"):
                pass
    lock = FolderLock(tmp_path)
    del lock  # as a caller that failed would
    with held(tmp_path):
        pass


def test_the_note_quotes_a_command_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/facegan", "train", "--out", "a b\n`c`" + "x" * 100_000])
    with held(tmp_path), pytest.raises(FaceganError, match=r"\(facegan train --out 'a b") as refused:
        FolderLock(tmp_path)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 700 and str(refused.value).count("`") == 2


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with caplog.at_level(logging.WARNING), held(tmp_path):
        write_whole(tmp_path / "file", "x")
    assert "no locks on this file system" in caplog.text and (tmp_path / "file").read_text() == "x"


def test_what_fails_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError), held(tmp_path / "new"):
        raise ValueError
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError), held(tmp_path / "new"):
        (tmp_path / "new/face.png").write_bytes(b"x")
        raise ValueError
    assert (tmp_path / "new/face.png").exists()


def test_the_first_write_of_a_process_into_a_folder_sweeps_it(tmp_path: Path) -> None:
    first, second = (tmp_path / f".{name}.{files._machine()}-0123abcd.tmp" for name in "ab")
    first.write_text("x")
    write_whole(tmp_path / "file", "x")
    second.write_text("x")
    write_whole(tmp_path / "file", "y")
    assert not first.exists() and second.exists() and (tmp_path / "file").read_text() == "y"


@pytest.mark.parametrize("make", ["aside.write_text('x')", "aside.mkdir(); (aside / 'a').write_text('x')"])
def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(make: str, tmp_path: Path) -> None:
    dead, living = (started(WRITER.format(make=make), str(tmp_path / name)) for name in ("dead", "living"))
    killed(dead)
    assert len(list(tmp_path.glob(".*.tmp"))) == 2
    assert sweep(tmp_path) == 0  # somebody writes there
    living.communicate("\n")
    assert living.returncode == 0 and (tmp_path / "living").exists()
    assert sweep(tmp_path) == 1 and [path.name for path in tmp_path.iterdir()] == ["living"]


def test_only_leftovers_of_ours_are_swept_and_those_of_other_machines_after_a_week(tmp_path: Path) -> None:
    mine, theirs, old = f".a.{files._machine()}-0123abcd.tmp", ".a.ffffff-0123abcd.tmp", ".b.0123abcd.old"
    others = [".hidden.tmp", ".vimrc.swp", "a.ffffff-0123abcd.tmp", ".lock", ".config.old", "0123abcd.tmp"]
    for name in (mine, theirs, old, *others):
        (tmp_path / name).write_text("x")
    assert sweep(tmp_path) == 1 and not (tmp_path / mine).exists()
    assert sweep(tmp_path) == 0
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(tmp_path / theirs, (long_ago, long_ago))
    assert sweep(tmp_path) == 1 and sweep(tmp_path, alone=True) == 1
    assert {path.name for path in tmp_path.iterdir()} == {*others}
    assert sweep(tmp_path / "absent") == 0


def test_a_leftover_that_is_a_link_costs_the_link_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    (tmp_path / f".a.{files._machine()}-0123abcd.tmp").symlink_to(tmp_path / "kept")
    assert sweep(tmp_path) == 1 and (tmp_path / "kept/file").exists()


def test_files_are_on_the_disk_before_they_take_their_place_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(name: str, function: Callable) -> Callable:
        def call(*arguments: object) -> object:
            order.append(name if name != "fsync" else "fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{arguments[0]}"))[:2])
            return function(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", noted("replace", os.replace))
    write_whole(tmp_path / "in" / "file", b"x")
    assert order == ["fsync .f", "replace", "fsync in"]
    order.clear()
    with written(tmp_path / "in" / "folder") as aside:
        (aside / "deep").mkdir(parents=True)
        (aside / "deep/aa").write_text("x")
    assert order[-2:] == ["replace", "fsync in"] and {*order[:-2]} == {"fsync aa", "fsync de", "fsync .f"}


def test_the_longest_names_that_a_disk_takes_are_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ß" * 127):
        write_whole(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
