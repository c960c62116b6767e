"""Folders that one process at a time writes into: a lock that dies with its process, and that says whose it is.

It is `flock(2)` on OUT/.lock. Linux carries it over NFS (as a lock of the whole file, since 2.6.12; the server gives up those of a machine
that is gone); a file system without locks is warned of. Who gives the lock back removes the file first, so whoever takes it looks whether
the file that it locked is still the one in the folder. A killed process leaves the file, which the next one signs.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facegan.errors import FaceganError
from facegan.files import quoted, sweep

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("facegan.locks")

NAME = ".lock"
_LONGEST = 1 << 16  # bytes of the file
_COMMAND = 200  # characters of a command that are shown


class FolderLock:
    """The right to write into a folder, held from here to `release`, or until this process ends however it does."""

    def __init__(self, folder: Path, option: str = "out") -> None:
        """Take the lock.

        Raises:
            FaceganError: another process has it.
            OSError: the folder cannot be written.
        """
        self.path = folder / NAME
        self._descriptor: int | None = self._opened(f"`{option}={folder}`")

    def _opened(self, where: str) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise FaceganError(f"{where} is in use{holder}: wait until it has ended, or stop it, or name another folder") from None
            except OSError as error:
                log.warning("%s: no locks on this file system (%s): see to it that no second command writes there", where, error)
            if self._is_there(descriptor):
                self._sign(descriptor)
                return descriptor
            os.close(descriptor)  # the folder was removed, and made anew, meanwhile

    def _is_there(self, descriptor: int) -> bool:
        """Whether the file that is locked is the one that others would open."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    @staticmethod
    def _sign(descriptor: int) -> None:
        command = shlex.join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        note = json.dumps({"process": os.getpid(), "machine": platform.node(), "since": since, "command": command[: _LONGEST // 8]})
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
        except OSError:  # a full disk: the lock holds without its note
            pass

    @property
    def descriptor(self) -> int:
        """For children that are to inherit the lock."""
        assert self._descriptor is not None
        return self._descriptor

    def release(self, inherited: bool = False) -> None:
        """Give it back; `inherited`: children that live hold it on."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            if not inherited:
                self.path.unlink(missing_ok=True)
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_UN)  # for processes too that were forked meanwhile
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.release()


def _holder(descriptor: int) -> str:
    """Who signed the file, as part of a sentence; nothing where that cannot be read."""
    try:
        note = json.loads(os.pread(descriptor, _LONGEST, 0))
        command = quoted(str(note["command"]), _COMMAND).replace("`", "'")
        return f" by process {int(note['process'])} on {quoted(str(note['machine']))}, since {quoted(str(note['since']))} ({command})"
    except (OSError, ValueError, LookupError, TypeError):
        return " by another process"


@contextmanager
def held(folder: Path, option: str = "out", inherited: bool = False, deep: bool = False) -> Iterator[FolderLock]:
    """Make the folder where there is none, hold its lock, and remove what killed writers left in it; what fails leaves no empty folder.

    Args:
        option: the field that names the folder, for the refusal.
        inherited: see `FolderLock.release`.
        deep: whether folders within are written too.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder, option)
    try:
        for within, _, _ in os.walk(folder) if deep else [(folder, (), ())]:
            sweep(Path(within))
        yield lock
    finally:
        lock.release(inherited)
        if new and folder.is_dir() and not os.listdir(folder):
            folder.rmdir()
