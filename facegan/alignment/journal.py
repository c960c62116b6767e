"""What became of each photo so far, a line each, so that an interrupted run resumes, and a longer list of photos continues it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypedDict

from facegan.alignment.face import FaceRow
from facegan.errors import FaceganError
from facegan.files import parse_json, write_whole
from facegan.schema import checked

FOLDER = ".alignment"  # in the folder of faces; hidden, so that it is no data
VERSION = 1  # raise when faces are found, cut out or measured otherwise


class _Entry(TypedDict):
    photo: str
    stamp: list[int]
    rows: list[FaceRow]


class Journal:
    """A file of lines: first the settings, then a photo each, its size and time, and its rows."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.path = out / FOLDER / "photos.jsonl"
        self.settings = {"version": VERSION, **settings}
        self.entries: dict[str, tuple[list[int], list[FaceRow]]] = {}
        self.restarted = False  # whether there was one with other settings
        self._file: IO[str] | None = None
        self._read()

    def _read(self) -> None:
        """The lines up to the first that is not whole: photos behind it are as if they had not been looked at."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            try:
                if parse_json(file.readline(), self.path) != self.settings:
                    self.restarted = True
                    return
                for line in file:
                    entry: _Entry = checked(parse_json(line, self.path), _Entry, f"{self.path}: a line")
                    if not all(row.is_whole() and is_below(row.file) for row in entry["rows"]):
                        raise FaceganError(f"{self.path}: a row is not whole, or of a face outside of the folder")
                    self.entries[entry["photo"]] = (entry["stamp"], entry["rows"])
            except FaceganError:  # cut off or damaged: what stands before it holds
                self.restarted = not self.entries

    def known(self, photo: Path) -> list[FaceRow] | None:
        """The rows of a photo that has not changed since; None where it must be looked at."""
        stamp, rows = self.entries.get(str(photo.resolve()), (None, None))
        return rows if stamp == stamp_of(photo) else None

    def follow(self, photos: Sequence[Path]) -> None:
        """Photos that lie elsewhere since, of the same name, size and time, and gone from where they were, are known there."""
        new = {path: photo for photo in photos if (path := str(photo.resolve())) not in self.entries}
        if not new or not self.entries:
            return
        names = {(photo.name, *stamp_of(photo)) for photo in new.values()}
        gone = {
            key: path
            for path, (stamp, _) in self.entries.items()
            if (key := (Path(path).name, *stamp)) in names and not Path(path).exists()
        }
        for path, photo in new.items():
            before = gone.pop((photo.name, *stamp_of(photo)), None)
            if before is not None:
                self.entries[path] = self.entries.pop(before)

    def start(self) -> None:
        """The file is there from now on, before the first face: what it stands beside is alignment's."""
        if self._file is None:
            # Written anew, without lines that a crash damaged or a photo has outgrown.
            lines = [self.settings, *(_entry(name, known, some) for name, (known, some) in self.entries.items())]
            write_whole(self.path, "".join(json.dumps(line) + "\n" for line in lines))
            self._file = open(self.path, "a", encoding="utf-8")

    def add(self, photo: Path, stamp: Sequence[int], rows: Sequence[FaceRow]) -> None:
        """A photo is done: its faces are on disk."""
        self.start()
        assert self._file is not None
        key = str(photo.resolve())
        self.entries[key] = (list(stamp), list(rows))
        self._file.write(json.dumps(_entry(key, stamp, rows)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """The file is whole."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def is_below(file: str) -> bool:
    """Whether a name is of a picture below the folder of faces, or of none: by such names files are removed."""
    parts = PurePosixPath(file).parts
    below = not PurePosixPath(file).is_absolute() and not any(part.startswith(".") for part in parts)
    return file == "" or (below and file.endswith(".png"))


def _entry(photo: str, stamp: Sequence[int], rows: Sequence[FaceRow]) -> dict[str, Any]:
    return {"photo": photo, "stamp": list(stamp), "rows": [vars(row) for row in rows]}


def stamp_of(photo: Path) -> list[int]:
    """What changes with a file's content: its size and time."""
    try:
        status = photo.stat()
    except OSError:  # gone meanwhile
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]
