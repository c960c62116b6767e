"""Paint a face: back to front, each function lays one part over the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from facegan.data.synthetic import beards, features, hair
from facegan.data.synthetic.canvas import Patch, blank, colour, unit
from facegan.data.synthetic.parameters import FaceParameters, stream
from facegan.errors import FaceganError

MIN_RESOLUTION, MAX_RESOLUTION = 8, 2048
_FINE = 24  # below this many pixels a side the picture is painted larger and averaged, as eyes fall below a pixel


def check_resolution(resolution: int) -> None:
    """Raise FaceganError unless ``resolution`` is a whole number that the renderer supports."""
    whole = isinstance(resolution, (int, np.integer)) and not isinstance(resolution, bool)
    if not whole or not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        span = f"{MIN_RESOLUTION} to {MAX_RESOLUTION}"
        raise FaceganError(f"resolution is {resolution!r}; give a whole number of pixels from {span}.")


def render(params: FaceParameters, resolution: int) -> NDArray[np.uint8]:
    """Paint the face as uint8 RGB [resolution, resolution, 3]; the same face at every resolution from 8 to 2048.

    Raises FaceganError for another resolution.
    """
    check_resolution(resolution)
    if resolution < _FINE:
        times = -(-2 * _FINE // resolution)
        return np.asarray(Image.fromarray(render(params, resolution * times)).reduce(times))
    canvas = blank(resolution, params.shift, params.roll, params.scale)
    strands = hair.strands(params, resolution)
    _background(canvas, params)
    hair.behind(canvas, params, strands)
    features.body(canvas, params)
    features.skin(canvas, params)
    pair = features.pair(canvas, params)
    features.eyes(canvas, pair, params)
    features.nose(canvas, params)
    features.age_lines(canvas, pair, params)
    beards.beard(canvas, params, strands)
    features.mouth(canvas, params)
    beards.mustache(canvas, params, strands)
    hair.front(canvas, params, strands)
    features.brows(pair, params)
    hair.hat(canvas, params)
    features.glasses(canvas, pair, params)
    return _develop(canvas.rgb, params)


def _background(canvas: Patch, p: FaceParameters) -> None:
    """A studio wall of one or two colours, with a soft lamp on it beside the head."""
    first, second = (colour(rgb) for rgb in p.backdrop)
    cos, sin = np.float32(np.cos(p.backdrop_angle)), np.float32(np.sin(p.backdrop_angle))
    along = cos * canvas.x + sin * (canvas.y - 0.05)
    lamp = 0.16 * canvas.spot(0.3 * float(sin), -0.1 - 0.25 * float(cos), 0.75, 0.75)
    lamp += 0.92
    if p.background == "two-tone":
        mix = canvas.cover(-along, soft=0.1)
    elif p.background == "gradient":
        along += np.float32(0.5)
        mix = unit(along)
    else:
        mix = along * np.float32(0.12)
    canvas.rgb += first + mix * (second - first)
    canvas.rgb *= lamp


def _develop(rgb: NDArray[np.float32], p: FaceParameters) -> NDArray[np.uint8]:
    """Exposure, white balance, sensor noise and, for Blurry faces, the lens."""
    gain = colour((1 + p.warmth, 1.0, 1 - p.warmth), p.exposure * 255)
    noise = stream(p.seed, p.index, 4).random(rgb.shape[1:], dtype=np.float32)
    picture = rgb * gain
    picture += noise * 5 - 2  # mean 0.5, so that truncation rounds
    np.clip(picture, 0, 255, out=picture)
    pixels = np.ascontiguousarray(picture.astype(np.uint8).transpose(1, 2, 0))
    if p.blur:
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(p.blur * len(pixels))))
    return pixels
