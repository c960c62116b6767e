"""Photographs as they come from cameras and phones: upright, in RGB, and read within bounds of memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from facegan.data.formats import open_image
from facegan.data.images import on_white, reason
from facegan.errors import FaceganError

SMALLEST = 16  # pixels of the shorter side: in fewer nobody is to be recognised
LARGEST = 256_000_000  # pixels of a JPEG, which is decoded at a half or a quarter where it has more than ...
DECODED = 24_000_000  # ... so many
UNPACKED = 64_000_000  # pixels of the other formats, which are decoded whole


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, upright by EXIF; a transparent one on white."""

    image: Image.Image  # RGB
    scale: float  # pixels of the file a pixel of the image


def read_photo(path: Path) -> Photo:
    """Read a photograph. FaceganError with the reason where it cannot be used, whatever is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limits
            opened = open_image(path)
        with opened:
            return photo_of(opened)
    except Exception as error:
        raise _refusal(error) from None


def photo_from(picture: Image.Image) -> Photo:
    """A picture in memory, or one that was opened, as a photograph. FaceganError as `read_photo`."""
    try:
        return photo_of(picture)
    except Exception as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> FaceganError:
    """On bad bytes Pillow raises whatever its parsers trip over."""
    if isinstance(error, FaceganError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return FaceganError(f"more than {LARGEST // 10**6} million pixels: cut out a part")
    return FaceganError(f"no readable image ({reason(error)})")


def photo_of(opened: Image.Image) -> Photo:
    """An opened picture as a photograph; raises as `read_photo`, and what Pillow raises on bad data."""
    (width, height), jpeg = opened.size, opened.format in ("JPEG", "MPO")
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":  # a phone's photo, whose further pictures are its own previews
        raise FaceganError(f"an animation of {frames} pictures: save the one that you want")
    if opened.mode == "CMYK":
        raise FaceganError("in CMYK, the inks of a printer: convert it to RGB first, by its colour profile")
    if width * height > (LARGEST if jpeg else UNPACKED):
        raise FaceganError(f"{width} x {height}, more than {(LARGEST if jpeg else UNPACKED) // 10**6} million pixels: cut out a part")
    if min(width, height) < SMALLEST:
        raise FaceganError(f"{width} x {height} pixels, expected at least {SMALLEST} x {SMALLEST}")
    divisor = 1
    while width * height / divisor**2 > DECODED and divisor < 8:
        divisor *= 2
    if divisor > 1:
        opened.draft(None, (width // divisor, height // divisor))
    image = on_white(ImageOps.exif_transpose(opened))
    return Photo(image, max(width, height) / max(image.size))
