"""A run's folder as something to compare and to copy: parts with a digest each, for machines that share no disk.

A part is a folder of `stages/` or `checkpoints/`, which is written whole, or any other file. What belongs to one machine (TensorBoard's
records, hidden files) is left out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from facegan.checkpoints import checkpoint
from facegan.checkpoints.run import CONFIG, FREE_TO_CHANGE, RunFolder
from facegan.errors import FaceganError
from facegan.files import written

WHOLE = ("stages", "checkpoints")
OF_ONE_MACHINE = ("tensorboard",)
Part = dict[str, tuple[int, str]]  # file in it ("" for a part that is a file) -> (bytes, SHA-256)
_digests: dict[tuple[str, int, int], str] = {}  # (path, bytes, time of change in ns): of files that were read before


@dataclass(frozen=True)
class Inventory:
    """What a run's folder holds."""

    parts: dict[str, Part]  # relative path with / -> its files
    config: dict[str, Any] | None  # of config.json; None where there is none
    fingerprint: str  # of its data

    @property
    def begun(self) -> bool:
        """Whether it holds anything that took time to make."""
        return any(name.split("/")[0] in WHOLE and checkpoint.METADATA in part for name, part in self.parts.items())


def inventory(root: Path, digests: bool = True) -> Inventory:
    """Of a folder, which need not exist; without `digests` they are empty. Raises FaceganError for a config.json that is none."""
    parts: dict[str, Part] = {}
    for file in sorted(root.rglob("*")) if root.is_dir() else ():
        place = file.relative_to(root)
        if any(each.startswith(".") for each in place.parts) or place.parts[0] in OF_ONE_MACHINE or not file.is_file():
            continue
        deep = place.parts[0] in WHOLE and len(place.parts) > 2
        name, inner = ("/".join(place.parts[:2]), "/".join(place.parts[2:])) if deep else (place.as_posix(), "")
        parts.setdefault(name, {})[inner] = (file.stat().st_size, digest(file) if digests else "")
    record = RunFolder(root).record() if CONFIG in parts else None
    return Inventory(parts, record["config"] if record else None, record["data_fingerprint"] if record else "")


def digest(file: Path) -> str:
    """SHA-256 of its content, computed once for as long as size and time stay."""
    status = file.stat()
    key = (str(file), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with open(file, "rb") as handle:
            _digests[key] = _sha256(iter(lambda: handle.read(1 << 20), b""))
    return _digests[key]


def _sha256(blocks: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


def lacking(theirs: Inventory, ours: Inventory) -> list[str]:
    """The parts that a folder `ours` needs from `theirs` to be like it."""
    return [name for name, part in theirs.parts.items() if ours.parts.get(name) != part]


def refuse_ahead(first: Inventory, ours: Inventory, root: Path, machine: str) -> None:
    """Raises FaceganError where a folder of another machine would lose something by being made like that of process 0."""
    where, advice = f"`out={root}` of {machine}", "name another folder, or remove it there"
    if ours.config is None:
        if ours.parts:
            raise FaceganError(f"{where} holds other files and no {CONFIG}: {advice}")
        return
    if not ours.begun:
        return
    if first.config is None:
        raise FaceganError(f"{where} holds a run, and that of process 0 does not: start with that machine as the first, or remove it there")
    if _wishes(first) != _wishes(ours):
        raise FaceganError(f"{where} holds another run than that of process 0 (other options or data): {advice}")
    ahead = sorted(_progress(ours) - _progress(first), reverse=True)
    newest = {stage: step for stage, step in sorted(_progress(first))}
    beyond = [(stage, step) for stage, step in ahead if step > newest.get(stage, -1)]
    if beyond:
        stage, step = beyond[0]
        state = f"{stage}, finished," if step == FINISHED else f"{stage} at step {step}"
        raise FaceganError(
            f"{where} is further ({state} is missing in that of process 0): start with that machine as the first, or remove it there"
        )


FINISHED = 10**9  # as a step: beyond every checkpoint of its stage


def _progress(found: Inventory) -> set[tuple[str, int]]:
    """(stage, step) of all states."""
    states = set()
    for name, part in found.parts.items():
        kind, _, state = name.partition("/")
        if kind in WHOLE and checkpoint.METADATA in part:
            stage, _, step = state.rpartition("-")
            states.add((state, FINISHED) if kind == "stages" else (stage, int(step) if step.isdecimal() else 0))
    return states


def _wishes(found: Inventory) -> tuple[dict[str, Any], str]:
    """What a run was asked for, without what may differ between machines and sittings."""
    free = FREE_TO_CHANGE | {"data", "kimg", "epochs"}
    return {name: value for name, value in (found.config or {}).items() if name not in free}, found.fingerprint


def remove_others(first: Inventory, ours: Inventory, root: Path) -> None:
    """States, and rows, that the folder of process 0 does not have (any more)."""
    for name in ours.parts.keys() - first.parts.keys():
        if name.split("/")[0] in WHOLE:
            shutil.rmtree(root / name, ignore_errors=True)
        elif name == RunFolder(root).metrics.name:
            (root / name).unlink(missing_ok=True)


def write_part(root: Path, name: str, part: Part, blocks: Callable[[str, int], Iterable[bytes]]) -> None:
    """Put a part there, whole or not at all; `blocks(file, size)` gives the content.

    Raises FaceganError where the disk is full or read-only, or what came is not what was promised.
    """
    try:
        with written(root / name) as aside:
            for inner, (size, promised) in part.items():
                if inner:
                    (aside / inner).parent.mkdir(parents=True, exist_ok=True)
                with open(aside / inner if inner else aside, "wb") as handle:
                    found = _copied(blocks(inner, size), handle)
                if found != promised:
                    raise FaceganError(f"{root / name}: what process 0 sent is damaged; run the same command again")
    except OSError as error:
        raise FaceganError(f"`out={root}` cannot be written ({error}): make room or allow writing there") from error


def _copied(blocks: Iterable[bytes], handle: BinaryIO) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
        handle.write(block)
    handle.flush()
    os.fsync(handle.fileno())
    return found.hexdigest()
