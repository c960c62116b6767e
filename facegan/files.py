"""Files: never seen half written, and read within limits, as what comes from others may be anything."""

from __future__ import annotations

import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facegan.errors import FaceganError

TEXT_LIMIT = 64 << 20  # bytes of a text file; CelebA's list of 202,599 faces has 26 MB
RECORD_LIMIT = 8 << 20  # bytes of a JSON file that facegan writes about a run; as objects they take up to thirty times as many
_SHOWN = 100  # characters of a quotation


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """The name beside `path` to write a file or a folder under, which takes the place of `path` once the block has ended well.

    Whatever interrupts it, `path` is the old one or the new one; of a folder that is replaced there is none for a moment, and it is on
    disk when the block is left. A killed process may leave `.NAME.<hash>.tmp` or `.old`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.{uuid.uuid4().hex[:8]}"
    aside, old = path.with_name(f"{name}.tmp"), path.with_name(f"{name}.old")
    try:
        yield aside
        for file in aside.iterdir() if aside.is_dir() else ():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        if path.is_dir():
            path.rename(old)
        os.replace(aside, path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for leftover in (aside, old):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file as `written` does: a reader, or a second writer, meets the old one or the new one."""
    with written(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


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
