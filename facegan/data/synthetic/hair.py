"""Hair of every kind: crown, fringe and long hair, bald heads, and hats, which replace the hair on top.

Outlines are smooth; strands only shade them, and run along them: a texture is looked up by how far a point lies across
the hair's flow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facegan.data.synthetic import features
from facegan.data.synthetic.canvas import Array, Patch, colour, texture, unit
from facegan.data.synthetic.parameters import LONG_HAIRS, RGB, FaceParameters, stream

# How far the hair stands off the skull, from flat to full, where it is not the common (0.02, 0.042).
_VOLUME = {"crop": (0.008, 0.014), "curly": (0.035, 0.06), "receding": (0.012, 0.024), "tied": (0.014, 0.026)}
_CAST = colour((0.62, 0.55, 0.52))  # the hair's soft shadow on the skin
_SHINE = colour((1.0, 0.97, 0.94))
_CURL, _WAVE = 130.0, 42.0  # radians per image height


@dataclass(frozen=True)
class Strands:
    """Strands beside each other, [along, across], in about [-1, 1], and the face's own phase in [0, 2 pi)."""

    table: Array
    phase: float

    def flow(self, across: Array, along: Array) -> Array:
        """Strand brightness where ``across`` in [-0.5, 0.5] and ``along`` in [-0.5, 0.7] say, both in image heights."""
        rows, columns = self.table.shape
        row = np.minimum(np.maximum((along + 0.5) * (rows / 1.2), 0), rows - 1).astype(np.int32)
        column = np.minimum(np.maximum((across + 0.5) * columns, 0), columns - 1).astype(np.int32)
        row *= columns
        row += column
        return self.table.ravel().take(row)


def strands(p: FaceParameters, resolution: int) -> Strands:
    if p.bald and not p.horseshoe and p.beard == "none" and not p.sideburns:
        return Strands(np.zeros((1, 1), dtype=np.float32), 0.0)
    rng = stream(p.seed, p.index, 2)
    size = resolution // 2, resolution if resolution < 100 else 2 * resolution
    return Strands(1.3 * texture(rng, size, 9, 30, (1, 3)), float(6.28 * rng.random()))


def depth(rgb: RGB) -> float:
    """How strongly strands vary in brightness: dark hair needs more of it to be seen, bright hair turns to metal."""
    return 0.46 - 0.28 * max(rgb)


def _grain(patch: Patch, p: FaceParameters, tex: Strands) -> Array:
    """Brightness of the hair's strands, which part at the crown and fall along the outline of the head."""
    if p.hair == "curly":
        return _curls(patch, tex)
    x = patch.x - (0.03 * p.yaw + 0.09 * p.parting)
    rise = np.maximum((-0.05 - patch.y) * (1 / (p.skull + 0.02)), 0)
    wide = np.sqrt(np.maximum(1 - rise * rise, 0.05))
    x /= wide
    if p.hair == "wavy":
        x += 0.010 * np.sin(_WAVE * patch.y + 6 * p.parting)
    if p.hair == "crop":
        x *= 1.3
    grain = tex.flow(x, patch.y)
    grain *= wide
    return grain


def _curls(patch: Patch, tex: Strands) -> Array:
    """Round curls on a lattice that bends; they fade where they fall below two pixels."""
    x, y = _CURL * patch.x, _CURL * patch.y
    x += 0.9 * np.sin(0.47 * y + tex.phase)
    y += 0.9 * np.sin(0.53 * x - tex.phase)
    half, rise = 0.5 * x, 0.866 * y
    # Three waves at 60 degrees make round hills.
    hills = np.cos(x) + 2 * np.cos(half) * np.cos(rise)
    hills *= np.float32(0.36 * max(0.0, np.sinc(_CURL * patch.pixel / np.pi)))
    return hills


def lit(patch: Patch, p: FaceParameters, grain: Array) -> Array:
    """Hair colour [3, h, w] under the face's light: strands, a side light and a gloss band over the crown."""
    gloss = patch.spot(0.14 * p.light[0], -0.245, 0.25, 0.085)
    gloss *= 1 + 0.7 * grain
    shade = (0.92 + 0.4 * p.light[0] * patch.x) * (1 + depth(p.hair_rgb) * grain) + 0.28 * gloss
    # Black hair would stay flat under a pure product: add a little grey gloss.
    return colour(p.hair_rgb) * shade + np.float32(0.065) * np.maximum(gloss + 0.5 * grain + 0.1, 0)


def _rounded(patch: Patch, shape: Array) -> Array:
    """Shade that makes a mass of hair round: darker towards its edges, as light glances off there."""
    return 0.74 + 0.26 * unit(shape * (-1 / 0.045))


def _cap(patch: Patch, p: FaceParameters, off: float) -> Array:
    """Distance to the outer line of the hair, ``off`` beyond the skull at the sides and more at the top."""
    rise = 1.1 if p.hair in LONG_HAIRS else 1.5
    return patch.blob(0.008 * p.yaw, -0.05, p.head_width + off, p.skull - 0.05 + rise * off, 0.3, 0.25)


def _volume(p: FaceParameters) -> float:
    low, high = _VOLUME.get(p.hair, (0.02, 0.042))
    if p.hair in LONG_HAIRS:
        low, high = 0.035, 0.062
    return low + (high - low) * p.volume


def _tips(patch: Patch, tex: Strands, deep: float) -> Array:
    """The ends of locks along a line across the hair, each a round tip."""
    tips = np.sin(57 * patch.x + tex.phase)
    tips += 0.6 * np.sin(99 * patch.x - 2 * tex.phase)
    tips *= deep
    return tips


def _waves(patch: Patch, p: FaceParameters, tex: Strands) -> Array:
    """How far the outline of long hair strays below the temples: round tips and, where it is wavy, waves."""
    waves = _tips(patch, tex, 0.005)
    if p.hair == "wavy":
        waves += 0.010 * np.sin(patch.y * _WAVE + 6 * p.parting)
    waves *= unit((patch.y + 0.05) * 8)
    return waves


def behind(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """Long hair behind neck and shoulders."""
    if p.bald or p.hair not in LONG_HAIRS:
        return
    length = 0.27 if p.hair == "bob" else 0.47
    patch = canvas.crop(0, 0.25, 0.36, 0.30)
    edge = patch.blob(0.008 * p.yaw, -0.05, p.head_width + _volume(p) - 0.01, 0.4, length + 0.05, 0.7)
    shade = 0.68 * _rounded(patch, edge)
    edge += _waves(patch, p, tex)
    patch.paint(patch.cover(edge, 0.008), colour(p.hair_rgb) * shade)


def front(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """The hair over the skull, cut open where the face shows; for a bald head the shine and the rim of hair."""
    long = p.hair in LONG_HAIRS
    if p.bald:
        _bald(canvas, p, tex)
        return
    if p.hat != "none" and not long:
        _rim(canvas, p, tex, -0.20, 0.006)
        return
    patch = canvas.crop(0, 0.06 if long else -0.17, 0.36, 0.5 if long else 0.27)
    grain = _grain(patch, p, tex)
    cap = _cap(patch, p, _volume(p))
    if p.hair == "curly":
        cap -= 0.013 * np.maximum(grain, -0.3)
    skin = -_opening(patch, p, tex, grain)
    if long:
        # Two locks frame the face and hide the ears; the cap goes over into them without a step.
        waves = _waves(patch, p, tex)
        low = 0.27 if p.hair == "bob" else 0.46
        locks = patch.blob(0.008 * p.yaw, -0.05, p.head_width + _volume(p), 0.4, low + 0.05, 0.7) + waves
        cap = np.minimum(cap, np.maximum(locks, -0.075 - patch.y))
        skin += waves
    soft = {"crop": 0.024, "curly": 0.012, "receding": 0.02}.get(p.hair, 0.008)
    # Softness is for the hairline; the outline stays crisp.
    shape = np.maximum(cap * (soft * 125), skin)
    # The shadow falls inwards only: it is cast on the skin, not on the wall.
    cap *= 8
    cast = patch.cover(np.maximum(cap, skin, out=cap), 0.06)
    if not long:
        # Short hair thins out at the ears.
        thin = unit((0.05 - patch.y) * (1 / 0.045))
        cast *= thin
    patch.tint(0.45 * cast, _CAST)
    shade = _rounded(patch, shape)
    cover = patch.cover(shape, soft)
    if not long:
        cover *= thin
    patch.paint(cover, shade * lit(patch, p, grain))
    if p.hair == "tied":
        bun = canvas.crop(0, -p.skull - 0.04, 0.1, 0.075)
        shape = bun.blob(-0.02 * p.yaw, -p.skull - 0.035, 0.085, 0.055)
        shade = _rounded(bun, shape)
        grain = tex.flow(0.8 * bun.y - 0.3 * bun.x, bun.x)
        bun.paint(bun.cover(shape, 0.008), shade * lit(bun, p, grain))


def _opening(patch: Patch, p: FaceParameters, tex: Strands, grain: Array) -> Array:
    """Distance to the part of the head where no hair grows or falls: hairline, parting and temples."""
    x, high, square, inner, low = 0.03 * p.yaw, p.skull - 0.1, 0.55, 0.93 * p.head_width, 0.36
    if p.hair in LONG_HAIRS:
        high, square, inner, low = p.skull - 0.06, 0.3, 0.85 * p.head_width, 0.8
    if p.hair == "fringe":
        high, square = 0.085, 0.8
    elif p.hair == "receding":
        high = p.skull - 0.06
    edge = patch.blob(x, 0.04, inner, high + 0.04, low, square)
    if p.hair == "receding":
        # An M: a tuft stays in the middle between two bare corners.
        corners = patch.mirror(x).blob(0.125, -p.skull + 0.115, 0.095, 0.1)
        np.maximum(corners, features.head(patch, p, -0.012), out=corners)  # hair behind them closes the outline
        tuft = patch.blob(x, -p.skull + 0.02, 0.055, 0.1, 0.085)
        return np.maximum(np.minimum(edge, corners), 0.004 - tuft)
    if p.hair == "fringe":
        return edge + _tips(patch, tex, 0.004)
    if p.hair == "curly":
        return edge + 0.013 * grain
    if p.hair == "short":
        edge += _tips(patch, tex, 0.0045)
    if p.hair not in ("crop", "tied"):
        # From the parting the hair falls to both sides.
        steep = 0.4 if p.hair in LONG_HAIRS or p.hair == "side" else 0.22
        edge += steep * np.abs(patch.x - (x + 0.09 * p.parting)) * unit(-4 * patch.y)
    return edge


def temples(patch: Patch, p: FaceParameters, top: float, bottom: float, off: float) -> Array:
    """Coverage of short hair over the ears between two heights, fading out at both."""
    cap = _cap(patch, p, off)
    inner = -patch.blob(0.03 * p.yaw, 0.02, p.head_width * 0.88, 0.3)
    # Both ends run to a point at the outline.
    fade = unit((np.minimum(patch.y - (top - 0.03), (bottom + 0.03) - patch.y) + 1.2 * np.minimum(cap, 0)) * (1 / 0.05))
    fade *= patch.cover(inner, 0.03)
    fade *= patch.cover(cap, 0.010)
    return fade


def _rim(canvas: Patch, p: FaceParameters, tex: Strands, top: float, off: float) -> None:
    """Short hair over the ears only: under a hat, or what baldness leaves."""
    patch = canvas.crop(0, -0.03, 0.30, 0.12)
    patch.paint(0.92 * temples(patch, p, top, 0.045, off), lit(patch, p, tex.flow(1.3 * patch.x, patch.y)))


def _bald(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    x, crown = 0.09 * p.light[0] + 0.01 * p.yaw, -p.skull + 0.10 + 0.03 * p.light[1]
    patch = canvas.crop(x, crown, 0.17, 0.09)
    patch.tint(0.45 * patch.spot(x, crown, 0.17, 0.09), features.LIGHT)
    patch.paint(0.42 * patch.spot(x, crown - 0.01, 0.08, 0.036), _SHINE)
    if p.horseshoe:
        _rim(canvas, p, tex, -0.11, 0.012)


def hat(canvas: Patch, p: FaceParameters) -> None:
    if p.hat == "none":
        return
    patch = canvas.crop(0, -0.25, 0.44, 0.22)
    wide, brim = p.head_width + 0.03, -0.135
    crown = patch.blob(0.008 * p.yaw, brim, wide, p.skull + brim + 0.085, 0.06, 0.6 if p.hat == "brim" else 0.2)
    line = patch.y - brim - (0.5 if p.hat == "beanie" else 0.25) * patch.x * patch.x
    folds: Array = 1 + p.light[0] * patch.x - 0.6 * (patch.y + 0.25)
    folds *= _rounded(patch, crown)
    cloth = colour(p.hat_rgb) * folds
    patch.tint(0.7 * patch.spot(0, brim + 0.02, 0.28, 0.09), _CAST)
    if p.hat == "beanie":
        # Ribs run up and meet at the crown; they fade where they fall below two pixels.
        rise = np.maximum((brim - patch.y) * (1 / (p.skull + brim + 0.1)), 0)
        ribs = np.cos(patch.x / np.sqrt(np.maximum(1 - rise * rise, 0.08)) * 210)
        ribs *= np.float32(0.10 * max(0.0, np.sinc(210 * patch.pixel / np.pi)))
        cloth *= 1 + ribs
    patch.paint(patch.cover(np.maximum(crown, line), 0.006), cloth)
    if p.hat == "beanie":
        band = np.maximum(crown - 0.008, np.maximum(line, -0.075 - line))
        patch.paint(patch.cover(band, 0.006), 0.78 * cloth)
    elif p.hat == "cap":
        visor = patch.lens(0.05 * p.yaw, brim - 0.02, wide, 0.03, 0.075, 0.035)
        patch.paint(patch.cover(visor), cloth * (0.5 + 4 * np.maximum(brim + 0.045 - patch.y, 0)))
    else:
        band = np.maximum(crown, np.maximum(line, -0.06 - line))
        patch.paint(patch.cover(band, 0.006), 0.4 * cloth)
        patch.paint(patch.cover(patch.lens(0.02 * p.yaw, brim - 0.005, wide + 0.14, 0.03, 0.035, -0.025)), 0.9 * cloth)
