"""The square that FFHQ cuts out around a face.

Coordinates are continuous: pixel i covers [i, i + 1), so that the middle of a photo of w pixels is w / 2, and a photo enlarged k times has
all of its coordinates multiplied by k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from facegan.errors import FaceganError


@dataclass(frozen=True)
class Square:
    """A square of a photo, in its pixels, upright or turned."""

    centre: tuple[float, float]
    half: tuple[float, float]  # from the centre to the middle of the right edge

    @property
    def side(self) -> float:
        return 2 * math.hypot(*self.half)

    @property
    def roll(self) -> float:
        """Degrees in (-180, 180] by which it is turned, clockwise as one sees it."""
        return math.degrees(math.atan2(self.half[1], self.half[0]))

    @property
    def down(self) -> tuple[float, float]:
        """From the centre to the middle of the lower edge."""
        return -self.half[1], self.half[0]

    def corners(self) -> np.ndarray:
        """float64 [4, 2]: upper left, upper right, lower right, lower left, as the face has them."""
        return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) @ np.array([self.half, self.down]) + self.centre

    def placed(self, points: np.ndarray, size: int = 1) -> np.ndarray:
        """Points of the photo [..., 2], where the picture of `size` pixels has them that `crop` gives."""
        axes = np.array([self.half, self.down]).T
        return ((np.asarray(points, np.float64) - self.centre) @ axes / (self.side / 2) ** 2 + 1) * (size / 2)

    def scaled(self, factor: float) -> Square:
        """The same square of the photo enlarged `factor` times."""
        (x, y), (right, down) = self.centre, self.half
        return Square((x * factor, y * factor), (right * factor, down * factor))

    def to_json(self) -> dict[str, object]:
        """As reports have it."""
        return {"centre": list(self.centre), "side": self.side, "roll": self.roll}

    def outside(self, width: int, height: int) -> float:
        """Which share of its area is beyond a photo of that size, in [0, 1]."""
        polygon = list(self.corners())
        for axis, limit, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
            polygon = _clipped(polygon, axis, limit, sign)
        x, y = np.array(polygon).reshape(-1, 2).T - np.array(self.centre)[:, None]
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        return float(np.clip(1 - area / self.side**2, 0, 1))


def _clipped(polygon: list[np.ndarray], axis: int, limit: float, sign: int) -> list[np.ndarray]:
    """The part of a convex polygon with sign * (coordinate - limit) >= 0 (Sutherland & Hodgman 1974)."""
    kept = []
    for here, there in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        depth, other = sign * (here[axis] - limit), sign * (there[axis] - limit)
        if depth >= 0:
            kept.append(here)
        if (depth >= 0) != (other >= 0):
            kept.append(here + (there - here) * (depth / (depth - other)))
    return kept


def central(width: int, height: int) -> Square:
    """The largest upright square in the middle, at whole pixels."""
    side = min(width, height)
    return Square(((width - side) // 2 + side / 2, (height - side) // 2 + side / 2), (side / 2, 0.0))


def square_of(landmarks: np.ndarray) -> Square:
    """FFHQ's square (Karras et al. 2019, appendix) around landmarks float64 [5, 2].

    They are (x, y) of the eye on the left of an upright picture, the eye on its right, the tip of the nose, and the corners of the mouth on
    the left and on the right. FaceganError where they are in one place, or not finite.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise FaceganError(f"expected 5 landmarks of 2 finite coordinates, not {points.shape} {points.ravel()[:10].tolist()}")
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    across, along = points[1] - points[0], mouth - eyes
    axis = across - np.array([-along[1], along[0]])  # both say which way is up: a face seen from the side has its eyes close together
    length = np.hypot(*axis)
    if length <= 1e-9 * max(1.0, np.abs(points).max()):
        raise FaceganError(
            "eyes and mouth are in one place or mirrored, so that no side of the face is up: these are no landmarks of a face"
        )
    half = axis / length * max(2.0 * np.hypot(*across), 1.8 * np.hypot(*along))
    x, y = eyes + 0.1 * along
    return Square((float(x), float(y)), (float(half[0]), float(half[1])))
