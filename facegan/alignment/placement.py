"""Whether faces are where FFHQ has them, and the largest face of a photograph, cut out as FFHQ's are."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from facegan.alignment import detector
from facegan.alignment.geometry import Square, central, crop, square_of
from facegan.errors import FaceganError

log = logging.getLogger("facegan.align")

# CelebA's own faces, in their central square, have sides 0.83 to 1.18 times as long as FFHQ would give them, centres up to 0.08 of the side
# off and rolls up to 4 degrees; CelebA-HQ's 0.97 to 1.09, 0.01 and 2.4 (200 and 12 of them, by the detector's landmarks).
SMALLER, LARGER = 0.75, 1.33  # of FFHQ's square, as a share of the picture's
OFF = 0.12  # of its centre, as a share of the picture's side
ROLL = 10.0  # degrees

LEAST = 48  # pixels: in smaller pictures eyes are not to be told apart well enough
SEEN = 32  # pictures that are looked at to say whether a data set is aligned
SIDE = 128  # pixels that are enough for that
SMALLEST = 0.3  # side of the faces looked for in a picture of one, as a share of its own
COMMAND = "`facegan data align PHOTOS --out DIR` makes faces that are where FFHQ has them"

SHOWN = 3  # photos that a message names

Align = Literal["auto", "on", "off"]


def misplaced(landmarks: np.ndarray, width: int, height: int) -> str:
    """How the face of a picture, in its central square, differs from what FFHQ's square would show, in words; "" if it hardly does."""
    frame, square = central(width, height), square_of(landmarks)
    away = (np.array(square.centre) - frame.centre) / frame.side
    ratio, found = square.side / frame.side, []
    if abs(square.roll) > ROLL:
        found.append(f"turned by {abs(square.roll):.0f} degrees")
    if not SMALLER <= ratio <= LARGER:
        found.append(f"{1 / ratio:.1f} times too small" if ratio < 1 else f"{ratio:.1f} times too large")
    if math.hypot(*away) > OFF:
        sides = [
            words[int(share > 0)] for share, words in zip(away, (("left", "right"), ("up", "down")), strict=True) if abs(share) > OFF / 2
        ]
        found.append(f"{math.hypot(*away):.0%} of the side off the middle ({' and '.join(sides)})")
    return ", ".join(found)


def warn_of_misplaced(pictures: Sequence[tuple[str, Image.Image | np.ndarray]], share: float = 0.0) -> None:
    """One warning, where more than `share` of the faces that are found in pictures of one face each are elsewhere than FFHQ has them.

    `pictures`: names, and pictures or their pixels uint8 [3, H, W]. At most SEEN are looked at, spread over all; none where
    `facegan[align]` is not installed. Whatever fails here is no reason to stop.
    """
    try:
        if not detector.available():
            return
        chosen = sorted({round(i) for i in np.linspace(0, len(pictures) - 1, SEEN)}) if pictures else []
        looked = [(pictures[i][0], reduced(pictures[i][1])) for i in chosen]
        looked = [(name, picture) for name, picture in looked if min(picture.size) >= LEAST]
        if not looked:
            return
        find = detector.Detector("cpu")  # leaves the accelerator to those whose work this precedes
        found = find([picture for _, picture in looked], SMALLEST * min(min(picture.size) for _, picture in looked))
        seen = [(name, picture, faces[0]) for (name, picture), faces in zip(looked, found, strict=True) if faces]
        told = [(name, misplaced(face.landmarks, *picture.size)) for name, picture, face in seen]
        wrong = [(name, words) for name, words in told if words]
    except Exception as error:
        log.info("whether faces are aligned was not found out (%s: %s)", type(error).__name__, error)
        return
    if wrong and len(wrong) > share * len(told):
        many = f"{len(wrong)} of {len(told)} faces looked at are" if len(told) > 1 else "the face is"
        name, words = wrong[0]
        log.warning("%s not where FFHQ has faces, and networks do worse with such: %s is %s; %s", many, name, words, COMMAND)


class Looked:
    """The first pictures of many, kept small, until all are there and it can be said whether their faces are aligned."""

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.pictures: list[tuple[str, Image.Image | np.ndarray]] = []

    def add(self, name: str, picture: Image.Image) -> None:
        """One more, where it still counts."""
        if len(self.pictures) < self.count and detector.available():
            self.pictures.append((name, reduced(picture)))

    def warn(self) -> None:
        """See `warn_of_misplaced`."""
        warn_of_misplaced(self.pictures)


def reduced(picture: Image.Image | np.ndarray) -> Image.Image:
    """In RGB, its shorter side of at most SIDE pixels."""
    image = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))) if isinstance(picture, np.ndarray) else picture.convert("RGB")
    scale = SIDE / min(image.size)
    if scale >= 1:
        return image
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC, reducing_gap=2.0)


class Cutter:
    """Cuts the largest face out of photos, and tells in the end what it did."""

    def __init__(self, align: Align, resolution: int) -> None:
        """`resolution`: pixels of the faces. FaceganError where `facegan[align]` is not installed."""
        self.align, self.resolution = align, resolution
        self.find = detector.Detector("cpu")  # the pixels, by which a photo is known again, must not depend on the device
        self.cut: list[str] = []
        self.faceless: list[str] = []

    def __call__(self, photo: Image.Image, source: str) -> tuple[Image.Image, Square] | None:
        """The face of an RGB photo and its place; None where the central square is to be taken: no face, or one that has its place there.

        FaceganError for a photo without a face if `align` is on.
        """
        faces = self.faces(photo)
        if not faces and self.align == "on":
            raise FaceganError(f"{source} shows no face that was found: expected a photo of one, or `align=off` to take its central square")
        if not faces:
            self.faceless.append(source)
            return None
        if self.align == "auto" and not misplaced(faces[0].landmarks, *photo.size):
            return None
        square = _rounded(square_of(faces[0].landmarks))
        turn = f", turned by {square.roll:.0f} degrees" if abs(square.roll) >= 1 else ""
        more = f", the largest of {len(faces)}" if len(faces) > 1 else ""
        self.cut.append(f"{source} ({square.side:.0f} px of {photo.width} x {photo.height}{turn}{more})")
        return crop(photo, square, self.resolution), square

    def faces(self, photo: Image.Image) -> list[detector.Detection]:
        """Those of a photo, largest first: large ones, which are found at once, or else small ones."""
        if min(photo.size) < LEAST:
            return []
        for smallest in (min(photo.size) / 4, smallest_of(photo)):
            [faces] = self.find([photo], smallest)
            if faces:
                return faces
        return []

    def tell(self) -> None:
        """In the log."""
        for words, photos in (("face cut out as FFHQ's are", self.cut), ("no face found, the central square taken", self.faceless)):
            if photos:
                more = f" and {len(photos) - SHOWN} more" if len(photos) > SHOWN else ""
                log.info("%s: %s%s", words, ", ".join(photos[:SHOWN]), more)


def cutter(align: Align, resolution: int) -> Cutter | None:
    """What cuts faces out of photos; None where they are not to be looked for, or cannot be and that is left open (`auto`)."""
    return None if align == "off" or (align == "auto" and not detector.available()) else Cutter(align, resolution)


def _rounded(square: Square) -> Square:
    """To sixteenths of a pixel, so that the last bits of a detector make no other picture."""
    x, y, right, down = (round(16 * number) / 16 for number in (*square.centre, *square.half))
    return Square((x, y), (right, down))


def smallest_of(photo: Image.Image) -> float:
    """Side in pixels of the smallest faces worth looking for in a photograph: a thirtieth of it, at least 40."""
    return max(40.0, max(photo.size) / 30)
