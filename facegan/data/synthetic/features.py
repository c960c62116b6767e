"""The bare face: body, skin, eyes, nose, mouth, lines, brows and glasses.

``canvas`` is the whole picture, ``pair`` the same picture folded between the eyes (see ``pair``).
"""

from __future__ import annotations

import numpy as np

from facegan.data.synthetic.canvas import Array, Patch, colour, unit
from facegan.data.synthetic.parameters import FaceParameters

HEAD_Y = -0.02  # height of the skull's widest place
SHADOW = colour((0.62, 0.52, 0.50))  # skin in shadow turns warm, not gray
LIGHT = colour((1.28, 1.26, 1.24))
_CHEEK = colour((1.07, 0.89, 0.89))
_WARM = colour((1.0, 0.93, 0.90))
_WHITE = colour((1.0, 1.0, 1.0))
_PUPIL = colour((0.03, 0.03, 0.03))
_LASH = colour((0.09, 0.06, 0.05))
_THROAT = colour((0.20, 0.06, 0.06))
_GLOSS = colour((1.22, 1.20, 1.20))
_SEAM = colour((0.42, 0.36, 0.36))  # between closed lips
_NOSTRIL = colour((0.36, 0.26, 0.24))
_WRAP = 0.45  # how far light reaches round the head
_LENS = colour((1.05, 1.07, 1.10))


def centre(p: FaceParameters) -> tuple[float, float]:
    """How far pose slides the features over the skull."""
    return 0.055 * p.yaw, 0.022 * p.pitch


def pair(canvas: Patch, p: FaceParameters) -> Patch:
    """The picture folded between the eyes: one stroke at ``p.eye_gap`` draws both eyes, the far one closer in."""
    return canvas.mirror(centre(p)[0], 0.13 * p.yaw)


def head(patch: Patch, p: FaceParameters, grow: float = 0.0, chin: float = 0.0) -> Array:
    """Distance to the outline of skull and jaw; ``grow`` widens all of it and ``chin`` the lower end."""
    up, down = p.skull + HEAD_Y + grow, p.chin - HEAD_Y + grow + chin
    return patch.blob(0.012 * p.yaw, HEAD_Y, p.head_width + grow, up, down, 0.12 + p.jaw * (0.5 if p.male else 0.3))


def nose_tip(p: FaceParameters) -> tuple[float, float]:
    x, y = centre(p)
    return x + 0.025 * p.yaw, y + p.nose_length - 0.02


def mouth_place(p: FaceParameters) -> tuple[float, float]:
    x, y = centre(p)
    return x + 0.006 * p.yaw, y + 0.5 * (p.nose_length + p.chin) - 0.018


def body(canvas: Patch, p: FaceParameters) -> None:
    """Shoulders with clothing, neck and ears."""
    lx = p.light[0]
    patch = canvas.crop(0, 0.55, 1.2, 0.40)
    neck = 0.132 if p.male else 0.100
    shade = 1 + np.float32(0.35 * lx) * patch.x
    # The neck widens into the shoulders.
    flare = np.maximum(patch.y - 0.30, 0)
    flare *= flare * 1.8
    throat = np.maximum(np.abs(patch.x) - flare - neck, 0.15 - patch.y)
    throat = patch.cover(throat)
    patch.paint(throat, colour(p.skin_rgb, 0.97) * shade)
    throat *= patch.spot(0.01 * p.yaw - 0.03 * lx, p.chin - 0.05, 0.28, 0.16)
    patch.tint(0.8 * throat, SHADOW)  # the chin's shadow
    cloth = patch.blob(0, 0.72, 0.56 if p.male else 0.46, 0.27, square=0.35)
    opening = patch.blob(0, 0.40, neck + 0.02 + 0.03 * p.neckline, 0.1, 0.07 + 0.12 * p.neckline)
    hem = patch.cover(opening - 0.02)
    folds = shade * (1.3 - 0.6 * patch.y)
    folds *= 1 - 0.16 * hem
    patch.paint(patch.cover(np.maximum(cloth, -opening)), colour(p.clothes_rgb) * folds)
    x = p.head_width - 0.002
    ear = canvas.crop(-0.03 * p.yaw, 0.045, x + 0.05, 0.07)
    light = colour(p.skin_rgb) * (0.92 + 0.7 * lx * ear.x)
    ear = ear.mirror(-0.03 * p.yaw)
    ear.paint(ear.cover(ear.blob(x, 0.045, 0.036, 0.062, 0.055, 0.2)), light)
    ear.tint(0.5 * ear.spot(x + 0.004, 0.045, 0.026, 0.045), SHADOW)


def skin(canvas: Patch, p: FaceParameters) -> None:
    """The head as a softly lit, rounded surface (wrapped Lambert), with eye sockets, cheeks, forehead and chin on it."""
    patch = canvas.crop(0, 0.0, 0.28, 0.40)
    nx = (patch.x - 0.012 * p.yaw) * (0.86 / p.head_width)
    ny = (patch.y - 0.03) * (1.6 / (p.skull + p.chin))
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.04))
    lx, ly, lz = p.light
    reach = (1.08 - p.ambient) / (1 + _WRAP) * (lx * lx + ly * ly + lz * lz) ** -0.5
    shade = lx * reach * nx + ly * reach * ny + lz * reach * nz
    shade += np.float32(_WRAP / (1 + _WRAP) * (1.08 - p.ambient))
    shade = np.maximum(shade, 0) + np.float32(p.ambient)
    x, y = centre(p)
    shade += 0.10 * patch.spot(x + 0.05 * lx, -0.17, 0.19, 0.11) + 0.08 * patch.spot(x, p.chin - 0.05, 0.07, 0.045)
    # Shadow is redder than light: light that enters skin comes out red (subsurface scattering).
    patch.paint(patch.cover(head(patch, p)), colour(p.skin_rgb) * (shade * (_WARM + (1 - _WARM) * shade)))
    both = canvas.crop(x, y + 0.06, 0.21, 0.14).mirror(x, 0.13 * p.yaw)
    both.tint((0.55 if p.male else 0.7) * both.spot(p.eye_gap + 0.025, y + 0.112, 0.085, 0.07), _CHEEK)
    both.tint(0.45 * both.spot(p.eye_gap - 0.010, y - 0.02, 0.085, 0.055), SHADOW)


def eyes(canvas: Patch, pair: Patch, p: FaceParameters) -> None:
    """Whites, irises with a dark rim, pupils, catch lights, lids and the bags under them."""
    (x, y), gap, half = centre(p), p.eye_gap, 1.08 * p.eye_size
    smile = max(0.0, p.smile)
    up, down, tilt = 0.0285 - 0.003 * smile, 0.020 - 0.003 * smile, -0.08
    eye = pair.crop(x, y, gap + half + 0.035, 0.06)
    inside = eye.cover(eye.lens(gap, y, half, up, down, 0.0, tilt))
    # The upper lid shades the ball; the light that it lets in gathers in the lower half of the iris.
    low = unit((eye.y - (y - 0.024)) * 28)
    eye.paint(inside, colour((0.94, 0.92, 0.90), 0.75 + 0.25 * p.ambient) * (0.68 + 0.32 * low))
    iris = eye.blob(gap, y - 0.004, 0.0245, 0.0245)
    glow = colour(p.iris_rgb) * (0.75 + 1.1 * low)
    eye.paint(inside * eye.cover(iris + 0), colour(p.iris_rgb, 0.4))
    iris += 0.0045
    eye.paint(inside * eye.cover(iris, 0.006), glow)
    eye.paint(inside * eye.cover(eye.blob(gap, y - 0.004, 0.0115, 0.0115)), _PUPIL)
    # Both catch lights lie on the side of the lamp.
    glint = np.sign(canvas.x[eye.place] - x)
    glint *= -0.0075 if p.light[0] > 0 else 0.0075
    glint += eye.x
    at = Patch(eye.rgb, glint, eye.y, eye.pixel, eye.pose, eye.place)
    eye.paint(0.95 * eye.cover(at.blob(gap, y - 0.012, 0.0066, 0.0066)), _WHITE)
    # Women's lashes are heavier and longer.
    lash = (0.0062, 0.004, 0.0) if p.male else (0.0090, 0.011, -0.05)
    lid = eye.stroke(gap + 0.4 * lash[1], y - up, half + lash[1], lash[0], up, tilt + lash[2])
    eye.paint(0.9 * lid, _LASH)
    crease = 0.5 * eye.stroke(gap, y - up - 0.014, half, 0.0035, up * 0.8, tilt)
    crease += 0.4 * eye.stroke(gap, y + down + 0.001, half * 0.9, 0.003, -down)
    if p.bags:
        crease += 0.6 * eye.stroke(gap, y + 0.048, 0.042, 0.006, -0.018)
    eye.tint(crease, SHADOW)


def brows(pair: Patch, p: FaceParameters) -> None:
    """Thick at the nose and thin at the temple."""
    x, y = centre(p)
    dark = colour(p.hair_rgb, 0.7 if p.hair_colour in ("blond", "gray") else 0.9)
    brow = pair.crop(x, y - 0.07, p.eye_gap + 0.09, 0.05)
    thick = p.brow * (1.0 if p.male else 0.68)
    shape = brow.lens(p.eye_gap + 0.008, y - 0.072, 0.066, thick, 0.7 * thick, 0.022, p.brow_tilt)
    shape += 0.10 * thick * (brow.x - p.eye_gap) * (1 / 0.03)
    brow.paint(0.88 * brow.cover(shape, 0.008), dark)


def nose(canvas: Patch, p: FaceParameters) -> None:
    """Bridge light, the shaded side, tip, wings and nostrils: soft shapes only."""
    (x, y), root, wide = nose_tip(p), centre(p)[0], p.nose_width
    patch = canvas.crop(0.5 * (x + root), y - 0.04, 0.09, 0.115)
    # Bridge and its shadow run along a line from between the eyes to the tip.
    slide = patch.x - (x + (x - root) / 0.12 * (patch.y - y))
    fall = np.maximum(1 - np.abs(patch.y - (y - 0.05)) * (1 / 0.085), 0)
    away = -0.62 * wide if p.light[0] > 0 else 0.62 * wide
    side = np.maximum(1 - ((slide - away) * (1 / (0.68 * wide))) ** 2, 0)
    folded = patch.mirror(x)
    dark = (0.16 + 0.28 * abs(p.light[0])) * side * fall
    dark += 0.55 * patch.spot(x, y + 0.030, wide * 1.2, 0.022)
    dark += 0.35 * folded.spot(wide * 1.12, y + 0.006, wide * 0.42, 0.030)
    patch.tint(dark, SHADOW)
    light = 0.32 * np.maximum(1 - (slide * (1 / (0.36 * wide))) ** 2, 0) * fall
    light += 0.55 * patch.spot(x + 0.006 * p.light[0], y - 0.006, wide * 0.62, 0.026)
    light += 0.22 * folded.spot(wide * 0.8, y + 0.004, wide * 0.36, 0.018)
    patch.tint(light, LIGHT)
    nostril = folded.cover(folded.blob(wide * 0.5, y + 0.0195, wide * 0.27, 0.0062), 0.008)
    patch.paint(0.62 * nostril, colour(p.skin_rgb) * _NOSTRIL)


def mouth(canvas: Patch, p: FaceParameters) -> None:
    """Lips around a mouth line or, when it is open, around teeth."""
    x, y = mouth_place(p)
    smile = max(0.0, p.smile)
    half = p.mouth_width * (1 + 0.18 * smile)
    gap = 0.030 * p.mouth_open if p.mouth_open >= 0.3 else 0.0
    bend = -0.026 * p.smile if p.smile > 0 else -0.013 * p.smile  # corners rise with a smile
    patch = canvas.crop(x, y, half + 0.02, 0.09)
    y += 0.010 * smile
    tone = colour(p.skin_rgb) * colour((0.88, 0.66, 0.62) if p.male else p.lip_rgb)
    # The upper lip has a bow in the middle and lies in shadow, the lower one is full and catches the light.
    rise = np.abs(patch.x - x)
    bow = 0.30 * p.lip * np.maximum(1 - rise * (1 / 0.022), 0)
    line = y + bend * ((patch.x - x) * (1 / half)) ** 2
    above = unit((line - patch.y) * (1 / max(patch.pixel, 0.006)) + 0.5)
    lips = patch.cover(patch.lens(x, y, half, p.lip * 0.9 + 0.3 * gap, p.lip * 1.3 + gap, bend) + bow * above)
    strength = 0.8 if p.male else 0.92
    patch.paint(strength * lips, tone * (1.04 - 0.2 * above))
    patch.tint(0.5 * patch.spot(x, y + 0.75 * p.lip + gap, half * 0.55, p.lip * 0.6), _GLOSS)
    if gap:
        inner = patch.cover(patch.lens(x, y, half * 0.86, 0.3 * gap, gap, bend * 0.9))
        patch.paint(inner, _THROAT)
        inner *= patch.cover(patch.y - (line + (0.36 + 0.26 * smile) * gap), 0.006)
        round_off = 1 - 0.30 * (rise * (1 / half)) ** 2
        patch.paint(inner, colour((0.96, 0.94, 0.91), 0.78 + 0.22 * p.ambient) * round_off)
    else:
        patch.paint(0.85 * patch.stroke(x, y, half, 0.0048, bend), tone * _SEAM)
    if p.beard not in ("goatee", "circle", "full"):
        patch.tint(0.4 * patch.spot(x, y + p.lip * 1.3 + gap + 0.016, half * 0.7, 0.018), SHADOW)


def age_lines(canvas: Patch, pair: Patch, p: FaceParameters) -> None:
    """Folds from nose to mouth, deeper in a smile and with age; lines on the brow and crow's feet of the old."""
    x, y = centre(p)
    mx, my = mouth_place(p)
    fy = 0.5 * (my + y + p.nose_length) - 0.012
    folds = canvas.crop(mx, fy, p.mouth_width + 0.05, 0.06).mirror(mx)
    fold = 0.04 + 0.18 * max(0.0, p.smile) + 0.26 * max(0.0, p.age - 0.3)
    folds.tint(fold * folds.stroke(p.mouth_width + 0.012, fy, 0.055, 0.0095, -0.02, 0.35, True), SHADOW)
    old = max(0.0, p.age - 0.5) * 2
    if old <= 0:
        return
    # No brow wrinkles like ruled paper: lengths, places and depths differ.
    brow = canvas.crop(x, y - 0.155, 0.15, 0.06)
    lean = 0.03 * p.parting
    lines = 0.8 * brow.stroke(x + 0.3 * lean, y - 0.128, 0.115, 0.0045, 0.010, 0.3 * lean)
    lines += brow.stroke(x - 0.4 * lean, y - 0.158, 0.095, 0.0050, 0.007, -0.5 * lean)
    lines += 0.6 * brow.stroke(x + lean, y - 0.184, 0.060, 0.0040, 0.004, lean)
    brow.tint(0.34 * old * lines, SHADOW)
    feet = pair.crop(x, y, p.eye_gap + p.eye_size + 0.06, 0.03)
    outer = p.eye_gap + p.eye_size + 0.026
    crow = feet.stroke(outer, y - 0.008, 0.017, 0.003, 0.003, -0.45) + feet.stroke(outer, y + 0.012, 0.019, 0.003, -0.003, 0.5)
    feet.tint(0.36 * old * crow, SHADOW)


def glasses(canvas: Patch, pair: Patch, p: FaceParameters) -> None:
    if p.glasses == "none":
        return
    x, y = centre(p)
    frame = colour(p.glasses_rgb)
    square, height = (0.1, 0.062) if p.glasses == "round" else (0.7, 0.052)
    patch = pair.crop(x, y, p.head_width + 0.06, 0.08)
    outside = patch.blob(p.eye_gap + 0.004, y + 0.008, 0.074, height, height * 1.12, square)
    inside = patch.cover(outside + 0.0105)
    # A slanted reflection on both lenses.
    slant: Array = np.abs(patch.x - p.eye_gap + 0.6 * (patch.y - y) + 0.02)
    shine: Array = inside * unit((0.022 - slant) * 60)
    if p.glasses == "sun":
        patch.paint(0.88 * inside, frame * (0.6 + 1.3 * unit((patch.y - y + 0.03) * 9)))
        patch.paint(0.14 * shine, _WHITE)
    else:
        patch.tint(inside, _LENS)
        patch.paint(0.09 * shine, _WHITE)
    outer, end = p.eye_gap + 0.074, p.head_width + 0.003
    rim = patch.cover(outside) - inside
    np.maximum(rim, patch.stroke(0.5 * (outer + end), y - 0.012, 0.5 * (end - outer) + 0.01, 0.006), out=rim)
    np.maximum(rim, patch.stroke(0, y - 0.008, p.eye_gap - 0.06, 0.006, 0.006), out=rim)
    patch.paint(rim, frame)
