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
_THROAT = colour((0.16, 0.05, 0.05))
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
    neck = 0.145 if p.male else 0.112
    shade = 1 + np.float32(0.45 * lx) * patch.x
    patch.paint(patch.cover(patch.blob(0, 0.40, neck, 0.4, square=0.6)), colour(p.skin_rgb, 0.9) * shade)
    patch.tint(0.85 * patch.spot(0.01 * p.yaw, 0.27, 0.30, 0.23), SHADOW)  # the chin's shadow
    cloth = patch.blob(0, 0.72, 0.56 if p.male else 0.46, 0.27, square=0.35)
    opening = patch.blob(0, 0.40, neck + 0.02 + 0.03 * p.neckline, 0.1, 0.07 + 0.12 * p.neckline)
    folds = shade * (1.3 - 0.6 * patch.y)
    patch.paint(patch.cover(np.maximum(cloth, -opening)), colour(p.clothes_rgb) * folds)
    x = p.head_width - 0.002
    ear = canvas.crop(-0.03 * p.yaw, 0.045, x + 0.05, 0.07)
    light = colour(p.skin_rgb) * (0.88 + 0.8 * lx * ear.x)
    ear = ear.mirror(-0.03 * p.yaw)
    ear.paint(ear.cover(ear.blob(x, 0.045, 0.036, 0.062, 0.055, 0.2)), light)
    ear.tint(0.55 * ear.spot(x, 0.045, 0.026, 0.045), SHADOW)


def skin(canvas: Patch, p: FaceParameters) -> None:
    """The head as a lit, rounded surface (Lambert), with eye sockets, cheeks, forehead and chin modelled on it."""
    patch = canvas.crop(0, 0.0, 0.28, 0.40)
    nx = (patch.x - 0.012 * p.yaw) * (0.86 / p.head_width)
    ny = (patch.y - 0.03) * (1.6 / (p.skull + p.chin))
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.04))
    lx, ly, lz = p.light
    reach = (1.08 - p.ambient) * (lx * lx + ly * ly + lz * lz) ** -0.5
    shade = np.maximum(lx * reach * nx + ly * reach * ny + lz * reach * nz, 0) + np.float32(p.ambient)
    x, y = centre(p)
    shade += 0.12 * patch.spot(x + 0.05 * lx, -0.17, 0.19, 0.11) + 0.08 * patch.spot(x, p.chin - 0.05, 0.07, 0.045)
    # Shadow is redder than light: light that enters skin comes out red (subsurface scattering).
    patch.paint(patch.cover(head(patch, p)), colour(p.skin_rgb) * (shade * (_WARM + (1 - _WARM) * shade)))
    both = canvas.crop(x, y + 0.06, 0.21, 0.14).mirror(x, 0.13 * p.yaw)
    both.tint((0.7 if p.male else 0.85) * both.spot(p.eye_gap + 0.02, y + 0.11, 0.09, 0.075), _CHEEK)
    both.tint(0.6 * both.spot(p.eye_gap - 0.012, y - 0.016, 0.085, 0.055), SHADOW)


def eyes(pair: Patch, p: FaceParameters) -> None:
    """Whites, irises, pupils, catch lights, lids and the bags under them."""
    (x, y), gap, half = centre(p), p.eye_gap, p.eye_size
    up, down, tilt = 0.025 * (1 - 0.2 * max(0.0, p.smile)), 0.016, -0.08
    eye = pair.crop(x, y, gap + half + 0.035, 0.05)
    inside = eye.cover(eye.lens(gap, y, half, up, down, 0.0, tilt))
    eye.paint(inside, colour((0.87, 0.84, 0.81), 0.7 + 0.3 * p.ambient))
    eye.paint(inside * eye.cover(eye.blob(gap, y - 0.003, 0.0205, 0.0205)), colour(p.iris_rgb))
    eye.paint(inside * eye.cover(eye.blob(gap, y - 0.003, 0.0105, 0.0105)), _PUPIL)
    # Women's lashes are heavier.
    lid = eye.stroke(gap, y - up, half + 0.004, 0.005 if p.male else 0.008, up, tilt)
    eye.paint(0.85 * lid, _LASH)
    eye.paint(0.9 * eye.cover(eye.blob(gap, y - 0.012, 0.005, 0.005)), _WHITE)
    crease = 0.6 * eye.stroke(gap, y - up - 0.015, half, 0.003, up * 0.8, tilt)
    crease += 0.4 * eye.stroke(gap, y + down, half * 0.9, 0.003, -down)
    if p.bags:
        crease += 0.7 * eye.stroke(gap, y + 0.045, 0.044, 0.005, -0.02)
    eye.tint(crease, SHADOW)


def brows(pair: Patch, p: FaceParameters) -> None:
    x, y = centre(p)
    dark = colour(p.hair_rgb, 0.7 if p.hair_colour in ("blond", "gray") else 0.9)
    brow = pair.crop(x, y - 0.06, p.eye_gap + 0.08, 0.04)
    thick = p.brow * (1.0 if p.male else 0.6)
    brow.paint(0.88 * brow.stroke(p.eye_gap + 0.006, y - 0.066, 0.062, thick, 0.016, p.brow_tilt), dark)


def nose(canvas: Patch, p: FaceParameters) -> None:
    """Bridge light, the shaded side, tip, wings and nostrils."""
    (x, y), root, wide = nose_tip(p), centre(p)[0], p.nose_width
    patch = canvas.crop(0.5 * (x + root), y - 0.04, 0.09, 0.115)
    # Bridge and its shadow run along a line from between the eyes to the tip.
    slide = patch.x - (x + (x - root) / 0.12 * (patch.y - y))
    fall = np.maximum(1 - np.abs(patch.y - (y - 0.06)) * (1 / 0.085), 0)
    away = -0.6 * wide if p.light[0] > 0 else 0.6 * wide
    side = np.maximum(1 - ((slide - away) * (1 / (0.62 * wide))) ** 2, 0)
    folded = patch.mirror(x)
    dark = (0.25 + 0.35 * abs(p.light[0])) * side * fall
    dark += 0.55 * patch.spot(x, y + 0.026, wide * 1.15, 0.024)
    dark += 0.45 * folded.stroke(wide, y + 0.004, 0.02, 0.0045, -0.008, 0, True)
    patch.tint(dark, SHADOW)
    light = 0.4 * np.maximum(1 - (slide * (1 / (0.33 * wide))) ** 2, 0) * fall
    light += 0.6 * patch.spot(x + 0.006 * p.light[0], y - 0.006, wide * 0.5, 0.022)
    patch.tint(light, LIGHT)
    nostril = folded.cover(folded.blob(wide * 0.5, y + 0.018, wide * 0.26, 0.0065), 0.006)
    patch.paint(0.75 * nostril, colour(p.skin_rgb, 0.28))


def mouth(canvas: Patch, p: FaceParameters) -> None:
    """Lips around a mouth line or, when it is open, around teeth."""
    x, y = mouth_place(p)
    smile = max(0.0, p.smile)
    half = p.mouth_width * (1 + 0.18 * smile)
    gap = 0.030 * p.mouth_open if p.mouth_open >= 0.3 else 0.0
    bend = -0.024 * p.smile  # corners rise with a smile
    patch = canvas.crop(x, y, half + 0.02, 0.09)
    y += 0.010 * smile
    tone = colour(p.skin_rgb) * colour((0.86, 0.70, 0.68) if p.male else p.lip_rgb)
    lips = patch.cover(patch.lens(x, y, half, p.lip * 0.85 + 0.3 * gap, p.lip * 1.25 + gap, bend))
    patch.paint((0.78 if p.male else 0.92) * lips, tone)
    patch.tint(0.4 * patch.spot(x, y + 0.9 * p.lip + gap, half * 0.5, p.lip * 0.8), LIGHT)
    if gap:
        inner = patch.cover(patch.lens(x, y, half * 0.84, 0.3 * gap, gap, bend * 0.9))
        patch.paint(inner, _THROAT)
        inner *= patch.cover(patch.y - (y + 0.62 * gap), 0.01)
        patch.paint(inner, colour((0.88, 0.86, 0.82), 0.75 + 0.25 * p.ambient))
    else:
        patch.paint(0.8 * patch.stroke(x, y, half, 0.0055, bend), colour(p.skin_rgb, 0.27))
    if p.beard not in ("goatee", "circle", "full"):
        patch.tint(0.45 * patch.spot(x, y + p.lip * 1.3 + gap + 0.016, half * 0.7, 0.018), SHADOW)


def age_lines(canvas: Patch, pair: Patch, p: FaceParameters) -> None:
    """Folds from nose to mouth, deeper in a smile and with age; lines on the brow and crow's feet of the old."""
    x, y = centre(p)
    mx, my = mouth_place(p)
    fy = 0.5 * (my + y + p.nose_length) - 0.012
    folds = canvas.crop(mx, fy, p.mouth_width + 0.05, 0.06).mirror(mx)
    fold = 0.06 + 0.3 * max(0.0, p.smile) + 0.4 * max(0.0, p.age - 0.3)
    folds.tint(fold * folds.stroke(p.mouth_width + 0.012, fy, 0.055, 0.006, -0.02, 0.35, True), SHADOW)
    old = max(0.0, p.age - 0.5) * 2
    if old <= 0:
        return
    brow = canvas.crop(x, y - 0.155, 0.15, 0.06)
    lines = brow.stroke(x, y - 0.125, 0.14, 0.004, 0.012)
    for row in (1, 2):
        lines += brow.stroke(x, y - 0.125 - 0.030 * row, 0.14 - 0.015 * row, 0.004, 0.012)
    brow.tint(0.55 * old * lines, SHADOW)
    feet = pair.crop(x, y, p.eye_gap + p.eye_size + 0.06, 0.03)
    outer = p.eye_gap + p.eye_size + 0.024
    crow = feet.stroke(outer, y - 0.008, 0.02, 0.003, 0.0, -0.5) + feet.stroke(outer, y + 0.01, 0.02, 0.003, 0.0, 0.5)
    feet.tint(0.6 * old * crow, SHADOW)


def glasses(canvas: Patch, pair: Patch, p: FaceParameters) -> None:
    if p.glasses == "none":
        return
    x, y = centre(p)
    frame = colour(p.glasses_rgb)
    square, height = (0.1, 0.060) if p.glasses == "round" else (0.75, 0.049)
    patch = pair.crop(x, y, p.head_width + 0.06, 0.08)
    outside = patch.blob(p.eye_gap + 0.004, y + 0.008, 0.073, height, height * 1.12, square)
    inside = patch.cover(outside + 0.012)
    if p.glasses == "sun":
        patch.paint(0.93 * inside, frame * (0.7 + unit((y + 0.05 - patch.y) * 6)))
    else:
        patch.tint(inside, _LENS)
    outer, end = p.eye_gap + 0.074, p.head_width + 0.005
    rim = patch.cover(outside) - inside
    np.maximum(rim, patch.stroke(0.5 * (outer + end), y - 0.012, 0.5 * (end - outer) + 0.01, 0.008), out=rim)
    np.maximum(rim, patch.stroke(0, y - 0.01, p.eye_gap - 0.06, 0.008, 0.006), out=rim)
    patch.paint(rim, frame)
