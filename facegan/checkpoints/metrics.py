"""A run's metrics.jsonl: a row of JSON a line, of which checkpoints count the bytes, so that a resumed run forgets the rows after it."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from facegan.files import write_whole

log = logging.getLogger("facegan.train")


class Metrics:
    """The file; what a power cut or a disk has damaged in it is noticed, and said."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> int:
        """In bytes; 0 where there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def settled(self) -> int:
        """The size, once all of it is on the disk: what a checkpoint that counts these bytes relies on."""
        if not self.path.exists():
            return 0
        with open(self.path, "rb") as handle:
            os.fsync(handle.fileno())
        return self.size()

    def append(self, row: dict[str, Any]) -> None:
        """A row more."""
        with open(self.path, "a") as handle:
            handle.write(json.dumps(row) + "\n")

    def is_whole(self, size: int) -> bool:
        """Whether the first `size` bytes are there, and all of them rows."""
        content = self._read(size)
        return len(content) == size and len(_rows(content)) == content.count(b"\n") and content[-1:] in (b"", b"\n")

    def rewind(self, size: int) -> None:
        """Forget the rows written after the first `size` bytes. Damage before it costs the rows that it hit, and is said."""
        if not self.is_whole(size):
            return self._mend(size)
        if self.size() > size:
            os.truncate(self.path, size)
            self.settled()

    def rows(self) -> list[dict[str, Any]]:
        """The whole ones of the loop, in their order."""
        return [row for row, _ in _rows(self._read()) if isinstance(row.get("stage"), str) and isinstance(row.get("step"), int)]

    def _mend(self, size: int) -> None:
        content = self._read(size)
        kept = _rows(content)
        sound = len(_rows(content, until_damage=True))
        after = f"after {kept[sound - 1][0].get('stage')} at step {kept[sound - 1][0].get('step')}" if sound else "from the first on"
        log.warning(
            "%s was damaged, or cut short, since it was written (%d of %d bytes are rows): rows %s are lost; no network is affected",
            self.path, sum(len(line) for _, line in kept), size, after,
        )  # fmt: skip
        write_whole(self.path, b"".join(line for _, line in kept))

    def _read(self, size: int = -1) -> bytes:
        if not self.path.exists():
            return b""
        with open(self.path, "rb") as handle:
            return handle.read(size)


def _rows(content: bytes, until_damage: bool = False) -> list[tuple[dict[str, Any], bytes]]:
    """(row, its line) of every line that is one."""
    found = []
    for line in content.splitlines(keepends=True):
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            row = None
        if isinstance(row, dict):
            found.append((row, line))
        elif until_damage:
            break
    return found
