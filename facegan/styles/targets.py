"""The photos to be projected: files and folders, or faces of one attribute out of a labelled data set."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces
from facegan.data.images import SUFFIXES, decode
from facegan.data.sources import DirectorySource
from facegan.data.splits import split
from facegan.errors import FaceganError
from facegan.training import randomness

log = logging.getLogger("facegan.styles")

SMALLEST = 8  # pixels of the shorter side: in fewer there is no face


@dataclass(frozen=True, eq=False)
class Target:
    """A photo at the network's resolution."""

    name: str  # of the files to write
    source: str
    image: np.ndarray  # uint8 [3, R, R]

    @property
    def digest(self) -> str:
        """Of the pixels: what the photo's random numbers follow from, and what tells it from another one of its name."""
        return hashlib.sha256(self.image.tobytes()).hexdigest()[:16]


def read_photos(paths: Sequence[str], resolution: int) -> tuple[list[Target], list[str]]:
    """The photos, and a sentence for each that cannot be used; of several with the same pixels one is kept."""
    photos: dict[str, Target] = {}
    problems, resized = [], []
    for file in image_files(paths):
        try:
            data = file.read_bytes()
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
            if min(width, height) < SMALLEST:
                problems.append(f"{file} has {width} x {height} pixels; expected a photo of at least {SMALLEST} x {SMALLEST}")
                continue
            photo = Target(file.stem, str(file), decode(data, resolution))
        except Exception as error:  # on bad bytes Pillow raises whatever its parsers trip over
            problems.append(f"{file} is no readable image ({type(error).__name__})")
            continue
        if (width, height) != (resolution, resolution):
            resized.append(f"{file.name} ({width} x {height})")
        photos.setdefault(photo.digest, photo)
    if resized:
        more = f" and {len(resized) - 3} more" if len(resized) > 3 else ""
        log.info("cut to the central square and resized to the network's %d px: %s%s", resolution, ", ".join(resized[:3]), more)
    return _distinct(photos.values()), problems


def image_files(paths: Iterable[str]) -> list[Path]:
    """The files named, and the images of the folders named; FaceganError for what is not there."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = [path / name for name in DirectorySource(path).names if Path(name).suffix.lower() in SUFFIXES]
            if not found:
                raise FaceganError(f"{path} holds no images; expected files such as .jpg and .png.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise FaceganError(f"{path} does not exist; expected a photo, or a folder of photos.")
    return files


def _distinct(photos: Iterable[Target]) -> list[Target]:
    """With names that differ: those of other photos of the same file name get a piece of their digest."""
    photos = list(photos)
    names = [photo.name for photo in photos]
    return [
        photo if names.count(photo.name) == 1 else Target(f"{photo.name}-{photo.digest[:6]}", photo.source, photo.image) for photo in photos
    ]


def labelled_faces(
    data: str, attributes: str, attribute: str, resolution: int, count: int, *, num: int, data_seed: int, seed: int, minimum: int
) -> list[Target]:
    """`count` faces of X_k, those that carry `attribute` and none of the other `attributes`, of the generator's side of the split.

    `num`, `data_seed`: of drawn faces; `seed`: which ones are picked; `minimum`: see `group`.
    """
    faces = open_faces(data, resolution, num=num, seed=data_seed)
    groups = group(faces.table, resolve(attributes, faces.table), minimum=minimum)
    names = [each.name for each in groups.attributes]
    [wanted] = [each.name for each in resolve(attribute, faces.table)] if "," not in attribute else [attribute]
    if wanted not in names:
        raise FaceganError(f"--attribute is {attribute!r}; expected one of --attributes, {', '.join(names)}")
    index = np.intersect1d(groups.only[names.index(wanted)], split(faces.identities, groups).train)
    if count > len(index):
        log.warning("%s has %d faces of %s alone: all are taken, --num asks for %d", data, len(index), wanted, count)
    picked = np.sort(randomness.generator(seed, f"project/pick/{wanted}").permutation(index)[:count])
    ids = [faces.table.ids[i] for i in picked]
    return [Target(Path(id.replace("/", "_")).stem, f"{data}: {id}", faces.images[i]) for id, i in zip(ids, picked, strict=True)]
