"""The photos to be projected: files and folders, or faces of one attribute out of a labelled data set."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from facegan import randomness
from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces
from facegan.data.formats import IMAGE_LIMIT, is_image, open_image, told_masks, told_unread, unread, without_masks
from facegan.data.images import decode, on_white, reason
from facegan.data.sources import DirectorySource
from facegan.data.splits import split
from facegan.errors import FaceganError
from facegan.files import quoted, read_bytes

log = logging.getLogger("facegan.styles")

SMALLEST = 8  # pixels of the shorter side: in fewer there is no face


@dataclass(frozen=True, eq=False)
class Target:
    """A photo at the network's resolution."""

    name: str  # of the files to write
    source: str
    image: np.ndarray  # uint8 [3, R, R]
    place: Any = None  # the square of the photo that it was cut from, where that is not the central one

    @property
    def digest(self) -> str:
        """Of the pixels: what the photo's random numbers follow from, and what tells it from another one of its name."""
        return hashlib.sha256(self.image.tobytes()).hexdigest()[:16]


# (photo in RGB, how messages call it) -> the picture cut out of it, at the network's resolution, and its place; None: the central square
Cut = Callable[[Image.Image, str], "tuple[Image.Image, Any] | None"]


def read_photos(paths: Sequence[str], resolution: int, cut: Cut | None = None) -> tuple[list[Target], list[str]]:
    """The photos, and a sentence for each that cannot be used; of several with the same pixels one is kept.

    `cut`: what takes the face out of a photo, where that is not simply the central square; its FaceganErrors are such sentences.
    """
    photos: dict[str, Target] = {}
    problems, resized = [], []
    for file, _ in image_files(paths):
        try:
            photo, (width, height) = _read(file, resolution, cut)
        except _Refused as error:
            problems.append(str(error))
            continue
        except Exception as error:  # on bad bytes Pillow raises whatever its parsers trip over
            problems.append(f"{file} is no readable image ({reason(error)})")
            continue
        if photo.place is None and (width, height) != (resolution, resolution):
            resized.append(f"{file.name} ({width} x {height})")
        photos.setdefault(photo.digest, photo)
    if resized:
        more = f" and {len(resized) - 3} more" if len(resized) > 3 else ""
        log.info("cut to the central square and resized to the network's %d px: %s%s", resolution, ", ".join(resized[:3]), more)
    return _distinct(photos.values()), problems


class _Refused(FaceganError):
    """Of a picture that can be read, but not used: a whole sentence."""


def _read(file: Path, resolution: int, cut: Cut | None) -> tuple[Target, tuple[int, int]]:
    """A photo at the network's resolution, and the size of its file's picture."""
    data = read_bytes(file, IMAGE_LIMIT, "picture")
    with open_image(data) as opened:
        size = opened.size
    if min(size) < SMALLEST:
        raise _Refused(f"{file} has {size[0]} x {size[1]} pixels; expected a photo of at least {SMALLEST} x {SMALLEST}")
    if cut:
        whole = on_white(upright(data))
        try:
            found = cut(whole, str(file))
        except FaceganError as error:
            raise _Refused(str(error)) from error
        except Exception as error:
            raise _Refused(f"faces could not be looked for in {file} ({reason(error)})") from error
        if found:
            return Target(file.stem, str(file), np.ascontiguousarray(np.asarray(found[0]).transpose(2, 0, 1)), found[1]), size
    return Target(file.stem, str(file), decode(data, resolution)), size


def upright(source: bytes | Path) -> Image.Image:
    """A whole photo, turned as EXIF says, of the mode that it has; raises what `decode` raises."""
    with open_image(source) as opened:
        return ImageOps.exif_transpose(opened)


class ImageFile(NamedTuple):
    path: Path
    name: str  # without suffix, with the folders below the one that was named


def image_files(paths: Iterable[str]) -> list[ImageFile]:
    """The files named, and the images of the folders named; FaceganError for what is not there.

    What is left out of a folder, masks and files that look like pictures but are not read here, is counted and named in the log.
    """
    files: list[ImageFile] = []
    paths = list(paths)
    if "" in paths:
        raise FaceganError("a name is empty: expected a photo, or a folder of photos, such as . for the current one")
    for path in map(Path, paths):
        if path.is_dir():
            source = DirectorySource(path)
            found, masks = without_masks([name for name in source.names if is_image(name)])
            notes = [*told_masks(masks), *told_unread([*source.lost, *unread(source.names)])]
            if not found:
                raise FaceganError(f"{path} holds no images{''.join(f'; {note}' for note in notes)}; expected files such as .jpg and .png.")
            for note in notes:
                log.warning("%s: %s", path, note)
            files += [ImageFile(path / name, str(PurePosixPath(name).with_suffix(""))) for name in found]
        elif not os.path.lexists(path):
            raise FaceganError(f"{path} does not exist; expected a photo, or a folder of photos.")
        elif not str(path).isprintable():
            raise FaceganError(f"{quoted(str(path))} is no name that can be shown: it is not UTF-8, or has control characters; rename it")
        else:
            files.append(ImageFile(path, path.stem))
    return files


def _distinct(photos: Iterable[Target]) -> list[Target]:
    """With names that differ: those of other photos of the same file name get a piece of their digest."""
    photos = list(photos)
    names = [photo.name for photo in photos]
    return [photo if names.count(photo.name) == 1 else replace(photo, name=f"{photo.name}-{photo.digest[:6]}") for photo in photos]


def labelled_faces(
    data: str,
    attributes: str | Sequence[str],
    attribute: str,
    resolution: int,
    count: int,
    *,
    num: int,
    data_seed: int,
    seed: int,
    minimum: int,
) -> list[Target]:
    """`count` faces of X_k, those that carry `attribute` and none of the other `attributes`, of the generator's side of the split.

    `num`, `data_seed`: of synthetic faces; `seed`: which ones are picked; `minimum`: see `group`.
    """
    faces = open_faces(data, resolution, num=num, seed=data_seed)
    groups = group(faces.table, resolve(attributes, faces.table), minimum=minimum)
    names = [each.name for each in groups.attributes]
    [wanted] = [each.name for each in resolve(attribute, faces.table)] if "," not in attribute else [attribute]
    if wanted not in names:
        raise FaceganError(f"`attribute` is {attribute!r}; expected one of `attributes`, {', '.join(names)}")
    index = np.intersect1d(groups.only[names.index(wanted)], split(faces.identities, groups).train)
    if count > len(index):
        log.warning("%s has %d faces of %s alone: all are taken, `num` asks for %d", data, len(index), wanted, count)
    picked = np.sort(randomness.generator(seed, f"project/pick/{wanted}").permutation(index)[:count])
    ids = [faces.table.ids[i] for i in picked]
    return [Target(Path(id.replace("/", "_")).stem, f"{data}: {id}", faces.images[i]) for id, i in zip(ids, picked, strict=True)]
