"""Arrays on disk held against their digests: once after each start of the machine, as what a power cut leaves may be pages of zeros."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facegan.files import write_whole

logger = logging.getLogger("facegan.data")

STAMP = "verified.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PART = 64 << 20  # bytes that are digested at a time


def is_verified(folder: Path, file: Path, array: np.ndarray, digest: str) -> bool:
    """Whether an array, a memory map of `file`, has this SHA-256.

    It is read through for that (1.4 GB/s on one core of an AMD EPYC where it is in memory already) unless it was since the machine
    started, by what `folder` notes, and the file has not changed.
    """
    state = _state(file, digest)
    try:
        if state["boot"] and json.loads((folder / STAMP).read_text()) == state:
            return True
    except (OSError, ValueError):  # never looked at, or a damaged note
        pass
    logger.info("checking %.1f GB of decoded images against their digest, once after each start of the machine", array.nbytes / 1e9)
    if digest_of_pixels(array, progress=True) != digest:
        return False
    try:
        if state["boot"]:
            write_whole(folder / STAMP, json.dumps(state))
    except OSError:  # a cache that only others write: looked at again next time
        pass
    return True


def digest_of_pixels(array: np.ndarray, progress: bool = False) -> str:
    """SHA-256 of the bytes of uint8 [N, ...], hexadecimal."""
    digest, rows = hashlib.sha256(), max(1, _PART // max(1, array[:1].nbytes))
    parts = range(0, len(array), rows)
    for start in tqdm(parts, desc="checking", unit="part", disable=None if progress and len(parts) > 16 else True):
        digest.update(np.ascontiguousarray(array[start : start + rows]).data)
    return digest.hexdigest()


def _state(file: Path, digest: str) -> dict[str, object]:
    status = os.stat(file)
    return {"boot": _boot(), "digest": digest, "size": status.st_size, "changed": status.st_mtime_ns, "inode": status.st_ino}


def _boot() -> str:
    """What differs from start to start of this machine; "" where it does not say, so that everything is looked at each time."""
    try:
        return _BOOT.read_text().strip() if sys.platform == "linux" else ""
    except OSError:
        return ""
