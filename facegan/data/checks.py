"""What streamed data are known by: of each file its size and a checksum of its first 4 KiB, so that nothing is decoded for it.

Two pictures of one size that agree in their first 4 KiB, headers and the beginning of what is compressed, are one picture but for
damage further on, which this does not see. The checks are kept with the times of the files, and so read once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from facegan.data.images import cache_directory, content_key
from facegan.data.sources import Source
from facegan.errors import FaceganError
from facegan.files import read_json, write_whole
from facegan.schema import checked

_LIMIT = 64 << 20  # bytes of a kept list; a number of a million has eleven at most
_READERS = 16  # threads: reading 4 KiB is waiting for the disk


def checks_of(source: Source, names: Sequence[str], cache_dir: str | Path | None = None, progress: bool = True) -> list[tuple[int, int]]:
    """(bytes, CRC-32 of the first 4 KiB) of each file; 0 as the checksum of one that cannot be read."""
    stamps = [source.stamp(name) for name in names]
    key = content_key("checks", 1, str(source.path.absolute()), list(zip(names, stamps, strict=True)))
    path = cache_directory(cache_dir) / "checks" / f"{key}.json"
    try:
        found: list[int] = checked(read_json(path, _LIMIT), list[int], path)
    except FaceganError:  # not kept, or damaged since
        found = []
    if len(found) != len(names):
        found = _read(source, names, progress)
        try:
            write_whole(path, json.dumps(found))
        except OSError:  # they are read again the next time
            pass
    return [(size, check) for (size, _), check in zip(stamps, found, strict=True)]


def _read(source: Source, names: Sequence[str], progress: bool) -> list[int]:
    def check(name: str) -> int:
        try:
            return source.check(name)
        except Exception:  # archives raise whatever they trip over; decoding it will tell
            return 0

    with (
        ThreadPoolExecutor(min(_READERS, 2 * (os.cpu_count() or 1))) as pool,
        tqdm(total=len(names), desc="checking", unit="image", disable=None if progress else True) as bar,
    ):
        found = []
        for value in pool.map(check, names, chunksize=64):
            found.append(value)
            bar.update()
    return found
