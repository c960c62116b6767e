"""Styles of other projects: `.npy` arrays, and the `.pt` that rosinality's projector and e4e's inversion write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from facegan.checkpoints.storages import load_torch
from facegan.errors import FaceganError
from facegan.files import regular_file
from facegan.models.stylegan2 import StyleGAN2Config

FOREIGN = (".npy", ".pt")
_LARGEST = 1 << 30  # bytes of a file


def read_foreign(path: Path, config: StyleGAN2Config | None = None) -> np.ndarray:
    """[N, num_ws or 1, w_dim] or [N, w_dim], of the file's own dtype.

    A table of as many rows as the network has styles is one style of W+, as the encoders that write `.npy` mean it.

    Raises:
        FaceganError: the file is neither, or a table may be one style or several, for lack of a network.
    """
    regular_file(path, _LARGEST, "file of styles")
    arrays = [_array(path)] if path.suffix == ".npy" else _latents(path)
    if len(arrays) > 1:
        if len({array.shape for array in arrays}) > 1:
            raise FaceganError(f"{path} holds styles of several shapes; expected one.")
        return np.stack([array[None] if array.ndim == 1 else array for array in arrays])
    [array] = arrays
    if array.ndim == 2 and len(array) > 1:
        if config is None:
            rows, width = array.shape
            forms = f"[1, {rows}, {width}] or [{rows}, 1, {width}]"
            raise FaceganError(f"{path} has {rows} rows, the layers of one style or as many styles: save it as {forms}.")
        return array[None] if len(array) == config.num_ws else array
    return array


def _array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header may claim any size
    except Exception:  # numpy raises whatever its parser trips over, and advises to let it run code
        raise FaceganError(f"{path} is no array of numbers in numpy's form: expected a file that numpy.save wrote, whole.") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise FaceganError(f"{path} holds no array of real numbers.")
    return np.array(array)


def _latents(path: Path) -> list[np.ndarray]:
    """A tensor of styles, or those under `latent` of each photo."""
    found: Any = load_torch(path)
    entries = [found] if isinstance(found, Tensor) or not isinstance(found, dict) or "latent" in found else list(found.values())
    latents = [entry.get("latent") if isinstance(entry, dict) else entry for entry in entries]
    kept = [latent.detach() for latent in latents if isinstance(latent, Tensor) and latent.is_floating_point() and latent.ndim < 4]
    if not kept or sum(latent.numel() for latent in kept) > path.stat().st_size:
        raise FaceganError(f"{path} holds no styles: expected a tensor, or tensors under latent, as rosinality's projector writes them.")
    if isinstance(found, dict) and "latent" not in found and len(kept) == 1 and kept[0].ndim == 2:
        kept = [kept[0][None]]  # under a photo's name two dimensions are the layers of its one style
    return [latent.float().numpy() for latent in kept]
