"""Where files come from: a folder, or a zip archive read in place."""

from __future__ import annotations

import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from facegan.data.decoder import Piece
from facegan.data.formats import IMAGE_LIMIT
from facegan.errors import FaceganError
from facegan.files import TEXT_LIMIT, quoted, read_bytes, regular_file

_DIRECTORY_LIMIT = 64 << 20  # bytes of a zip's list of members; each member becomes an object of about ten times its entry
_UNPACKED = 16 << 20  # bytes that any member may have; larger ones no more than so many times what they take in the archive:
_RATIO = 200
CHECKED = 4096  # bytes at the start of a file that `check` looks at


class Source:
    """The files of a folder or an archive; names are relative, with forward slashes, sorted. Reading is thread-safe."""

    path: Path
    names: tuple[str, ...]
    lost: tuple[tuple[str, str], ...] = ()  # (name, reason) of what is there but cannot be reached

    def read(self, name: str, most: int = IMAGE_LIMIT) -> bytes:
        """The content of a file of at most `most` bytes; raises FaceganError, or what zipfile raises."""
        raise NotImplementedError

    def stamp(self, name: str) -> tuple[int, int]:
        """Size in bytes, and the time (folder) or checksum (archive) that changes with the content."""
        raise NotImplementedError

    def piece(self, name: str) -> Piece | bytes:
        """Where another process finds the content, or the content; raises as `read` does."""
        return self.read(name)

    def check(self, name: str) -> int:
        """CRC-32 of the first `CHECKED` bytes of the content; raises as `read` does."""
        raise NotImplementedError

    def text(self, name: str) -> str:
        """A UTF-8 file of at most `TEXT_LIMIT` bytes; raises FaceganError."""
        try:
            data = self.read(name, TEXT_LIMIT)
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise FaceganError(f"{self.path}: {quoted(name)} is UTF-16, as some programs write it; save it as UTF-8")
            return data.decode("utf-8-sig")
        except FaceganError:
            raise
        except Exception as error:  # damaged streams make the decompressors raise whatever they trip over
            raise FaceganError(f"{self.path}: cannot read {quoted(name)} as text: {quoted(str(error))}") from None


class DirectorySource(Source):
    """A folder, with everything below it but hidden files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found, seen = [], set()
        lost: list[tuple[str, str]] = []

        def unlisted(error: OSError) -> None:
            lost.append((quoted(str(error.filename)), f"cannot be listed: {error.strerror}"))

        for folder, folders, files in os.walk(path, onerror=unlisted, followlinks=True):
            real = os.path.realpath(folder)
            folders[:] = [] if real in seen else folders  # links may form a loop
            if real not in seen:
                found += [full for name in files if os.path.isfile(full := os.path.join(folder, name))]  # no dangling links, devices, pipes
            seen.add(real)
        self.names, nameless = _visible(Path(name).relative_to(path).as_posix() for name in found)
        self.lost = (*lost, *nameless)

    def read(self, name: str, most: int = IMAGE_LIMIT) -> bytes:
        return read_bytes(self.path / name, most)

    def piece(self, name: str) -> Piece | bytes:
        return Piece(os.path.join(self.path, name))

    def check(self, name: str) -> int:
        with open(os.path.join(self.path, name), "rb") as file:
            return zlib.crc32(file.read(CHECKED))

    def stamp(self, name: str) -> tuple[int, int]:
        try:
            status = (self.path / name).stat()
        except OSError:  # gone meanwhile: reading says so
            return -1, -1
        return status.st_size, status.st_mtime_ns


class ZipSource(Source):
    """A zip archive, never unpacked. Absolute names and those with `..` or backslashes are read as relative to its root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        regular_file(path, 1 << 62, "folder or .zip archive")
        try:
            with open(path, "rb") as file:
                end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # what ZipFile relies on, before it reads the list
            if end and end[5] > _DIRECTORY_LIMIT:
                raise ValueError(f"its list of members has {end[5]:,} bytes, expected at most {_DIRECTORY_LIMIT:,}")
            self._archive = zipfile.ZipFile(path)
        except Exception as error:  # zipfile raises whatever its parser trips over
            raise FaceganError(f"{path}: expected a folder or a .zip archive, but this is no readable zip: {quoted(str(error))}") from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._archive.infolist():
            other = self._members.setdefault(_relative(member.filename), member)
            if other.filename != member.filename and not (other.is_dir() or member.is_dir()):
                raise FaceganError(f"{path}: its members {quoted(other.filename)} and {quoted(member.filename)} have one name; rename one")
            self._members[_relative(member.filename)] = member  # of several of the same name the last one counts
        self.names, self.lost = _visible(name for name, member in self._members.items() if not member.is_dir())

    def _member(self, name: str, most: int = IMAGE_LIMIT) -> zipfile.ZipInfo:
        member = self._members[name]
        most = min(most, max(_UNPACKED, _RATIO * member.compress_size))
        if member.file_size > most:
            raise FaceganError(f"{self.path}: {quoted(name)} would unpack to {member.file_size:,} bytes; expected at most {most:,}")
        return member

    def piece(self, name: str) -> Piece | bytes:
        member = self._member(name)
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return self.read(name)  # rare, and zipfile's
        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        return Piece(str(self.path), member.header_offset, member.compress_size, member.file_size, member.CRC, deflated)

    def check(self, name: str) -> int:
        with self._archive.open(self._member(name)) as file:
            return zlib.crc32(file.read(CHECKED))

    def read(self, name: str, most: int = IMAGE_LIMIT) -> bytes:
        member = self._member(name, most)
        with self._archive.open(member) as file:
            return file.read()  # never more than `file_size`

    def stamp(self, name: str) -> tuple[int, int]:
        return self._members[name].file_size, self._members[name].CRC


def open_source(path: Path) -> Source:
    """A folder or a zip archive; raises FaceganError for any other file."""
    return DirectorySource(path) if path.is_dir() else ZipSource(path)


def _relative(name: str) -> str:
    """A member's name as a relative one inside the archive's root."""
    path = re.sub(r"^[A-Za-z]:/", "", name.replace("\\", "/"))
    return posixpath.normpath("/" + path).lstrip("/")


def _visible(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The names, sorted, without hidden ones; and (name, reason) of those that can stand in no list."""
    seen = sorted(name for name in names if not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")))
    odd = {name for name in seen if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name)}  # control characters; bytes that are no UTF-8
    lost = ((quoted(name), "its name is not UTF-8, or has control characters: rename it") for name in sorted(odd))
    return tuple(name for name in seen if name not in odd), tuple(lost)
