"""Where a column's style goes: masks by name and from pictures; `learned_masks` makes them from data or from a network.

A mask is a picture of greys: white takes the column's style, black keeps the row's. Networks keep theirs in a folder `masks` beside
them, a file for each attribute, which any painting program can change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facegan.data.attributes import names
from facegan.data.formats import open_image
from facegan.errors import FaceganError
from facegan.plotting.sheets import save_png
from facegan.styles.recipe import SIDE, Mask
from facegan.training.augment import gaussian_blur

# Rows and columns of an aligned face, as shares of its height and width: from, to.
NAMED: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "lower": ((0.5, 1.0), (0.0, 1.0)),
    "upper": ((0.0, 0.5), (0.0, 1.0)),
    "mouth": ((0.5, 0.85), (0.22, 0.78)),
    "eyes": ((0.33, 0.55), (0.15, 0.85)),
}
SOFTNESS = 0.015  # of the named ones: half of it to either side of an edge is about the width of a cheek's shadow
MOST_PIXELS = 1 << 24  # of a picture
SUFFIX = ".png"


def softened(values: Tensor, softness: float) -> Tensor:
    """[S, S] blurred by a Gaussian whose standard deviation is `softness` of the image height."""
    sigma = softness * values.shape[0]
    return gaussian_blur(values[None, None], sigma)[0, 0].clamp(0, 1) if sigma > 0.1 else values


# --- by name


def mask_folders(styles: str, network: Path) -> list[Path]:
    """Where masks are looked up: in the folder of styles that is named, then beside the network."""
    return [Path(styles) / "masks"] * bool(styles) + [network / "masks"]


def own_masks(folders: Sequence[Path]) -> list[str]:
    """The masks in folders, in the order of the alphabet."""
    return sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob(f"*{SUFFIX}")})


def mask_names(folders: Sequence[Path]) -> list[str]:
    """What `find_mask` knows: the masks in folders first, then the named ones."""
    own = own_masks(folders)
    return [*own, *(name for name in NAMED if name not in own)]


def plain_names(attributes: Sequence[str]) -> list[str]:
    """What attributes are called: the names of their files of masks or channels.

    Raises:
        FaceganError: one is a path, under which nobody would find the file again, or is named twice.
    """
    found = names(attributes)
    for name in found:
        if found.count(name) > 1:
            raise FaceganError(f"`attributes` names {name[:60]!r} {found.count(name)} times: name each once")
        if Path(name).name != name:
            raise FaceganError(
                f"`attributes` has {name[:60]!r}: expected names, such as beard; styles and directions of that name are looked up in "
                "`styles=DIR` and beside the network"
            )
    return found


def find_mask(text: str, folders: Sequence[Path], softness: float | None = None) -> Mask:
    """The mask that a user means: `lower`, `upper`, `mouth` or `eyes`, a picture's path, or the name of one in `folders`.

    `softness`: standard deviation of the blur of its edges, a share of the height; None: that of the named ones, and none of pictures.

    Raises:
        FaceganError: there is no such mask, or the picture cannot be read.
    """
    if softness is not None and not 0 <= softness <= 0.5:
        raise FaceganError(f"`softness` is {softness:g}: expected a share of the face's height from 0 to 0.5")
    path = next((place for place in (Path(text), *(folder / f"{text}{SUFFIX}" for folder in folders)) if text and place.is_file()), None)
    if path is not None:
        return Mask.of(path.stem, softened(_read(path), softness or 0.0))
    if text in NAMED:
        return Mask.of(text, softened(box(*NAMED[text]), SOFTNESS if softness is None else softness))
    raise FaceganError(
        f"`mask` is {text[:80]!r}: expected {', '.join(mask_names(folders))}, or a picture whose white takes the column's style; "
        "`facegan styles mask` makes one"
    )


def box(rows: tuple[float, float], columns: tuple[float, float], side: int = SIDE) -> Tensor:
    """[side, side], ones within, with the share of a pixel that is within at the edges."""

    def covered(low: float, high: float) -> Tensor:
        place = torch.arange(side, dtype=torch.float32)
        return (torch.clamp(place + 1, max=high * side) - torch.clamp(place, min=low * side)).clamp(0, 1)

    return covered(*rows)[:, None] * covered(*columns)[None]


def _read(path: Path) -> Tensor:
    try:
        with open_image(path) as picture:
            width, height = picture.size
            if width == height and width * height <= MOST_PIXELS:
                resampling = Image.Resampling.BOX if width > SIDE else Image.Resampling.BILINEAR
                grey = picture.convert("L").resize((SIDE, SIDE), resampling)
                return torch.from_numpy(np.array(grey, dtype=np.float32) / 255)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FaceganError(f"{path} is no picture that can be read ({type(error).__name__}): expected a PNG of greys") from None
    if width != height:
        raise FaceganError(f"{path} is {width} x {height}: a mask is square, as faces are")
    raise FaceganError(f"{path} has {width} x {height} pixels: a mask needs no more than {SIDE} x {SIDE}")


def write_masks(masks: Mapping[str, Tensor], folder: Path) -> list[Path]:
    """Write NAME.png of values [S, S] in [0, 1] each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, values in masks.items():
        paths.append(folder / f"{name}{SUFFIX}")
        save_png(Image.fromarray(values.clamp(0, 1).mul(255).round().byte().numpy()), paths[-1])
    return paths
