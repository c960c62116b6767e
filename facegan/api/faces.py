"""Photographs to faces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facegan.alignment.aligner import align_folder, align_photos
from facegan.alignment.photos import Photo, photo_from
from facegan.alignment.selection import Aligned
from facegan.devices import AUTO
from facegan.errors import FaceganError
from facegan.options import AlignOptions, DataAlign

Picture = Image.Image | np.ndarray | str | Path


def align(images: Picture | Iterable[Picture], *, out: str | Path = "", device: str = AUTO, **options: Any) -> Aligned:
    """Cut the faces out of photographs, upright and square as FFHQ's are (Karras et al. 2019, appendix).

    Args:
        images: photographs: paths of files and folders, pictures, or uint8 arrays [H, W, 3]; one, or several.
        out: a folder to write them to, as `facegan data align` does, which resumes; then `images` are paths. Without it the faces are kept
            in memory.
        device: auto, cpu, cuda or cuda:N.
        options: fields of `AlignOptions`: `size` (512), `attributes_from`, `faces`, and what is left out: `min_side`, `min_sharpness`,
            `max_padding`, `max_turn`, `min_score`, `duplicate_distance`, `keep_duplicates`; see `facegan data align --help`.

    Returns:
        The faces taken, `.images`; where they were, `.taken`; and with the reasons why the others were left out all of them, `.rows`.

    Raises:
        FaceganError: the extra `facegan[align]` is not installed, there are no photos, or options make no sense. Photos that cannot be read
            are rows with the reason.
    """
    items: list[Any] = [images] if isinstance(images, (Image.Image, np.ndarray, str, Path)) else list(images)
    if not items:
        raise FaceganError("there are no photos: expected paths, pictures, or uint8 arrays [H, W, 3]")
    paths = [item for item in items if isinstance(item, (str, Path))]
    if out:
        if len(paths) < len(items):
            raise FaceganError("`out` goes with paths of photos: what becomes of pictures in memory is in `.images` of the result")
        return align_folder(DataAlign(photos=tuple(map(str, paths)), out=str(out), device=device, **options))
    chosen = AlignOptions(**options)
    if chosen.attributes_from:
        raise FaceganError("`attributes_from` goes with `out`, where metadata.csv is written")
    return align_photos([_photo(item) for item in items], chosen, device)


def _photo(item: Any) -> Photo | str:
    """A picture as a photograph; a path as it is."""
    if isinstance(item, (str, Path)):
        return str(item)
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
            raise FaceganError(f"an array {item.dtype} {list(item.shape)} is no photograph: expected uint8 [H, W, 3]")
        item = Image.fromarray(item)
    if not isinstance(item, Image.Image):
        raise FaceganError(f"a {type(item).__name__} is no photograph: expected a path, a picture, or a uint8 array [H, W, 3]")
    return photo_from(item)
