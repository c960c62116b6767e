"""Files: never seen half written, and read within limits, as what comes from others may be anything."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facegan.errors import FaceganError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEXT_LIMIT = 64 << 20  # bytes of a text file; CelebA's list of 202,599 faces has 26 MB
RECORD_LIMIT = 8 << 20  # bytes of a JSON file that facegan writes about a run; as objects they take up to thirty times as many
_SHOWN = 100  # characters of a quotation


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """The name beside `path` to write a file or a folder under, which takes the place of `path` once the block has ended well.

    Whatever interrupts it, a power cut too, `path` is the old one or the new one; of a folder that is replaced there is none for a moment,
    and it is on disk when the block is left. A killed process may leave `.NAME.<machine>-<hash>.tmp` or `.old`, which `sweep` removes: the
    first write of every process into a folder begins with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if (os.getpid(), path.parent) not in _SWEPT:
        _SWEPT.add((os.getpid(), path.parent))
        sweep(path.parent)
    aside, old = _beside(path, "tmp"), _beside(path, "old")
    with _at_work_in(path.parent):
        try:
            yield aside
            _synchronised(aside)
            if path.is_dir():
                path.rename(old)
            os.replace(aside, path)
            _synchronise_folder(path.parent)
        finally:
            if old.exists() and not path.exists():
                old.rename(path)
            for leftover in (aside, old):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file as `written` does: a reader, or a second writer, meets the old one or the new one."""
    with written(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_whole(folder: Path) -> None:
    """Remove a folder so that whatever interrupts it, nobody meets a half of it; what is not there, or cannot be removed, is let be."""
    old = _beside(folder, "old")
    try:
        folder.rename(old)
    except OSError:
        return
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path, alone: bool = False) -> int:
    """Remove what killed writers left in a folder, and say how many files and folders that were.

    Never what one still writes: of this machine's leftovers nothing while anybody writes there, of another machine's what nobody has
    touched for a week. `alone`: all of them, as the caller's lock keeps other writers out.
    """
    with _nobody_at_work_in(folder) as quiet:
        found = [path for path in _hidden(folder) if (match := _LEFTOVER.fullmatch(path.name)) and (
            alone or (quiet and match[1] == _machine()) or _untouched(path)
        )]  # fmt: skip
        for path in found:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    return len(found)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal; 1.4 GB/s on one core of an AMD EPYC."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# A name, the machine (older versions left it out), and what tells writers apart.
_LEFTOVER = re.compile(r"\..*\.(?:([0-9a-f]{6})-)?[0-9a-f]{8}\.(?:tmp|old)", re.DOTALL)
_SWEPT: set[tuple[int, Path]] = set()  # (process, folder): once each, as a folder may have a hundred thousand faces
_NAME_SHOWN = 50  # characters of the name, so that the longest names still fit
_WEEK = 7 * 24 * 3600  # seconds
_PATIENCE = 10.0  # seconds that a writer waits for one who sweeps


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name[:_NAME_SHOWN]}.{_machine()}-{uuid.uuid4().hex[:8]}.{suffix}")


def _hidden(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(".")]
    except OSError:
        return []


def _untouched(path: Path) -> bool:
    try:
        newest = max(each.lstat().st_mtime for each in (path, *_inside(path)))
    except OSError:  # gone, or being written
        return False
    return time.time() - newest > _WEEK


def _inside(path: Path) -> list[Path]:
    return list(path.rglob("*")) if path.is_dir() and not path.is_symlink() else []


@contextmanager
def _at_work_in(folder: Path) -> Iterator[None]:
    """A shared lock of the folder itself, by which `sweep` sees that somebody writes; it dies with the process."""
    descriptor = None
    try:
        descriptor = _locked(folder, exclusive=False)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def _nobody_at_work_in(folder: Path) -> Iterator[bool]:
    """Whether nobody of this machine writes into the folder; who begins meanwhile waits."""
    descriptor = _locked(folder, exclusive=True)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(folder: Path, exclusive: bool) -> int | None:
    """The descriptor of a folder that is locked while it is open; None where it cannot be. A writer waits for one who sweeps, not longer
    than `_PATIENCE`; one who sweeps waits for nobody."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    kind, end = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB, time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, kind)
            return descriptor
        except BlockingIOError:
            if not exclusive and time.monotonic() < end:
                time.sleep(0.005)
                continue
        except OSError:  # a file system without locks
            pass
        os.close(descriptor)
        return None


def _synchronised(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, onto the disk."""
    for each in (*_inside(path), path):
        if each.is_dir():
            _synchronise_folder(each)
        else:
            with open(each, "rb") as handle:
                os.fsync(handle.fileno())


def _synchronise_folder(folder: Path) -> None:
    """Bring the names in a folder onto the disk, where the system can."""
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def quoted(value: object, most: int = _SHOWN) -> str:
    """`value`, which came from a file, for a message: on one line, without control characters, `most` characters at most.

    Containers and objects are named by their type alone: their own form could be gigabytes long, or endless.
    """
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value[:most]).decode("latin-1") + "..." * (len(value) > most)
    if isinstance(value, str):
        shown = value[: most + 1]
        shown = shown if shown.isprintable() else shown.encode("unicode_escape", "surrogatepass").decode("ascii")
        return shown if len(shown) <= most else shown[: most - 3] + "..."
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if type(value) is int:
        return str(value) if value.bit_length() <= 64 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, type):
        return quoted(value.__name__, most)
    return f"a {quoted(type(value).__name__, most - 2)}"


def regular_file(path: Path, most: int, what: str = "file") -> int:
    """The size in bytes of a regular file, links followed.

    Raises:
        FaceganError: there is none, it is a folder, a device or a pipe, or it has more than `most` bytes.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise FaceganError(f"{path} cannot be read: {_reason(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        raise FaceganError(f"{path} is no regular file: expected a {what}")
    if status.st_size > most:
        raise FaceganError(f"{path} has {_amount(status.st_size)}, more than the {_amount(most)} of any {what}")
    return status.st_size


def read_bytes(path: Path, most: int = TEXT_LIMIT, what: str = "file") -> bytes:
    """The content of a regular file of at most `most` bytes. Raises FaceganError as `regular_file` does."""
    regular_file(path, most, what)
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FaceganError(f"{path} cannot be read: {_reason(error)}") from None
    if len(data) > most:  # it grew, or its size was not the truth, as in /proc
        raise FaceganError(f"{path} has more than the {_amount(most)} of any {what}")
    return data


def read_text(path: Path, most: int = TEXT_LIMIT, what: str = "text file") -> str:
    """UTF-8, a leading mark of byte order left out. Raises FaceganError as `read_bytes` does, and for other bytes."""
    try:
        return read_bytes(path, most, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FaceganError(f"{path} is no {what}: byte {error.start} is not UTF-8") from None


def parse_json(text: str | bytes, where: object) -> Any:
    """What a JSON text holds; `where` names it in the message.

    Raises:
        FaceganError: it is no JSON, nests too deeply, or holds a whole number beyond 64 bits, which no file of this field has.
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else quoted(str(error))
        raise FaceganError(f"{where} is not valid JSON: {reason}") from None


def read_json(path: Path, most: int = TEXT_LIMIT) -> Any:
    """What a JSON file holds. Raises FaceganError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, most, "JSON file"), path)


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise ValueError("it holds a whole number beyond 64 bits")
    return int(digits)


def _amount(size: int) -> str:
    return f"{size:,} bytes" if size < 1 << 20 else f"{size >> 20:,} MiB"


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else quoted(str(error))
