"""Whole photographs: enlarged, and every face found in them restored as FFHQ would have it, and put back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageFilter

from facegan.alignment import detector
from facegan.alignment.geometry import Square, crop, paste_into, square_of
from facegan.alignment.placement import smallest_of
from facegan.data.images import on_white, square
from facegan.restore.faces import Photograph, Problem

LARGEST = 256_000_000  # pixels of a result
SHARPENING = ImageFilter.UnsharpMask(radius=1, percent=60, threshold=2)
log = logging.getLogger("facegan.restore")

Pair = tuple[Image.Image, Image.Image]  # a face before and after


def too_large(photo: Photograph, scale: int) -> Problem | None:
    """Of what cannot be held."""
    width, height = (side * scale for side in photo.image.size)
    if width * height <= LARGEST:
        return None
    limit = LARGEST // 10**6
    return Problem(f"{photo.source} would become {width} x {height} pixels; expected at most {limit} million: shrink it first")


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)


def sharpened(image: Image.Image) -> Image.Image:
    """Of RGB or RGBA, whose alpha stays."""
    if image.mode == "RGB":
        return image.filter(SHARPENING)
    return Image.merge("RGBA", (*image.convert("RGB").filter(SHARPENING).split(), image.getchannel("A")))


def middle(before: Image.Image, after: Image.Image) -> Pair:
    """What the sheet shows of a photograph without faces."""
    return on_white(square(before)), on_white(square(after))


class FacesOfPhotographs:
    """Finds the faces of photographs, restores them, and puts what changed back into the enlarged photograph."""

    def __init__(
        self, restore: Callable[[Sequence[Image.Image]], Sequence[Image.Image]], resolution: int, scale: int, device: torch.device
    ) -> None:
        """`restore`: RGB pictures [R, R], R = `resolution`, to such; FaceganError where `facegan[align]` is not installed."""
        self.restore, self.resolution, self.scale = restore, resolution, scale
        self.find = detector.Detector(device)
        self.warned = False

    def __call__(self, photo: Photograph, batch: int = 8) -> tuple[Image.Image, list[Pair]]:
        """The restored photograph, RGB or RGBA, and its faces."""
        seen = on_white(photo.image)
        [faces] = self.find([seen], smallest_of(seen))
        squares = [square_of(face.landmarks) for face in faces]
        result = enlarged(photo.image, self.scale)
        if not squares:
            log.warning("no face was found in %s: it is enlarged %d times as it is", photo.source, self.scale)
            return result, [middle(photo.image, result)]
        sides = sorted(each.side for each in squares)
        if sides[-1] > self.resolution and not self.warned:
            self.warned = True
            told = "%s has a face of %.0f px: it is restored at %d px, and keeps its own detail beyond"
            log.warning(told, photo.source, sides[-1], self.resolution)
        log.info("%s: %d face(s) of %.0f to %.0f px", photo.source, len(sides), sides[0], sides[-1])
        pairs: list[Pair] = []
        for start in range(0, len(squares), batch):
            part = squares[start : start + batch]
            before = [crop(seen, each, self.resolution) for each in part]
            for place, old, new in zip(part, before, self.restore(before), strict=True):
                paste_into(
                    result, old, new, place.scaled(self.scale), others=[each.scaled(self.scale) for each in squares if each is not place]
                )
                pairs.append((self._seen(seen, place, old), new))
        return result, pairs

    def _seen(self, photo: Image.Image, place: Square, face: Image.Image) -> Image.Image:
        """The face as the photograph has it, in no more pixels."""
        side = max(1, round(place.side))
        return face if side >= self.resolution else crop(photo, place, side)
