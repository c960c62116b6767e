"""One process that reads and decodes images for a trainer, which starts it and talks to it through its pipes (`decoders`).

It imports no PyTorch, so it never touches a GPU; it ends when its trainer does, however that ended, as its input then does. Ctrl-C and
SIGTERM, which a terminal and a scheduler send to all processes of a group, are the trainer's to answer.

A request: the length in 8 bytes, then a pickle of (resolution, pieces). For each piece comes an answer: its kind, a length and as many
bytes, the pixels uint8 [3, R, R] or the reason why there are none. Before all of them it says that it is ready.
"""

from __future__ import annotations

import os
import pickle
import signal
import stat
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from facegan.data.formats import IMAGE_LIMIT
from facegan.data.images import decode, reason

REQUEST, ANSWER = struct.Struct("<Q"), struct.Struct("<BI")
PIXELS, BAD, UNREAD, READY = 0, 1, 2, 3  # kinds of answers: decoded, no picture whoever reads it, not read this time; ready for requests
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member of a zip: signature, lengths of name and extra field


class Piece(NamedTuple):
    """Where the bytes of one file are: a file of its own, a part of a shard, or a member of a zip."""

    path: str
    offset: int = -1  # -1: the whole file; of a zip's member that of its local header
    stored: int = 0  # bytes there
    size: int = 0  # bytes unpacked
    crc: int = -1  # of a zip's member; -1: no zip
    deflated: bool = False


class Unread(Exception):
    """A file that was there when its data set was listed could not be read."""


@lru_cache(maxsize=16)
def _opened(path: str) -> BinaryIO:
    return open(path, "rb")  # stays open from one image to the next


def read_piece(piece: Piece) -> bytes:
    """The bytes of a piece; raises Unread, ValueError for damage, and PermissionError."""
    try:
        if piece.offset < 0:
            status = os.stat(piece.path)
            if not stat.S_ISREG(status.st_mode) or status.st_size > IMAGE_LIMIT:
                raise ValueError(f"it is no regular file of at most {IMAGE_LIMIT >> 20} MiB")
            with open(piece.path, "rb") as whole:
                return whole.read()
        file = _opened(piece.path)
        start = piece.offset
        if piece.crc >= 0:
            file.seek(start)
            signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            if signature != b"PK\3\4":
                raise ValueError("its place in the archive holds no file")
            start += _LOCAL_HEADER.size + name + extra
        file.seek(start)
        data = file.read(piece.stored)
    except PermissionError:
        raise
    except OSError as error:
        raise Unread(error.strerror or type(error).__name__) from None
    except struct.error:
        data = b""
    if len(data) < piece.stored:
        raise Unread("the archive is shorter than it was")
    if piece.deflated:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max(piece.size, 1))
    if piece.crc >= 0 and (len(data) != piece.size or zlib.crc32(data) != piece.crc):
        raise ValueError("it is damaged: its checksum is another")
    return data


def answer(piece: Piece | bytes, resolution: int) -> tuple[int, bytes]:
    """The kind of answer, and its bytes; a piece may be given by its content."""
    try:
        return PIXELS, decode(read_piece(piece) if isinstance(piece, Piece) else piece, resolution).tobytes()
    except Unread as error:
        return UNREAD, str(error).encode()
    except MemoryError:
        raise
    except Exception as error:  # on bad bytes Pillow raises whatever its parsers trip over
        return BAD, reason(error).encode()


def serve(source: BinaryIO, write: Callable[[bytes], object]) -> None:
    """Answer requests until there are no more."""
    while len(header := source.read(REQUEST.size)) == REQUEST.size:
        resolution, pieces = pickle.loads(source.read(REQUEST.unpack(header)[0]))
        for piece in pieces:
            kind, content = answer(piece, resolution)
            write(ANSWER.pack(kind, len(content)) + content)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # of odd files; the trainer logs what could not be decoded
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer

    def write(content: bytes) -> None:
        left = memoryview(content)
        while left:
            left = left[out.write(left) :]

    with suppress(BrokenPipeError):  # the trainer is gone
        write(ANSWER.pack(READY, 0))
        serve(sys.stdin.buffer, write)
