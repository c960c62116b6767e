"""The run folder of every machine, made like that of process 0: nothing but the data must lie on all of them."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import torch

from facegan.checkpoints.mirror import Inventory, inventory, lacking, refuse_ahead, remove_others, write_part
from facegan.checkpoints.run import RunFolder
from facegan.errors import FaceganError
from facegan.files import sweep
from facegan.training.peers import Peers

log = logging.getLogger("facegan.train")
BLOCK = 16 << 20  # bytes sent at once
PATIENCE = 90.0  # seconds for a network file system to show what another machine has written; attributes are cached for up to 60


class SharedFolder:
    """One run's folder, on one machine or several; every process makes one."""

    def __init__(self, folder: RunFolder, peers: Peers, device: torch.device) -> None:
        self.folder, self.peers, self.device = folder, peers, device
        self.machines = peers.gather(str(peers.local_main)).count("True")
        self._looked = False

    def share(self) -> None:
        """Makes all folders alike; every process calls it. Where machines share the folder, waits until all see what is there.

        Raises FaceganError where a folder holds something that would be lost.
        """
        if self.machines == 1:
            self.peers.wait()
            return
        apart = self._apart()
        mine = _dumped(inventory(self.folder.root, digests=any(apart))) if self.peers.rank == 0 else ""
        first = _loaded(self.peers.gather(mine)[0])
        mirrors = self.peers.local_main and self.peers.rank > 0 and apart[self.peers.rank]
        ours = inventory(self.folder.root) if mirrors else first
        if mirrors and not self._looked:
            for parent in (self.folder.checkpoints, self.folder.stages):
                sweep(parent, alone=True)
            refuse_ahead(first, ours, self.folder.root, self.peers.called)
        self._looked = True
        needs = lacking(first, ours)
        asked: set[str] = {name for each in self.peers.gather(json.dumps(needs)) for name in json.loads(each)}
        if mirrors:
            remove_others(first, ours, self.folder.root)
        for name in sorted(asked, key=list(first.parts).index):
            self._send(name, first, take=mirrors and name in needs)
        if any(apart):
            size = sum(size for name in asked for size, _ in first.parts[name].values())
            if asked and self.peers.rank == 0:
                log.info("sent %d parts of %s, %.1f MB, to the other machines", len(asked), self.folder.root, size / 1e6)
        elif self.peers.local_main:
            self._see(first)
        self.peers.wait()

    def _apart(self) -> list[bool]:
        """By rank: whether a process sees another folder than process 0, by a file that this one leaves there for a moment."""
        token = self.folder.root / f".seen-{uuid.uuid4().hex}"
        main, there = self.peers.rank == 0, self.folder.root.is_dir()
        if main and there:
            token.touch()
        named = self.peers.gather(str(int(there)) + token.name)[0]
        apart = named[0] == "0" or not (self.folder.root / named[1:]).exists()
        found = [each == "1" for each in self.peers.gather(str(int(apart and not main)))]
        if main:
            token.unlink(missing_ok=True)
        return found

    def _send(self, name: str, first: Inventory, take: bool) -> None:
        """One part from process 0 to all; those that do not `take` it let it pass."""
        part = first.parts[name]
        if take:
            write_part(self.folder.root, name, part, lambda inner, size: self._blocks(name, inner, size))
        else:
            for inner, (size, _) in part.items():
                for _ in self._blocks(name, inner, size):
                    pass

    def _blocks(self, name: str, inner: str, size: int) -> Iterator[bytes]:
        handle = open(self.folder.root / name / inner if inner else self.folder.root / name, "rb") if self.peers.rank == 0 else None
        for start in range(0, size, BLOCK):
            length = min(BLOCK, size - start)
            content = bytearray(handle.read(length) if handle else bytes(length))
            if len(content) != length:
                raise FaceganError(f"{self.folder.root / name} has become shorter while it was sent: does another process write there?")
            tensor = torch.frombuffer(content, dtype=torch.uint8).to(self.device)
            torch.distributed.broadcast(tensor, 0)
            yield tensor.cpu().numpy().tobytes()
        if handle:
            handle.close()

    def _see(self, first: Inventory) -> None:
        """Waits until the shared folder shows here what process 0 sees."""
        until = time.monotonic() + PATIENCE
        files = {Path(self.folder.root, name, inner): size for name, part in first.parts.items() for inner, (size, _) in part.items()}
        while True:
            wrong = next((file for file, size in files.items() if not _has(file, size)), None)
            if wrong is None:
                return
            if time.monotonic() > until:
                raise FaceganError(f"{wrong} of process 0 is not to be seen on {self.peers.called} after {PATIENCE:g} seconds")
            time.sleep(0.2)
            os.listdir(wrong.parent if wrong.parent.is_dir() else self.folder.root)  # has NFS ask again


def _has(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _dumped(found: Inventory) -> str:
    return json.dumps([found.parts, found.config, found.fingerprint])


def _loaded(text: str) -> Inventory:
    parts, config, fingerprint = json.loads(text)
    return Inventory(
        {name: {inner: (size, sha) for inner, (size, sha) in part.items()} for name, part in parts.items()}, config, fingerprint
    )
