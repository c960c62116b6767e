"""Anti-aliased drawing by signed distance: every shape is a formula, so a face is the same at every resolution.

A shape gives the distance to its edge in face units (1 = image height at scale 1); ``cover`` turns distance into the
share of a pixel that the shape covers.  All arrays are float32 [h, w], colours are [3, 1, 1] or [3, h, w].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
EYE_LINE = 0.45  # height of the eyes in the picture, as in CelebA's aligned crops


@dataclass
class Patch:
    """A rectangle of the picture that shares its memory; shapes are drawn in the face's coordinates.

    The origin lies between the eyes, x grows to the right and y downwards, both in image heights.
    """

    rgb: Array  # [3, h, w], painted in place
    x: Array  # [h, w]
    y: Array
    pixel: float  # the side of a pixel in face units
    pose: tuple[float, float, float, float]  # picture position of the origin (u, v), and scale times cos, sin of roll
    place: tuple[slice, slice]  # of this patch in the whole picture, to cut textures alike

    def crop(self, cx: float, cy: float, rx: float, ry: float) -> Patch:
        """The part around a face point; only call it on the whole picture.  May be empty."""
        u, v, cos, sin = self.pose
        height, width = self.x.shape
        reach_u, reach_v = abs(cos) * rx + abs(sin) * ry, abs(sin) * rx + abs(cos) * ry
        mid_u, mid_v = u + cos * cx - sin * cy, v + sin * cx + cos * cy
        rows = slice(max(0, int((mid_v - reach_v) * height) - 1), max(0, int((mid_v + reach_v) * height) + 2))
        columns = slice(max(0, int((mid_u - reach_u) * width) - 1), max(0, int((mid_u + reach_u) * width) + 2))
        at = rows, columns
        # Contiguous coordinates make everything that is computed from them more than twice as fast.
        return Patch(self.rgb[:, rows, columns], self.x[at].copy(), self.y[at].copy(), self.pixel, self.pose, at)

    def mirror(self, mid: float, turn: float = 0.0) -> Patch:
        """The same pixels with x folded at ``mid``: what is drawn at x > 0 appears on both sides.

        ``turn`` draws the right side closer to the middle and the left one away from it, as a turned head does.
        """
        x = self.x - np.float32(mid)
        right, left = np.float32(1 / (1 - turn)), np.float32(-1 / (1 + turn))
        x = np.maximum(x * right, x * left)
        return Patch(self.rgb, x, self.y, self.pixel, self.pose, self.place)

    # -- shapes ---------------------------------------------------------------------------------------------------

    def blob(self, cx: float, cy: float, rx: float, up: float, down: float | None = None, square: float = 0.0) -> Array:
        """Distance to an egg with its own upper and lower radius; ``square`` in [0, 1) pushes the corners out.

        The implicit curve is Fernandez-Guasti's squircle X² + Y² - s X²Y² = 1, divided by its gradient to first order.
        """
        x = (self.x - cx) * (1 / rx)
        y = self.y - cy
        if down is None or down == up:
            height = up
            y *= 1 / up
        else:
            height = 0.5 * (up + down)
            np.maximum(y * (1 / down), y * (-1 / up), out=y)
        x *= x
        y *= y
        if not square and rx == height:
            x += y
            x -= 1
            x *= 0.5 * rx
            return x
        distance = x + y
        distance -= 1
        if not square:
            slope = x * rx**-2 + y * height**-2
        else:
            # Beyond X = 1 or Y = 1 the squircle's other branches begin: hold the corner term there.
            inner_x, inner_y = np.minimum(x, 1), np.minimum(y, 1)
            x *= ((1 - square * inner_y) * (1 / rx)) ** 2
            y *= ((1 - square * inner_x) * (1 / height)) ** 2
            slope = x + y
            inner_x *= inner_y
            inner_x *= square
            distance -= inner_x
        slope += 1e-6
        np.sqrt(slope, out=slope)
        slope *= 2
        distance /= slope
        return distance

    def spot(self, cx: float, cy: float, rx: float, ry: float) -> Array:
        """A soft round bump, 1 in the middle and 0 from the ellipse's edge on."""
        x = (self.x - cx) * (1 / rx)
        y = (self.y - cy) * (1 / ry)
        x *= x
        y *= y
        x += y
        np.subtract(1, x, out=x)
        np.maximum(x, 0, out=x)
        x *= x
        return x

    def lens(self, cx: float, cy: float, half: float, up: float, down: float, bend: float = 0.0, tilt: float = 0.0) -> Array:
        """Distance to the area between two parabolas that meet at x = cx ± half; ``bend`` lowers the corners."""
        t = (self.x - cx) * (1 / half)
        y = self.y - cy
        if tilt:
            y -= (tilt * half) * t
        t *= t
        if bend:
            y -= bend * t
        np.subtract(1, t, out=t)
        return np.maximum(y - down * t, -y - up * t)

    def stroke(self, cx: float, cy: float, half: float, thick: float, bend: float = 0.0, tilt: float = 0.0, steep: bool = False) -> Array:
        """Coverage of a tapering parabolic pen stroke; ``steep`` draws it along y.  Right for strokes below a pixel."""
        along, across = (self.y - cy, self.x - cx) if steep else (self.x - cx, self.y - cy)
        along *= 1 / half
        if tilt:
            across -= (tilt * half) * along
        along *= along
        if bend:
            across -= bend * along
        np.subtract(1, along, out=along)
        np.maximum(along, 0, out=along)
        np.sqrt(along, out=along)
        width = along * (thick / self.pixel)
        np.abs(across, out=across)
        across *= -1 / self.pixel
        across += width
        across += 0.5
        # A stroke thinner than the pixel covers at most its own width of it.
        width *= 2
        np.minimum(across, width, out=across)
        return unit(across)

    def cover(self, distance: Array, soft: float = 0.0) -> Array:
        """The share of each pixel inside the shape; ``soft`` widens the edge.  Overwrites ``distance``."""
        distance *= -1 / max(self.pixel, soft)
        distance += 0.5
        return unit(distance)

    # -- paint ----------------------------------------------------------------------------------------------------

    def paint(self, cover: Array, colour: Array) -> None:
        """Lay ``colour`` over the picture where ``cover`` says so."""
        layer = colour - self.rgb
        layer *= cover
        self.rgb[...] += layer

    def tint(self, cover: Array, factor: Array) -> None:
        """Multiply the picture by ``factor`` where ``cover`` is 1: light and shadow."""
        light = cover * (factor - 1)
        light += 1
        self.rgb[...] *= light


def unit(values: Array) -> Array:
    """Clip to [0, 1] in place (``np.clip`` costs several times as much on small arrays)."""
    np.minimum(values, 1, out=values)
    return np.maximum(values, 0, out=values)


def colour(rgb: tuple[float, float, float], gain: float = 1.0) -> Array:
    return np.array(rgb, dtype=np.float32).reshape(3, 1, 1) * np.float32(gain)


def blank(resolution: int, shift: tuple[float, float], roll: float, scale: float) -> Patch:
    """A black picture whose face coordinates are turned by ``roll`` and enlarged by ``scale`` about the eyes."""
    axis = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    u, v = axis - (0.5 + shift[0]), (axis - (EYE_LINE + shift[1]))[:, None]
    cos, sin = np.cos(roll), np.sin(roll)
    x = (u * cos + v * sin) / scale
    y = (v * cos - u * sin) / scale
    pose = 0.5 + shift[0], EYE_LINE + shift[1], float(cos * scale), float(sin * scale)
    rgb = np.zeros((3, resolution, resolution), dtype=np.float32)
    whole = slice(0, resolution)
    return Patch(rgb, x.astype(np.float32), y.astype(np.float32), 1 / (resolution * scale), pose, (whole, whole))


def texture(rng: np.random.Generator, size: tuple[int, int], rows: int, columns: int, split: tuple[int, int]) -> Array:
    """Noise in [-1, 1], [height, width] = ``size``, of the same grain at any size.

    Each of rows by columns random cells is split into ``split`` random parts; both scales weigh the same.
    """
    down, across = split
    coarse = np.frombuffer(rng.bytes(rows * columns), dtype=np.uint8).reshape(rows, columns) >> 1
    cells = np.frombuffer(rng.bytes(rows * columns * down * across), dtype=np.uint8) >> 1
    cells = cells.reshape(rows, down, columns, across) + coarse[:, None, :, None]
    image = Image.frombytes("L", (columns * across, rows * down), cells.tobytes())
    # Pillow's resize averages when it shrinks, so small pictures show the mean of the same grain.
    noise = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
    noise *= np.float32(2 / 254)
    noise -= 1
    return noise
