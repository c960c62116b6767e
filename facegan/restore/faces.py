"""The faces and photographs to be restored: files and folders, each looked at before it is trusted, or the faces of a trained run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image, ImageOps

from facegan.alignment import detector
from facegan.alignment.geometry import with_alpha
from facegan.checkpoints.trained import TrainedRun
from facegan.data.formats import open_image
from facegan.data.images import on_white, reason, square
from facegan.data.photos import ImageFile
from facegan.errors import FaceganError
from facegan.plotting.sheets import to_pil

SMALLEST = 16  # pixels: in fewer nobody is to be recognised
LARGEST = 64_000_000  # pixels: more is a photograph or a map, and no cut-out face
WIDEST = 1.4  # longer side by shorter one: beyond, it is no portrait of one face

Photographs = Literal["none", "wide", "all"]  # which pictures are photographs of any number of faces: those wider than WIDEST, or all


@dataclass(frozen=True, eq=False)
class Face:
    name: str  # of the file to write, without suffix, with the folders below that of the results
    source: str
    image: Image.Image  # square, RGB, on white where it is transparent
    alpha: Image.Image | None = None  # square, L: how opaque it is, where it says so


@dataclass(frozen=True, eq=False)
class Photograph:
    """Of any number of faces, which are to be found."""

    name: str
    source: str
    image: Image.Image  # upright, RGB or RGBA


@dataclass(frozen=True)
class Problem:
    """Why something is no face that can be restored, in one sentence."""

    sentence: str


def read_faces(files: Iterable[ImageFile], photographs: Photographs = "none") -> Iterator[Face | Photograph | Problem]:
    """One after the other, as they are asked for."""
    for file, name in files:
        try:
            yield _read(file, name, photographs)
        except FaceganError as error:
            yield Problem(str(error))
        except Image.DecompressionBombError:
            yield Problem(f"{file} has far too many pixels; expected at most {LARGEST // 10**6} million: cut out the face")
        except Exception as error:  # on bad bytes Pillow raises whatever its parsers trip over
            yield Problem(f"{file} is no readable image ({reason(error)})")


def _read(file: Path, name: str, photographs: Photographs) -> Face | Photograph | Problem:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        opened = open_image(file)
    with opened:
        return face_of(opened, name, str(file), photographs)


def face_of(opened: Image.Image, name: str, source: str, photographs: Photographs = "none") -> Face | Photograph | Problem:
    """A picture as a face or photograph; `name`: of the file to write, `source`: how messages call it."""
    width, height = opened.size
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":  # a phone's photo, whose further pictures are its own previews
        return Problem(f"{source} is an animation of {frames} pictures; expected one: save the one that you want")
    if opened.mode == "CMYK":
        return Problem(f"{source} is in CMYK, the inks of a printer; expected RGB: convert it first, by its colour profile")
    if width * height > LARGEST:
        return Problem(f"{source} has {width} x {height} pixels; expected at most {LARGEST // 10**6} million: cut out the face")
    if min(width, height) < SMALLEST:
        return Problem(f"{source} has {width} x {height} pixels; expected at least {SMALLEST} x {SMALLEST}")
    wide = max(width, height) > WIDEST * min(width, height)
    if photographs == "all" or (wide and photographs == "wide"):
        return Photograph(name, source, with_alpha(ImageOps.exif_transpose(opened)))
    if wide:
        each = "each of its faces is found and restored"
        return Problem(
            f"{source} is {width} x {height}, the shape of a whole photograph; expected one face, cut out and about as wide as high; "
            + (f"with `faces=all` {each}" if detector.available() else f"{each} after pip install 'facegan[align]'")
        )
    image = square(opened)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    return Face(name, source, on_white(image), alpha)


def generated_faces(run: str, num: int, batch: int, device: torch.device) -> Iterator[Face]:
    """A trained run's faces of the seeds 0, 1, ..., as `facegan generate` writes them."""
    trained = TrainedRun(run, device=device)
    for start in range(0, num, batch):
        seeds = range(start, min(start + batch, num))
        for seed, image in zip(seeds, trained.faces(seeds), strict=True):
            yield Face(f"seed{seed:04d}", f"{run}: seed {seed}", to_pil(image))
