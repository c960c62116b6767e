"""Visitors: what each has kept, and a folder for what was made; all of it small, bounded, and gone with the server."""

from __future__ import annotations

import atexit
import contextlib
import re
import shutil
import tempfile
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from facegan.app.turns import Job, Turns
from facegan.errors import FaceganError
from facegan.memory import give_back

MOST_SESSIONS = 100  # of those that nobody works in the oldest go
MOST_KEPT = 64  # faces
MOST_CACHED = 256 << 20  # bytes of copies that the page has shown or was sent
GIVES_BACK = 50  # requests
YOUNG = 120.0  # seconds in which a visitor may still ask for a copy


@dataclass
class Session:
    """One visitor's page."""

    folder: Path
    turns: Turns
    kept: list[tuple[str, int]] = field(default_factory=list)  # network, seed
    truncation: float | None = None  # of the face kept last, until the tab Mix has been told
    styles: dict[tuple[str, str], Path] = field(default_factory=dict)  # projected photos: network, name -> .npz
    recipes: dict[str, Path] = field(default_factory=dict)  # network -> the recipe that a search found
    made: Any = None  # the faces generated last: what a click on one means
    shown: Any = None  # what was made last, for the judge
    photo: Path | None = None  # that was uploaded last
    found: Any = None  # the face in it, and what it was looked for in
    projected: Any = None  # how, and the folder of its projection
    edited: Any = None  # the options of its edit
    jobs: dict[tuple[str, str], Job] = field(default_factory=dict)  # what runs, by tab and kind of work
    used: float = field(default_factory=time.monotonic)

    def fresh(self, name: str) -> Path:
        """An empty folder of this name; what was in it is gone."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    def inside(self, name: str) -> Path:
        """A folder that stays."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def keep(self, network: str, seed: int) -> bool:
        """Keep a face; False if it was, and is let go of."""
        if (network, seed) in self.kept:
            self.kept.remove((network, seed))
            return False
        if len(self.kept) >= MOST_KEPT:
            raise FaceganError(f"{MOST_KEPT} faces are kept already: let go of some first")
        self.kept.append((network, seed))
        return True

    @contextlib.contextmanager
    def job(self, tab: str, work: str = "") -> Iterator[Job]:
        """A new job of a tab, which `stop` reaches. The same work that ran before is called off: the latest request counts.

        Other work of the tab goes on: a picture that follows a control may be asked for while a video is made.
        """
        self.stop(tab, work)
        job = self.jobs[tab, work] = Job(self.turns)
        try:
            yield job
        finally:
            if self.jobs.get((tab, work)) is job:
                del self.jobs[tab, work]

    def works(self, tab: str) -> bool:
        """Whether anything runs for a tab."""
        return any(of == tab for of, _ in list(self.jobs))

    def stop(self, tab: str, work: str | None = None) -> bool:
        """Call off what a tab is doing, all of it or one kind of work; whether there was anything."""
        jobs = [job for (of, kind), job in list(self.jobs.items()) if of == tab and work in (None, kind)]
        for job in jobs:
            job.stop()
        return bool(jobs)

    def close(self) -> None:
        """Stop everything, remove everything."""
        for job in list(self.jobs.values()):
            job.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All visitors, by the names that Gradio gives them."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="facegan-app-")).resolve()
        self.cache = self.root / "cache"  # Gradio's: uploads, and copies of what was shown
        self.cache.mkdir()
        self.turns = Turns()
        self._all: OrderedDict[str, Session] = OrderedDict()
        self._asked = 0
        self._lock = threading.Lock()
        atexit.register(shutil.rmtree, self.root, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._all)

    def of(self, name: str | None) -> Session:
        """The visitor's session, a new one for a new visitor."""
        key = name or "nobody"
        with self._lock:
            if key not in self._all:
                folder = Path(tempfile.mkdtemp(prefix="visitor-", dir=self.root))
                self._all[key] = Session(folder, self.turns)
            self._all.move_to_end(key)
            session = self._all[key]
            session.used = time.monotonic()
            idle = [other for other, each in self._all.items() if not each.jobs and other != key]
            gone = [self._all.pop(other) for other in idle[: max(0, len(self._all) - MOST_SESSIONS)]]
        for each in gone:
            each.close()
        return session

    def close(self, name: str | None) -> None:
        """The visitor has left."""
        with self._lock:
            session = self._all.pop(name or "nobody", None)
        if session:
            session.close()

    def end(self) -> None:
        """The server has ended."""
        with self._lock:
            gone, self._all = list(self._all.values()), OrderedDict()
        for session in gone:
            session.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def tidy(self) -> None:
        """Remove the oldest copies beyond MOST_CACHED, but none that a page may just be loading; now and then give back free memory."""
        self._asked += 1
        if self._asked % GIVES_BACK == 0:
            give_back()
        files = []
        for path in self.cache.rglob("*"):
            with contextlib.suppress(OSError):  # another one tidies up too
                if path.is_file():
                    files.append((path.stat().st_mtime, path.stat().st_size, path))
        total, now = sum(size for _, size, _ in files), time.time()
        for changed, size, path in sorted(files):
            if total <= MOST_CACHED or now - changed < YOUNG:
                return
            path.unlink(missing_ok=True)
            total -= size


def zipped(folder: Path, target: Path, left_out: Sequence[str] = ()) -> Path:
    """All files of a folder but for those of some patterns in one archive, without the folder's name; pictures are packed already."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in (".*", *left_out)):
                archive.write(path, path.relative_to(folder))
    return target


def file_name(text: str, otherwise: str = "photo") -> str:
    """What a visitor's file is called here: its name without folders and odd characters, which a command line could quote."""
    name = Path(text.replace("\\", "/")).name
    stem, suffix = Path(name).stem, Path(name).suffix
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:80]
    return (stem or otherwise) + re.sub(r"[^\w.]+", "", suffix)[:10]
