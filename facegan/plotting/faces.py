"""Faces as one meets them: tensors with names, and the pictures of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.plotting.sheets import picture_of, save_png, sheet, to_pil


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces that a generator or a restorer made.

    Attributes:
        tensors: float32 [N, C, H, W] in [-1, 1], on the CPU.
        names: of the files to write, one for each.
        seeds: that they were made from; empty where they were not.
        truncated: whether pixels are cut to whole levels as NVIDIA's generate.py does (x * 127.5 + 128), not rounded.
    """

    tensors: Tensor = field(repr=False)
    names: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:
        return self._picture(self.tensors[index])

    def __iter__(self) -> Iterator[Image.Image]:
        return map(self._picture, self.tensors)

    def _picture(self, image: Tensor) -> Image.Image:
        if not self.truncated:
            return to_pil(image)
        return picture_of((image.permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy())

    @property
    def images(self) -> list[Image.Image]:
        """The faces as pictures."""
        return list(self)

    def grid(self, columns: int = 0) -> Image.Image:
        """Return all faces in one picture, rows of `columns` (0: as square as may be)."""
        return sheet(self.tensors, columns)

    def save(self, folder: str | Path) -> Path:
        """Write NAME.png of each and grid.png, whose path is returned."""
        out = Path(folder)
        for name, picture in tqdm(zip(self.names, self, strict=True), total=len(self), desc="pictures", unit="face", disable=None):
            save_png(picture, out / f"{name}.png")
        save_png(self.grid(), out / "grid.png")
        return out / "grid.png"
