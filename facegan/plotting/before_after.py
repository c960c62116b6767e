"""Faces above what became of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from facegan.plotting.comparison import comparison
from facegan.plotting.sheets import stacked, to_tensor

SHOWN, ABREAST = 12, 6  # faces of the sheet, and of one row of it
SHEET_SIDE = 256  # pixels of a face in it, at most


def lanczos(image: Image.Image, side: int) -> Image.Image:
    """The square picture at another width."""
    return image if image.width == side else image.resize((side, side), Image.Resampling.LANCZOS)


class BeforeAfter:
    """The first faces, each enlarged by repeating pixels, above the restored ones; kept no larger than they are shown."""

    def __init__(self) -> None:
        self.faces: list[tuple[str, Image.Image, Image.Image]] = []

    def add(self, name: str, before: Image.Image, after: Image.Image) -> None:
        """One face more; beyond SHOWN they are dropped."""
        if len(self.faces) < SHOWN:
            before, after = (image if image.width <= SHEET_SIDE else lanczos(image, SHEET_SIDE) for image in (before, after))
            self.faces.append((name, before, after))

    def picture(self) -> Image.Image:
        """The sheet."""
        side = max(after.width for _, _, after in self.faces)
        return stacked([self._band(self.faces[start : start + ABREAST], side) for start in range(0, len(self.faces), ABREAST)])

    @staticmethod
    def _band(faces: Sequence[tuple[str, Image.Image, Image.Image]], side: int) -> Image.Image:
        before = to_tensor([image.resize((side, side), Image.Resampling.NEAREST) for _, image, _ in faces])
        after = to_tensor([lanczos(image, side) for _, _, image in faces])
        return comparison(torch.stack([before, after]), [name for name, _, _ in faces], ["before", "after"])
