"""The ranges of what spoils a face, as flags and records have them; `restore.degradation` is what spoils it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from facegan.errors import FaceganError


@dataclass(frozen=True)
class Degradation:
    """(lowest, highest) of each value; equal ones fix it."""

    blur: tuple[float, float] = (0.0, 3.0)  # sigma of the Gaussian in pixels, drawn for rows and columns apart
    downsample: tuple[float, float] = (0.8, 8.0)  # how many times smaller, logarithmically
    noise: tuple[float, float] = (0.0, 20.0)  # sigma, of 255
    jpeg: tuple[float, float] = (60.0, 100.0)  # quality
    fade: tuple[float, float] = (0.0, 0.2)  # share of saturation that is lost, and of contrast

    def __post_init__(self) -> None:
        limits = {"blur": (0, 100), "downsample": (0.25, 32), "noise": (0, 255), "jpeg": (1, 100), "fade": (0, 1)}
        for item in fields(self):
            low, high = getattr(self, item.name)
            least, most = limits[item.name]
            if not least <= low <= high <= most:
                raise FaceganError(f"`{item.name}` is {low:g},{high:g}: expected two numbers in order, from {least:g} to {most:g}")

    def canvas(self, resolution: int) -> int:
        """The side on which the small images lie, in whole blocks of JPEG."""
        return 16 * math.ceil(resolution / self.downsample[0] / 16)

    def noise_shape(self, resolution: int) -> tuple[int, int, int]:
        """Of the normally distributed numbers that one image needs."""
        return 3, self.canvas(resolution), self.canvas(resolution)
