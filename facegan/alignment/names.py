"""Which photos are looked at, and what their faces are called."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facegan.data.formats import is_image
from facegan.data.photos import image_files
from facegan.errors import FaceganError

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
LONGEST = 200  # bytes of a photo's name that its faces keep: file systems allow 255, of which some are for what is added
_NUMBERED = re.compile(r"\.face\d+$")


class Job(NamedTuple):
    """A photo, and what its largest face is called, without suffix."""

    path: Path
    name: str


def find_photos(paths: Sequence[str], out: Path) -> list[Job]:
    """The photos named, but for what is in `out`; of several folders, each below its own name."""
    folders = [path for path in paths if Path(path).is_dir()]
    archives = [path for path in paths if path not in folders and Path(path).suffix.lower() in ARCHIVES]
    if archives:
        raise FaceganError(f"{archives[0]} is an archive: unpack it, and name its folder")
    jobs = []
    for path in paths:
        own = Path(path).resolve().name.lstrip(".") or "photos"  # a drive has no name, and what is hidden is no data
        below = f"{own}/" if len(folders) > 1 and path in folders else ""
        jobs += [Job(file, below + name) for file, name in image_files([path])]
    jobs = list({job.path.resolve(): job for job in jobs if out.resolve() not in job.path.resolve().parents}.values())
    if not jobs:
        raise FaceganError(f"{', '.join(paths)[:200]}: all pictures there are in `out={out}`; name a folder of photos")
    return jobs


def named(jobs: Sequence[Job], taken: dict[str, str]) -> list[Job]:
    """With names that differ, whatever the case of letters, that no second face of a photo has, nor, in `taken`, a face of another, nor a
    sheet, and that files can have."""
    count = Counter(job.name.casefold() for job in jobs)

    def unique(job: Job) -> Job:
        path, (folder, slash, last) = str(job.path.resolve()), job.name.rpartition("/")
        file, fit = file_of(job.name, 0), last.lstrip(".") or "photo"  # what is hidden is no data
        while len(os.fsencode(fit)) > LONGEST:
            fit = fit[:-1]
        alone = count[job.name.casefold()] == 1 and not _NUMBERED.search(job.name) and taken.get(file, path) == path
        if alone and fit == last and is_image(file):
            return job
        return job._replace(name=f"{folder}{slash}{fit}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}")

    return list(map(unique, jobs))


def file_of(name: str, number: int) -> str:
    """NAME.png of a photo's largest face, NAME.face2.png of the next."""
    return f"{name}.face{number + 1}.png" if number else f"{name}.png"
