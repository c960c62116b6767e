"""Sheets of faces."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facegan.files import write_whole
from facegan.pixels import to_float, to_uint8

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def picture_of(pixels: np.ndarray) -> Image.Image:
    """uint8 [H, W, C], of 1 channel (grey), 3 (RGB) or 4 (RGBA)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def to_pil(image: Tensor) -> Image.Image:
    """[C, H, W] in [-1, 1] -> a picture."""
    return picture_of(to_uint8(image).permute(1, 2, 0).cpu().numpy())


def to_tensor(pictures: Sequence[Image.Image], device: torch.device | str = "cpu") -> Tensor:
    """RGB pictures of one size -> [N, 3, H, W] in [-1, 1]."""
    return to_float(np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures]), device)


def sheet(images: Tensor, columns: int = 0, gap: int = 1, smallest: int = 64) -> Image.Image:
    """[N, C, H, W] in [-1, 1] -> one picture, rows of `columns` (default: square); tiny faces are enlarged to be seen."""
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, smallest // height)
    pixels = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, dtype=np.uint8)
    for index, face in enumerate(pixels):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = face
    picture = picture_of(canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one width, one above the other."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def is_whole_png(path: Path) -> bool:
    """Whether a file is there and ends as a PNG does (its last chunk, of no data, and the checksum of that); nothing is decoded."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(_PNG_END), io.SEEK_END)
            return file.read() == _PNG_END
    except OSError:  # absent, or shorter than that
        return False


def save_png(picture: Image.Image, path: Path, compress_level: int = 6) -> None:
    """Make the folder and write the whole picture; of a photograph level 2 takes a quarter of the time, and 6 % more bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    picture.save(data, "png", compress_level=compress_level)
    write_whole(path, data.getvalue())
