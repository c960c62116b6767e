"""Beards of every kind: full ones that follow the jaw, goatees, moustaches, sideburns and stubble."""

from __future__ import annotations

import numpy as np

from facegan.data.synthetic import features
from facegan.data.synthetic.canvas import Array, Patch, colour, unit
from facegan.data.synthetic.hair import Strands, depth, temples
from facegan.data.synthetic.parameters import FaceParameters

_STUBBLE = colour((0.62, 0.63, 0.67))


def _grain(patch: Patch, p: FaceParameters, tex: Strands, narrow: float) -> Array:
    """Strands that fall from the cheeks and gather below the chin, the more so the larger ``narrow``."""
    x = features.centre(p)[0]
    fall = unit((patch.y - 0.02) * (1 / (p.chin + 0.06)))
    wide = 1 - narrow * fall * fall
    return tex.flow((patch.x - x + 0.0035 * np.sin(64 * patch.y + 25 * patch.x + tex.phase)) * (1.6 / wide), patch.y)


def _lit(p: FaceParameters, patch: Patch, grain: Array) -> Array:
    """Beard colour [3, h, w] under the face's light; black beards get a little grey gloss."""
    shade = (0.94 + 0.35 * p.light[0] * patch.x) * (1 + 1.3 * depth(p.beard_rgb) * grain)
    return colour(p.beard_rgb) * shade + np.float32(0.045) * np.maximum(grain + 0.2, 0)


def beard(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """Full beard over jaw and chin, goatee, sideburns, or the shadow of a shaved one.  Painted before the lips."""
    if p.beard == "none" and not p.sideburns:
        return
    patch = canvas.crop(0, 0.2, 0.28, 0.23)
    mx, my = features.mouth_place(p)
    if p.beard in ("full", "shadow"):
        _full(patch, p, tex)
    elif p.beard in ("goatee", "circle"):
        low = p.chin + 0.026
        middle = 0.5 * (my + 0.03 + low)
        shape = patch.blob(mx, middle, 0.085, middle - my - 0.022, low - middle, 0.2)
        if p.beard == "circle":
            # A ring round the mouth; the lips are painted over its inside.
            ring = patch.blob(mx, my + 0.03, 0.122, 0.085, 0.09, 0.3)
            shape = np.minimum(shape, np.maximum(ring, -patch.blob(mx, my, 0.088, 0.03, 0.045)))
        grain = _grain(patch, p, tex, 0.5)
        shape += 0.005 * grain
        patch.paint(0.95 * patch.cover(shape, 0.012), _lit(p, patch, grain))
    if p.sideburns and p.beard != "full":
        patch = canvas.crop(0, 0.05, 0.32, 0.16)
        patch.paint(temples(patch, p, -0.05, 0.12, 0.0), _lit(p, patch, tex.flow(patch.x * 1.25, patch.y)))


def _full(patch: Patch, p: FaceParameters, tex: Strands) -> None:
    (x, y), (mx, my) = features.centre(p), features.mouth_place(p)
    full = p.beard == "full"
    grain = _grain(patch, p, tex, 0.45)
    # The beard stands off the jaw; its upper line runs from the ears in a bow to the moustache.
    if full:
        shape = np.minimum(features.head(patch, p, 0.013, 0.0), patch.blob(mx, p.chin - 0.09, 0.15, 0.1, 0.128))
    else:
        shape = features.head(patch, p, -0.004)
    cheeks = patch.blob(x, y - 0.02, p.head_width * 0.86, 0.3, my - y - 0.015, 0.25)
    if not full:
        cover = patch.cover(np.maximum(shape, -cheeks), 0.06)
        cover += 0.9 * patch.spot(mx, my - 0.034, 0.1, 0.035)
        cover *= unit((patch.y - 0.03) * 12)
        patch.tint(0.46 * unit(cover) * (0.95 + 0.12 * grain), _STUBBLE)
        return
    top = 0.0 if p.sideburns else 0.075
    shape += 0.016 * unit(1 - (patch.y - top) * 7)  # it grows out of the skin, and stands off further down
    edge = patch.cover(shape + 0.006 * grain, 0.010)
    edge *= patch.cover(-cheeks - 0.004 - 0.006 * grain, 0.022)
    rise = np.minimum(np.maximum(shape, -0.06), 0)
    rise *= 1.2
    rise += patch.y
    rise -= top - 0.03
    rise *= 1 / 0.06
    edge *= unit(rise)
    # Rounded like the jaw: darker where it turns away and under the lip.
    shape *= -1 / 0.05
    shade: Array = 0.72 + 0.28 * unit(shape)
    shade -= 0.18 * patch.spot(mx, my + 0.035, 0.09, 0.03)
    patch.paint(0.96 * edge, shade * _lit(p, patch, grain))


def mustache(canvas: Patch, p: FaceParameters, tex: Strands) -> None:
    """Two wings over the upper lip, their strands falling away from the middle."""
    if p.beard not in ("mustache", "circle", "full"):
        return
    x, y = features.mouth_place(p)
    top = features.nose_tip(p)[1] + 0.026
    middle = 0.5 * (top + y) - 0.002
    patch = canvas.crop(x, middle, 0.13, 0.07)
    half = 0.105 if p.beard == "mustache" else 0.118
    # Strands spread like a fan from a point above the lip.
    along = np.maximum(patch.y - (top - 0.05), 0.02)
    grain = tex.flow((patch.x - x) * 0.07 / along, patch.y)
    wing = 0.5 * (half + 0.03)
    shape = patch.mirror(x).lens(half - wing, middle + 0.003, wing, middle - top + 0.005, y - middle - 0.001, 0.008, 0.16)
    shade = 0.84 + 0.16 * unit(shape * (-1 / 0.016))
    shape += 0.004 * grain
    patch.paint(0.95 * patch.cover(shape, 0.012), shade * _lit(p, patch, grain))
