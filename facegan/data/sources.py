"""Where files come from: a folder, or a zip archive read in place."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from facegan.errors import FaceganError


class Source:
    """The files of a folder or an archive; names are relative, with forward slashes, sorted. Reading is thread-safe."""

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """The content of a file; raises what the file system or zipfile raises."""
        raise NotImplementedError

    def stamp(self, name: str) -> tuple[int, int]:
        """Size in bytes, and the time (folder) or checksum (archive) that changes with the content."""
        raise NotImplementedError

    def text(self, name: str) -> str:
        """A small UTF-8 file; raises FaceganError."""
        try:
            return self.read(name).decode("utf-8-sig")
        except (OSError, RuntimeError, UnicodeDecodeError, zipfile.BadZipFile) as error:
            raise FaceganError(f"{self.path}: cannot read {name} as text: {error}") from error


class DirectorySource(Source):
    """A folder, with everything below it but hidden files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found, seen = [], set()
        for folder, folders, files in os.walk(path, followlinks=True):
            real = os.path.realpath(folder)
            folders[:] = [] if real in seen else folders  # links may form a loop
            if real not in seen:
                found += [
                    full for name in files if os.path.isfile(full := os.path.join(folder, name))
                ]  # no dangling links
            seen.add(real)
        self.names = _visible(Path(name).relative_to(path).as_posix() for name in found)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def stamp(self, name: str) -> tuple[int, int]:
        status = (self.path / name).stat()
        return status.st_size, status.st_mtime_ns


class ZipSource(Source):
    """A zip archive, never unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise FaceganError(
                f"{path}: expected a folder or a .zip archive, but this is no readable zip: {error}"
            ) from error
        self._members = {member.filename: member for member in self._archive.infolist() if not member.is_dir()}
        self.names = _visible(self._members)

    def read(self, name: str) -> bytes:
        return self._archive.read(name)

    def stamp(self, name: str) -> tuple[int, int]:
        return self._members[name].file_size, self._members[name].CRC


def open_source(path: Path) -> Source:
    """A folder or a zip archive; raises FaceganError for any other file."""
    return DirectorySource(path) if path.is_dir() else ZipSource(path)


def _visible(names: Iterable[str]) -> tuple[str, ...]:
    hidden = ((name, any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))) for name in names)
    return tuple(sorted(name for name, skip in hidden if not skip))
