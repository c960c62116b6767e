"""Hair of every kind: crown, fringe and long hair, bald heads, beards, and hats, which replace the hair on top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facegan.data.synthetic import features
from facegan.data.synthetic.canvas import Array, Patch, colour, texture, unit
from facegan.data.synthetic.parameters import LONG_HAIRS, FaceParameters, stream

# Rows, columns and split of the strand texture: few rows and many columns make long vertical strands.
_GRAIN = {"curly": (26, 26, (2, 2)), "wavy": (16, 30, (2, 3)), "crop": (40, 48, (3, 3))}
_STRAIGHT = 8, 36, (2, 3)
# How far the hair stands off the skull, from flat to full, where it is not the common (0.02, 0.042).
_VOLUME = {"crop": (0.008, 0.014), "curly": (0.035, 0.06), "receding": (0.012, 0.024), "tied": (0.014, 0.026)}
_BEARD = 28, 42, (2, 3)
_CAST = colour((0.62, 0.55, 0.52))  # the hair's soft shadow on the skin
_SHINE = colour((1.0, 0.97, 0.94))
_STUBBLE = colour((0.66, 0.68, 0.72))


@dataclass(frozen=True)
class Strands:
    """Strand textures over the whole picture, in about [-1, 1]; zero where the face needs none."""

    hair: Array
    beard: Array


def strands(p: FaceParameters, resolution: int) -> Strands:
    flat = np.zeros((resolution, resolution), dtype=np.float32)
    combed = not p.bald or p.horseshoe
    woolly = p.beard != "none" or p.sideburns or p.hat != "none"
    return Strands(
        1.2 * texture(stream(p.seed, p.index, 2), resolution, *_GRAIN.get(p.hair, _STRAIGHT)) if combed else flat,
        1.2 * texture(stream(p.seed, p.index, 3), resolution, *_BEARD) if woolly else flat,
    )


def _depth(rgb: tuple[float, float, float]) -> float:
    """How strongly strands vary in brightness: dark hair needs more of it to be seen, bright hair turns to metal."""
    return 0.6 - 0.35 * max(rgb)


def _lit(patch: Patch, p: FaceParameters, grain: Array) -> Array:
    """Hair colour [3, h, w] under the face's light: strands, a side light and a gloss band over the crown."""
    gloss = patch.spot(0.12 * p.light[0], -0.25, 0.26, 0.1)
    shade = (0.86 + 0.45 * p.light[0] * patch.x) * (1 + _depth(p.hair_rgb) * grain) + 0.45 * gloss * (1 + grain)
    # Black hair would stay flat under a pure product: add a little grey gloss.
    return colour(p.hair_rgb) * shade + np.float32(0.06) * np.maximum(gloss + 0.8 * grain, 0)


def _cap(patch: Patch, p: FaceParameters, off: float) -> Array:
    """Distance to the outer line of the hair, ``off`` beyond the skull at the sides and more at the top."""
    return patch.blob(0.008 * p.yaw, -0.05, p.head_width + off, p.skull - 0.05 + 1.5 * off, 0.3, 0.25)


def _volume(p: FaceParameters) -> float:
    low, high = _VOLUME.get(p.hair, (0.02, 0.042))
    return low + (high - low) * p.volume


def behind(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """Long hair behind neck and shoulders."""
    if p.bald or p.hair not in LONG_HAIRS:
        return
    length = 0.27 if p.hair == "bob" else 0.5
    wide = p.head_width + 0.05 + 0.035 * p.volume
    edge = canvas.blob(0.005 * p.yaw, 0.0, wide, p.skull + 0.03, length, 0.75 if p.hair == "bob" else 0.6)
    edge += 0.018 * tex.hair
    if p.hair == "wavy":
        edge += 0.014 * np.sin(canvas.y * 42 + 6 * p.parting)
    canvas.paint(canvas.cover(edge, 0.012), 0.72 * _lit(canvas, p, tex.hair))


def front(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """The hair over the skull, cut open where the face shows; for a bald head the shine and the rim of hair."""
    long = p.hair in LONG_HAIRS
    if p.bald:
        _bald(canvas, p, tex)
        return
    if p.hat != "none" and not long:
        _rim(canvas, p, tex, 0.006)
        return
    patch = canvas.crop(0, 0.06 if long else -0.17, 0.36, 0.5 if long else 0.27)
    grain = tex.hair[patch.place]
    shape = np.maximum(_cap(patch, p, _volume(p)) + 0.010 * grain, -_opening(patch, p, grain))
    if long:
        shape = np.minimum(shape, _locks(patch, p, grain))
    else:
        # Short hair ends at the ears.
        shape = np.maximum(shape, patch.y - (0.05 if p.male else 0.035) + 0.02 * grain)
    patch.tint(0.45 * patch.cover(shape.copy(), 0.055), _CAST)
    patch.paint(patch.cover(shape, 0.012) * (0.88 if p.hair == "crop" else 1.0), _lit(patch, p, grain))
    if p.hair == "tied":
        bun = canvas.crop(0, -p.skull - 0.04, 0.1, 0.075)
        grain = tex.hair[bun.place]
        shape = bun.blob(-0.02 * p.yaw, -p.skull - 0.035, 0.085, 0.055) + 0.01 * grain
        bun.paint(bun.cover(shape, 0.01), _lit(bun, p, grain))


def _opening(patch: Patch, p: FaceParameters, grain: Array) -> Array:
    """Distance to the part of the head where no hair grows or falls: hairline, parting and temples."""
    x, high, square, inner = 0.03 * p.yaw, p.skull - 0.1, 0.55, 0.93 * p.head_width
    if p.hair in LONG_HAIRS:
        high, square, inner = p.skull - 0.06, 0.3, 0.83 * p.head_width
    if p.hair == "fringe":
        high, square = 0.085, 0.8
    elif p.hair == "receding":
        high = p.skull - 0.06
    edge = patch.blob(x, 0.04, inner, high + 0.04, 0.36, square)
    if p.hair == "receding":
        # An M: a tuft stays in the middle between two bare corners.
        corners = patch.mirror(x).blob(0.125, -p.skull + 0.115, 0.095, 0.1)
        tuft = patch.blob(x, -p.skull + 0.02, 0.055, 0.1, 0.085)
        edge = np.maximum(np.minimum(edge, corners), 0.004 - tuft)
    elif p.hair not in ("crop", "curly", "fringe", "tied"):
        # From the parting the hair falls to both sides.
        steep = 0.4 if p.hair in LONG_HAIRS else 0.22
        edge += steep * np.abs(patch.x - (x + 0.09 * p.parting)) * unit(-4 * patch.y)
    return edge + (0.02 if p.hair == "fringe" else 0.008) * grain


def _locks(patch: Patch, p: FaceParameters, grain: Array) -> Array:
    """Two locks that frame the face and hide the ears."""
    wide = p.head_width
    low = 0.27 if p.hair == "bob" else 0.46
    outer = patch.blob(0.005 * p.yaw, 0.0, wide + 0.035 + 0.03 * p.volume, p.skull, low, 0.7)
    inner = patch.blob(0.03 * p.yaw, 0.03, wide * 0.85, 0.35, 0.8, 0.5)
    wave = 0.012 * np.sin(patch.y * 42 + 6 * p.parting) if p.hair == "wavy" else 0.0
    return np.maximum(np.maximum(outer, -inner) + 0.015 * grain + wave, -0.16 - patch.y)


def _temples(patch: Patch, p: FaceParameters, grain: Array, top: float, bottom: float, off: float) -> Array:
    """Coverage of short hair over the ears between two heights."""
    ring = np.maximum(_cap(patch, p, off) + 0.006 * grain, -patch.blob(0.03 * p.yaw, 0.02, p.head_width * 0.88, 0.3))
    ring = np.maximum(ring, np.maximum(top - patch.y, patch.y - bottom) + 0.02 * grain)
    return patch.cover(ring, 0.02)


def _rim(canvas: Patch, p: FaceParameters, tex: Strands, off: float) -> None:
    """Short hair over the ears only: under a hat, or what baldness leaves."""
    patch = canvas.crop(0, -0.03, 0.30, 0.11)
    grain = tex.hair[patch.place]
    patch.paint(0.92 * _temples(patch, p, grain, -0.11, 0.045, off), _lit(patch, p, grain))


def _bald(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    x, crown = 0.09 * p.light[0] + 0.01 * p.yaw, -p.skull + 0.10 + 0.03 * p.light[1]
    patch = canvas.crop(x, crown, 0.17, 0.09)
    patch.tint(0.5 * patch.spot(x, crown, 0.17, 0.09), features.LIGHT)
    patch.paint(0.5 * patch.spot(x, crown - 0.01, 0.07, 0.034), _SHINE)
    if p.horseshoe:
        _rim(canvas, p, tex, 0.012)


def _beard_colour(p: FaceParameters, patch: Patch, grain: Array) -> Array:
    shade = (0.92 + 0.35 * p.light[0] * patch.x) * (1 + _depth(p.beard_rgb) * grain)
    return colour(p.beard_rgb) * shade + np.float32(0.04) * np.maximum(grain, 0)


def beard(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """Full beard over jaw and chin, goatee, sideburns, or the shadow of a shaved one.  Painted before the lips."""
    if p.beard == "none" and not p.sideburns:
        return
    patch = canvas.crop(0, 0.2, 0.28, 0.22)
    grain = tex.beard[patch.place]
    x, y = features.centre(p)
    mx, my = features.mouth_place(p)
    if p.beard in ("full", "shadow"):
        grow = 0.012 if p.beard == "full" else -0.002
        jaw = features.head(patch, p, grow, 0.03 if p.beard == "full" else 0.0) + 0.012 * grain
        cheeks = patch.blob(x, y - 0.02, p.head_width * 0.86, 0.3, my - y - 0.015, 0.35)
        shape = np.maximum(jaw, -cheeks - 0.012 * grain)
        shape = np.maximum(shape, 0.015 - patch.y)
        if p.beard == "full":
            patch.paint(0.95 * patch.cover(shape, 0.018), _beard_colour(p, patch, grain))
        else:
            patch.tint(0.55 * patch.cover(shape, 0.04) * (0.8 + 0.4 * grain), _STUBBLE)
            lip = patch.spot(mx, my - 0.035, 0.1, 0.035)
            patch.tint(0.5 * lip, _STUBBLE)
    elif p.beard in ("goatee", "circle"):
        low = p.chin + 0.02
        middle = 0.5 * (my + 0.03 + low)
        shape = patch.blob(mx, middle, 0.085, middle - my - 0.025, low - middle, 0.3)
        if p.beard == "circle":
            # A ring round the mouth; the lips are painted over its inside.
            ring = patch.blob(mx, my + 0.03, 0.125, 0.085, 0.09, 0.3)
            shape = np.minimum(shape, np.maximum(ring, -patch.blob(mx, my, 0.088, 0.03, 0.045)))
        patch.paint(0.95 * patch.cover(shape + 0.012 * grain, 0.014), _beard_colour(p, patch, grain))
    if p.sideburns and p.beard != "full":
        patch = canvas.crop(0, 0.05, 0.32, 0.16)
        grain = tex.beard[patch.place]
        patch.paint(_temples(patch, p, grain, -0.05, 0.13, 0.0), _beard_colour(p, patch, grain))


def mustache(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """The moustache lies over the upper lip."""
    if p.beard not in ("mustache", "circle", "full"):
        return
    x, y = features.mouth_place(p)
    top = features.nose_tip(p)[1] + 0.026
    middle = 0.5 * (top + y) - 0.002
    patch = canvas.crop(x, middle, 0.13, 0.07)
    grain = tex.beard[patch.place]
    half = 0.105 if p.beard == "mustache" else 0.118
    shape = patch.lens(x, middle, half, middle - top + 0.004, y - middle + 0.004, 0.032) + 0.008 * grain
    patch.paint(0.95 * patch.cover(shape, 0.012), _beard_colour(p, patch, grain))


def hat(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    if p.hat == "none":
        return
    patch = canvas.crop(0, -0.25, 0.44, 0.22)
    wide, brim = p.head_width + 0.03, -0.135
    crown = patch.blob(0.008 * p.yaw, brim, wide, p.skull + brim + 0.085, 0.06, 0.6 if p.hat == "brim" else 0.2)
    line = patch.y - brim - (0.5 if p.hat == "beanie" else 0.25) * patch.x * patch.x
    knit = (0.25 if p.hat == "beanie" else 0.06) * tex.beard[patch.place]
    cloth = colour(p.hat_rgb) * ((1 + 1.1 * p.light[0] * patch.x - 0.6 * (patch.y + 0.25)) * (1 + knit))
    patch.tint(0.7 * patch.spot(0, brim + 0.02, 0.28, 0.09), _CAST)
    patch.paint(patch.cover(np.maximum(crown, line), 0.006), cloth)
    if p.hat == "beanie":
        band = np.maximum(crown - 0.008, np.maximum(line, -0.075 - line))
        patch.paint(patch.cover(band, 0.006), 0.75 * cloth)
    elif p.hat == "cap":
        visor = patch.lens(0.05 * p.yaw, brim - 0.02, wide, 0.03, 0.075, 0.035)
        patch.paint(patch.cover(visor), cloth * (0.45 + 4 * np.maximum(brim + 0.045 - patch.y, 0)))
    else:
        band = np.maximum(crown, np.maximum(line, -0.06 - line))
        patch.paint(patch.cover(band, 0.006), 0.35 * cloth)
        patch.paint(patch.cover(patch.lens(0.02 * p.yaw, brim - 0.005, wide + 0.14, 0.03, 0.035, -0.025)), 0.85 * cloth)
