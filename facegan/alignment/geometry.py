"""A square of a photograph as a picture, and what became of that picture back into the photograph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from facegan.alignment.square import Square, central, square_of
from facegan.data.images import on_white
from facegan.errors import FaceganError

__all__ = ["Square", "central", "crop", "paste", "paste_into", "square_of", "with_alpha"]

FEATHER = 0.12  # share of the side over which a pasted face fades into the photo
MARGIN = 4  # pixels around a square that the filters read
SOFT = 0.02  # sigma of the blur beyond the photo's edge, and ...
FULLY_SOFT, FLAT = 0.08, 0.6  # ... the distances from the edge where nothing sharp and where nothing at all is left: shares of the side
# What is turned is shrunk to FINER times the pixels of the result, a side, where it has more than COARSE times as many. From ENOUGH
# times on bilinear filtering is nearer to the truth than bicubic, and twice as fast.
FINER, COARSE, ENOUGH = 1.4, 1.75, 1.25
CLAIM = 6.0  # where squares overlap: of two, the middle of one and the edge of the other, the latter counts e^-6
BAND = 256  # rows that are pasted at once: what bounds the memory of large photos


# --- out of the photo


def crop(photo: Image.Image, square: Square, size: int) -> Image.Image:
    """The square as an upright RGB picture [size, size]: antialiased, and beyond the photo's edge reflected and softened.

    A transparent photo is taken on white. Memory is that of the result, whatever the square and the photo.
    """
    if not (np.isfinite([*square.centre, *square.half]).all() and square.side > 0 and size > 0):
        raise FaceganError(f"a picture of {size} px of a square of side {square.side:g} px at {square.centre}: expected sizes above 0")
    image = photo if photo.mode == "RGB" else on_white(photo)
    width, height = image.size
    corners = square.corners()
    scale = FINER * size / square.side if square.side > COARSE * size else 1.0
    if max(width, height) * scale < 1 or min(width, height) * scale < 0.05:  # the photo is a dot or a hair in it
        colour = np.median(np.asarray(image.resize((16, 16), Image.Resampling.BOX)).reshape(-1, 3), 0)
        return Image.new("RGB", (size, size), tuple(int(level) for level in colour))
    upright = square.half[1] == 0 and square.half[0] > 0
    beyond = bool((corners < -1e-6).any() or (corners > np.array([width, height]) + 1e-6).any())
    if not beyond:
        return _upright(image, corners, size) if upright else _turned(image, square, size, scale)

    # The photo at about the scale of the result, its edges at whole pixels; of it only what the square needs.
    whole = np.maximum(np.round(np.array([width, height]) * scale), 1).astype(int)
    scales = whole / (width, height)
    low = np.floor(corners.min(0) * scales).astype(int) - MARGIN
    high = np.ceil(corners.max(0) * scales).astype(int) + MARGIN
    part = _softened(_reflected(image, low, high, whole), low, whole, square.side * scale)
    if upright:
        box = _box(corners[0] * scales - low, corners[2] * scales - low)
        return part.resize((size, size), Image.Resampling.LANCZOS, box=box)
    return _sampled(part, square, size, low / scales, scales)


def _upright(image: Image.Image, corners: np.ndarray, size: int) -> Image.Image:
    """Of an upright square within the photo, exactly its pixels where there are as many as are wanted."""
    box = np.array([*corners[0], *corners[2]])
    near = np.round(box)
    if np.abs(box - near).max() < 1e-6:
        box = near
        if box[2] - box[0] == size:
            return image.crop(_box(box[:2], box[2:]))
    box = np.clip(box, 0, [*image.size, *image.size])
    return image.resize((size, size), Image.Resampling.LANCZOS, box=_box(box[:2], box[2:]), reducing_gap=3.0)


def _turned(image: Image.Image, square: Square, size: int, scale: float) -> Image.Image:
    """Of a turned square within the photo, shrunk to `scale` before it is turned."""
    corners, reach = square.corners(), MARGIN / scale
    low = np.clip(np.floor(corners.min(0) - reach), 0, image.size).astype(int)
    high = np.clip(np.ceil(corners.max(0) + reach), 0, image.size).astype(int)
    part, scales = image.crop(_box(low, high)), np.ones(2)
    if scale < 1:
        width, height = np.maximum(np.round((high - low) * scale), 1).astype(int).tolist()
        part, scales = _shrunk(part, width, height), np.array([width, height]) / (high - low)
    return _sampled(part, square, size, low, scales)


def _shrunk(part: Image.Image, width: int, height: int) -> Image.Image:
    """Antialiased: by PyTorch, several times as fast as Pillow; but where there is much to be averaged, Pillow does that first."""
    if width * 3 < part.width:
        return part.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1)[None]
    small = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return Image.fromarray(small[0].permute(1, 2, 0).contiguous().numpy())


def _sampled(part: Image.Image, square: Square, size: int, origin: np.ndarray, scales: np.ndarray) -> Image.Image:
    """The square out of a part of the photo that begins at `origin` and has `scales` pixels of its own a pixel."""
    right, down = (np.array(axis) * scales * (2 / size) for axis in (square.half, square.down))
    start = (square.corners()[0] - origin) * scales
    affine = (right[0], down[0], start[0], right[1], down[1], start[1])
    kernel = Image.Resampling.BILINEAR if square.side * scales.min() >= ENOUGH * size else Image.Resampling.BICUBIC
    return part.transform((size, size), Image.Transform.AFFINE, tuple(map(float, affine)), kernel)


def _box(low: np.ndarray, high: np.ndarray) -> tuple[float, float, float, float]:
    """Edges as Pillow takes them."""
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _reflected(image: Image.Image, low: np.ndarray, high: np.ndarray, whole: np.ndarray) -> Image.Image:
    """The region [low, high) of the photo resized to `whole` pixels; beyond its edges as often as needed its mirror image."""
    indices = []
    for start, end, length in zip(low, high, whole, strict=True):
        place = np.arange(start, end) % (2 * length)
        indices.append(np.minimum(place, 2 * length - 1 - place))
    first = np.array([index.min() for index in indices])
    last = np.array([index.max() + 1 for index in indices])
    if (whole == image.size).all():
        part = image.crop(_box(first, last))
    else:
        scales = np.array(image.size) / whole
        box, (width, height) = _box(first * scales, np.minimum(last * scales, image.size)), last - first
        part = image.resize((int(width), int(height)), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    if (first == low).all() and (last == high).all():
        return part
    x, y = (index - start for index, start in zip(indices, first, strict=True))
    return Image.fromarray(np.asarray(part).take(y, 0).take(x, 1))


def _softened(part: Image.Image, low: np.ndarray, whole: np.ndarray, side: float) -> Image.Image:
    """Beyond the photo, which has [0, whole) of it, blurred more and more, and faded to the median colour of what is photo."""
    (width, height), sigma = part.size, max(1.0, SOFT * side)
    left, top = (int(edge) for edge in np.clip(-low, 0, part.size))
    right, bottom = (int(edge) for edge in np.clip(whole - low, 0, part.size))
    inner = (left, top, right, bottom) if left < right and top < bottom else (0, 0, width, height)
    photo = np.asarray(part.crop(inner)).reshape(-1, 3)
    median = np.median(photo[:: max(1, len(photo) // 20_000)], 0).astype(np.float32)
    across, along = (_beyond(*each) / side for each in zip(low, part.size, whole, strict=True))
    result = part.copy()
    for box in ((0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)):
        if box[0] < box[2] and box[1] < box[3]:
            distance = np.hypot(across[None, box[0] : box[2]], along[box[1] : box[3], None])[..., None]
            pixels = np.asarray(part.crop(box), np.float32)
            pixels = pixels + (_blurred(part, box, sigma) - pixels) * smooth(distance / FULLY_SOFT)
            pixels += (median - pixels) * smooth(distance / FLAT)
            result.paste(Image.fromarray(np.round(pixels).clip(0, 255).astype(np.uint8)), box[:2])
    return result


def _beyond(low: int, count: int, length: int) -> np.ndarray:
    """float32 [count]: how far the pixels from `low` on are outside of [0, length)."""
    place = np.arange(low, low + count, dtype=np.float32) + 0.5
    result: np.ndarray = np.maximum(np.maximum(-place, place - length), 0)
    return result


def _blurred(part: Image.Image, box: tuple[int, int, int, int], sigma: float) -> np.ndarray:
    """float32: the pixels of `box`, blurred with what is around them."""
    reach = math.ceil(3 * sigma)
    around = (max(0, box[0] - reach), max(0, box[1] - reach), min(part.width, box[2] + reach), min(part.height, box[3] + reach))
    blurred = part.crop(around).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(blurred.crop((box[0] - around[0], box[1] - around[1], box[2] - around[0], box[3] - around[1])), np.float32)


def smooth(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, between them 3 t^2 - 2 t^3, without a corner."""
    t = np.clip(values, 0, 1)
    result: np.ndarray = t * t * (3 - 2 * t)
    return result


# --- and back


def paste(photo: Image.Image, before: Image.Image, after: Image.Image, square: Square, feather: float = FEATHER) -> Image.Image:
    """The photo with the change from `before` to `after` put into the square.

    Only the change is put back, so that the photo keeps its own detail beyond the resolution of the two, and where nothing changed its very
    pixels. `before`: what `crop` gave, RGB [n, n] of any n; `after`: what became of it, of the same size. Over `feather` of the side, in
    (0, 1/2], the change fades to nothing at the square's edge. Mode RGB or RGBA, whose alpha stays; other modes become one of the two.
    """
    result = with_alpha(photo)
    paste_into(result, before, after, square, feather)
    return result


def paste_into(
    photo: Image.Image, before: Image.Image, after: Image.Image, square: Square, feather: float = FEATHER, others: Sequence[Square] = ()
) -> None:
    """`paste` into the photo itself, of mode RGB or RGBA.

    `others`: of the faces around it, which are pasted likewise: where squares overlap, what is nearer to its own middle counts for more,
    and all of the changes together for one.
    """
    if before.size != after.size or before.width != before.height:
        raise FaceganError(f"a face of {before.size} and what became of it, of {after.size}: expected two squares of one size")
    if not 0 < feather <= 0.5:
        raise FaceganError(f"a feather of {feather}: expected a share of the side above 0, up to 0.5")
    change = np.asarray(after.convert("RGB"), np.float32) - np.asarray(before.convert("RGB"), np.float32)
    low, high = _within(square, photo)
    if not change.any() or (low >= high).any():
        return
    size = min(before.width, max(1, math.ceil(square.side)))  # no more pixels than the photo takes up: antialiased
    planes = [_resized(Image.fromarray(change[..., channel]), size) for channel in range(3)]
    # A border of the outermost pixels, as Pillow's filters take what is outside of a picture to be 0.
    planes = [Image.fromarray(np.pad(np.asarray(plane), MARGIN, mode="edge")) for plane in planes]
    near = [other for other in others if (np.maximum(low, _within(other, photo)[0]) < np.minimum(high, _within(other, photo)[1])).all()]
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    for start in range(top, bottom, BAND):
        box = (left, start, right, min(start + BAND, bottom))
        mask, claim = _weights(box, square, feather)
        if near and mask.any():
            claims = claim + sum(_weights(box, other, feather)[1] for other in near)
            mask = mask * np.divide(claim, claims, out=np.zeros_like(claim), where=claims > 0)
        if mask.any():
            _add(photo, planes, box, square, mask)


def with_alpha(photo: Image.Image) -> Image.Image:
    """A copy in RGB, or in RGBA where it is transparent."""
    if photo.mode in ("RGB", "RGBA"):
        return photo.copy()
    return photo.convert("RGBA") if photo.has_transparency_data else on_white(photo)


def _within(square: Square, photo: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The whole pixels of the photo that have a part in it: the first of each axis, and the one after the last."""
    corners = square.corners()
    low, high = (np.clip(edge, 0, photo.size).astype(int) for edge in (np.floor(corners.min(0)), np.ceil(corners.max(0))))
    return low, high


def _resized(plane: Image.Image, size: int) -> Image.Image:
    return plane if plane.width == size else plane.resize((size, size), Image.Resampling.LANCZOS)


def _axes(square: Square) -> np.ndarray:
    """[2, 2]: of the photo's pixels to [-1, 1] in the square."""
    axes: np.ndarray = np.array([square.half, square.down]) / (square.side / 2) ** 2
    return axes


def _weights(box: tuple[int, int, int, int], square: Square, feather: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the pixels of `box`, float32 [h, w]: how much of the change they take, and how strong the square's claim to them is."""
    x, y = np.arange(box[0], box[2]) + 0.5 - square.centre[0], np.arange(box[1], box[3]) + 0.5 - square.centre[1]
    u, v = (axis[0] * x[None, :] + axis[1] * y[:, None] for axis in _axes(square))
    mask = smooth((1 - np.abs(u)) / (2 * feather)) * smooth((1 - np.abs(v)) / (2 * feather))
    claim = mask * np.exp(-CLAIM * np.minimum(u * u + v * v, 2))
    return mask.astype(np.float32), claim.astype(np.float32)


def _add(photo: Image.Image, planes: list[Image.Image], box: tuple[int, int, int, int], square: Square, mask: np.ndarray) -> None:
    """The change, its `planes` with a border of MARGIN, to the pixels of `box`."""
    left, top, right, bottom = box
    size = planes[0].width - 2 * MARGIN
    first = np.array([left, top]) - square.centre
    affine = [number for axis in _axes(square) for number in (*(axis * size / 2), (axis @ first + 1) * size / 2 + MARGIN)]
    shape, coefficients = (right - left, bottom - top), tuple(map(float, affine))
    pixels = np.array(photo.crop(box))
    for channel, plane in enumerate(planes):
        change = plane.transform(shape, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
        pixels[..., channel] = np.round(pixels[..., channel] + mask * np.asarray(change)).clip(0, 255).astype(np.uint8)
    photo.paste(Image.fromarray(pixels, photo.mode), (left, top))
