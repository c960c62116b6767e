"""What a synthetic face is: its parameters, their distribution and the CelebA attributes that follow from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from facegan.errors import FaceganError

RGB = tuple[float, float, float]

# CelebA's spelling, so that selectors written for CelebA work unchanged.
COLUMNS: tuple[str, ...] = (
    "5_o_Clock_Shadow", "Bags_Under_Eyes", "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair",
    "Eyeglasses", "Goatee", "Gray_Hair", "Male", "Mouth_Slightly_Open", "Mustache", "No_Beard", "Pale_Skin",
    "Receding_Hairline", "Sideburns", "Smiling", "Wearing_Hat", "Young",
)  # fmt: skip

BEARDS = ("none", "shadow", "mustache", "goatee", "circle", "full")  # circle = goatee joined to a moustache
HAIRS = ("crop", "short", "side", "curly", "receding", "long", "wavy", "bob", "tied", "fringe")
LONG_HAIRS = ("long", "wavy", "bob", "fringe")
HATS = ("none", "beanie", "cap", "brim")
GLASSES = ("none", "round", "square", "sun")
BACKGROUNDS = ("plain", "gradient", "two-tone")
HAIR_COLOURS: Mapping[str, RGB] = {
    "black": (0.09, 0.075, 0.07), "brown": (0.30, 0.185, 0.11), "blond": (0.78, 0.61, 0.35),
    "gray": (0.64, 0.63, 0.62), "red": (0.50, 0.22, 0.10),
}  # fmt: skip
# Dark to light; a tone is a place along this ramp, drawn independently of every attribute.
_SKIN_RAMP: tuple[RGB, ...] = (
    (0.31, 0.20, 0.15), (0.43, 0.29, 0.21), (0.57, 0.39, 0.29), (0.71, 0.51, 0.38), (0.83, 0.63, 0.50),
    (0.91, 0.73, 0.61), (0.97, 0.84, 0.76),
)  # fmt: skip
_IRISES: tuple[RGB, ...] = (0.2, 0.12, 0.07), (0.3, 0.42, 0.55), (0.3, 0.38, 0.25)
_DRAWS = 256  # random numbers a face may use
_PALE = 0.93  # places above this carry Pale_Skin
_OLD = 0.62  # ages above this lose Young
_CHOICES: Mapping[str, Sequence[str]] = {
    "beard": BEARDS, "hair": HAIRS, "hair_colour": tuple(HAIR_COLOURS), "hat": HATS, "glasses": GLASSES,
    "background": BACKGROUNDS,
}  # fmt: skip


@dataclass(frozen=True)
class FaceParameters:
    """One face.  Lengths are fractions of the image height, colours are RGB in [0, 1], the rest is unitless."""

    seed: int
    index: int
    # attributes
    male: bool
    age: float  # 0 young .. 1 old: drives lines, Young and the chance of gray hair
    bald: bool
    horseshoe: bool  # a bald head keeps a thin rim of hair over the ears
    beard: str  # one of BEARDS
    sideburns: bool
    hair: str  # one of HAIRS; a bald head ignores it
    hair_colour: str
    hair_rgb: RGB
    beard_rgb: RGB
    hat: str
    hat_rgb: RGB
    glasses: str
    glasses_rgb: RGB
    smile: float  # -0.3 .. 1; Smiling from 0.4
    mouth_open: float  # 0 .. 1; Mouth_Slightly_Open from 0.3
    bags: bool
    blur: float  # standard deviation of the lens blur; 0 is sharp
    tone: float  # place on the skin ramp, 0 dark .. 1 pale
    skin_rgb: RGB
    # pose
    yaw: float  # -1 .. 1: the features slide sideways over the head
    pitch: float  # -1 .. 1
    roll: float  # radians
    scale: float
    shift: tuple[float, float]
    # shape
    head_width: float  # half width of the skull
    skull: float  # eye line to crown
    chin: float  # eye line to chin
    jaw: float  # 0 oval .. 0.8 square
    eye_gap: float  # half the distance of the pupils
    eye_size: float
    iris_rgb: RGB
    brow: float  # thickness
    brow_tilt: float
    nose_length: float
    nose_width: float
    mouth_width: float  # half width
    lip: float  # thickness
    lip_rgb: RGB
    volume: float  # 0 .. 1: how far the hair stands off the skull
    parting: float  # -1 .. 1
    # scene
    light: tuple[float, float, float]  # direction towards the light, x right, y down, z to the viewer
    ambient: float
    exposure: float
    warmth: float
    background: str
    backdrop: tuple[RGB, RGB]
    backdrop_angle: float
    clothes_rgb: RGB
    neckline: float

    def attributes(self) -> dict[str, float]:
        """The face's CelebA attributes, 0.0 or 1.0, keyed and ordered as ``COLUMNS``.

        They say what can be seen: hair under a hat has no colour, a bald head has none either.
        """
        hatted = self.hat != "none"
        hair_seen = not self.bald and (not hatted or self.hair in LONG_HAIRS)
        truth = {
            "5_o_Clock_Shadow": self.beard == "shadow",
            "Bags_Under_Eyes": self.bags,
            "Bald": self.bald,
            "Bangs": self.hair == "fringe" and hair_seen and not hatted,
            "Blurry": self.blur > 0,
            "Eyeglasses": self.glasses != "none",
            "Goatee": self.beard in ("goatee", "circle", "full"),
            "Male": self.male,
            "Mouth_Slightly_Open": self.mouth_open >= 0.3,
            "Mustache": self.beard in ("mustache", "circle", "full"),
            "No_Beard": self.beard in ("none", "shadow"),
            "Pale_Skin": self.tone > _PALE,
            "Receding_Hairline": self.hair == "receding" and hair_seen,
            "Sideburns": self.sideburns,
            "Smiling": self.smile >= 0.4,
            "Wearing_Hat": hatted,
            "Young": self.age < _OLD,
        }
        truth |= {f"{name.capitalize()}_Hair": hair_seen and self.hair_colour == name for name in HAIR_COLOURS}
        return {column: float(truth[column]) for column in COLUMNS}


def stream(seed: int, index: int, use: int) -> np.random.Generator:
    """Randomness of face ``index`` for one ``use``: the same in any batch and process, and apart from other uses.

    Philox is counter-based: seed and index are its key, and the counter's high word sets the uses apart.
    """
    key = np.array([seed, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, use]))


class _Draws:
    """Uniform draws in a fixed order; each call takes a fixed number, so an override never moves the next draw."""

    def __init__(self, seed: int, index: int) -> None:
        self._next = iter(stream(seed, index, 0).random(_DRAWS).tolist()).__next__

    def chance(self, probability: float) -> bool:
        return self._next() < probability

    def span(self, low: float, high: float) -> float:
        return low + (high - low) * self._next()

    def bell(self, low: float, high: float) -> float:
        """The mean of three uniform draws: most faces lie in the middle of the span."""
        return low + (high - low) * (self._next() + self._next() + self._next()) / 3

    def pick(self, weights: Mapping[str, float]) -> str:
        place = self._next() * sum(weights.values())
        ends = zip(weights, itertools.accumulate(weights.values()), strict=True)
        return next((name for name, end in ends if place < end), list(weights)[-1])

    def colour(self, low: float, high: float, tint: float) -> RGB:
        """A colour of a brightness in [low, high] whose channels stray from it by up to the share ``tint``."""
        return self.near((self.span(low, high),) * 3, 0.0, tint)

    def near(self, base: RGB, bright: float, tint: float | None = None) -> RGB:
        """``base`` at another brightness (±bright) and a slightly other hue (±tint, by default a quarter of that)."""
        tint = bright / 4 if tint is None else tint
        gain = self.span(1 - bright, 1 + bright)
        red, green, blue = (min(1.0, channel * (gain + self.span(-tint, tint))) for channel in base)
        return red, green, blue


def sample_parameters(seed: int, index: int, **overrides: Any) -> FaceParameters:
    """Draw face ``index`` of ``seed``.

    ``overrides`` force fields of ``FaceParameters`` (``bald=True``, ``beard="full"``, ``yaw=0.0``); what follows from
    them follows (a beard makes a man unless ``male=False`` is forced too) and every other field stays as it was.
    Raises FaceganError for an unknown field or value and for a bald head under a hat.
    """
    _check_key(seed, index)
    _check_overrides(overrides)
    draw = _Draws(seed, index)
    who = _draw_attributes(draw, overrides)
    face = who | _draw_shape(draw, who["tone"]) | _draw_scene(draw)
    return FaceParameters(seed=seed, index=index, **(face | overrides))


def _check_key(seed: int, index: int) -> None:
    for name, value in (("seed", seed), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**64:
            raise FaceganError(f"{name} is {value!r}; give a whole number from 0 to 2**64 - 1.")


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(FaceParameters)} - {"seed", "index"}
    for name, value in overrides.items():
        if name not in known:
            raise FaceganError(f"{name} is no parameter of a face; known are {', '.join(sorted(known))}.")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise FaceganError(f"{name} is {value!r}; it must be one of {', '.join(_CHOICES[name])}.")
    if overrides.get("bald") and overrides.get("hat", "none") != "none":
        raise FaceganError("bald=True and hat contradict each other, as a hat hides the crown; force only one of them.")


def _draw_attributes(draw: _Draws, forced: Mapping[str, Any]) -> dict[str, Any]:
    """Who the face is.  Shares are chosen so that 6,000 faces hold several hundred of each attribute combination."""
    male, age = draw.chance(0.5), draw.span(0.0, 1.0)
    bald, horseshoe = draw.chance(0.22), draw.chance(0.35)
    beards = {"full": 0.5, "goatee": 0.14, "circle": 0.2, "mustache": 0.16}
    bearded, bald_bearded, beard, shadow = draw.chance(0.42), draw.chance(0.32), draw.pick(beards), draw.chance(0.05)
    if forced.get("bald") or forced.get("beard", "none") != "none" or forced.get("sideburns"):
        male = True
    male, age = forced.get("male", male), forced.get("age", age)
    hat, hatted = draw.pick({"beanie": 0.4, "cap": 0.35, "brim": 0.25}), draw.chance(0.064)
    hat = forced.get("hat", hat if hatted else "none")
    bald = forced.get("bald", bald and male and hat == "none")
    if bald:
        hat = "none"
    bearded = bald_bearded if bald else bearded
    beard = forced.get("beard", (beard if bearded else "shadow" if shadow else "none") if male else "none")
    burns = draw.span(0.0, 1.0) < {"full": 0.85, "circle": 0.1}.get(beard, 0.0)
    men = draw.pick({"crop": 0.25, "short": 0.31, "side": 0.25, "curly": 0.12, "receding": 0.07})
    women = draw.pick({"long": 0.28, "wavy": 0.27, "bob": 0.15, "tied": 0.14, "fringe": 0.16})
    gray = max(0.0, age - 0.55) * 1.3
    name = draw.pick({"black": 0.36, "brown": 0.34, "blond": 0.2, "red": 0.06, "gray": gray})
    name = forced.get("hair_colour", name)
    tone = forced.get("tone", draw.span(0.0, 1.0))
    skin_rgb = forced.get("skin_rgb", draw.near(_skin(tone), 0.07))
    hair_rgb = forced.get("hair_rgb", draw.near(_visible(HAIR_COLOURS[name], skin_rgb), 0.25))
    return {
        "male": male, "age": age, "bald": bald, "horseshoe": horseshoe, "beard": beard, "sideburns": burns, "hat": hat,
        "hair": men if male else women, "hair_colour": name, "hair_rgb": hair_rgb,
        "beard_rgb": draw.near(_scaled(hair_rgb, 0.8), 0.2), "tone": tone, "skin_rgb": skin_rgb,
        "hat_rgb": draw.colour(0.1, 0.75, 0.35),
        "glasses": draw.pick({"none": 0.85, "square": 0.065, "round": 0.055, "sun": 0.03}),
        "glasses_rgb": draw.colour(0.03, 0.2, 0.5), "smile": draw.span(-0.3, 1.0),
        "mouth_open": max(0.0, draw.span(-0.6, 1.0)), "bags": draw.chance(0.1 + 0.25 * age),
        "blur": draw.span(0.022, 0.035) * draw.chance(0.03),
    }  # fmt: skip


def _skin(tone: float) -> RGB:
    """The ramp's colour at ``tone`` in [0, 1]."""
    place = tone * (len(_SKIN_RAMP) - 1)
    low = min(int(place), len(_SKIN_RAMP) - 2)
    red, green, blue = (a + (place - low) * (b - a) for a, b in zip(_SKIN_RAMP[low], _SKIN_RAMP[low + 1], strict=True))
    return red, green, blue


def _scaled(rgb: RGB, gain: float) -> RGB:
    return rgb[0] * gain, rgb[1] * gain, rgb[2] * gain


def _visible(hair: RGB, skin: RGB) -> RGB:
    """``hair``, darkened where it would drown in dark skin: what an attribute says must be there to be seen."""
    if max(hair) > 0.55:  # blond and gray stand out by their brightness
        return hair
    return _scaled(hair, min(1.0, 0.42 * sum(skin) / sum(hair)))


def _draw_shape(draw: _Draws, tone: float) -> dict[str, Any]:
    """Pose and proportions, the same for every attribute; only light eyes keep to light skin."""
    iris = _IRISES[int(draw.span(0, 3) * min(tone, 0.999))]  # light eyes only in light faces
    yaw, pitch, roll = draw.bell(-1, 1), draw.bell(-1, 1), math.radians(draw.bell(-8, 8))
    return {
        "yaw": yaw, "pitch": pitch, "roll": roll, "scale": draw.bell(0.94, 1.06),
        "shift": (draw.bell(-0.02, 0.02), draw.bell(-0.02, 0.02)), "head_width": draw.bell(0.222, 0.262),
        "skull": draw.bell(0.315, 0.355), "chin": draw.bell(0.315, 0.365), "jaw": draw.bell(0.0, 0.75),
        "eye_gap": draw.bell(0.092, 0.112), "eye_size": draw.bell(0.040, 0.052),
        "iris_rgb": draw.near(iris, 0.2),
        "brow": draw.bell(0.008, 0.018), "brow_tilt": draw.bell(-0.15, 0.25), "nose_length": draw.bell(0.125, 0.155),
        "nose_width": draw.bell(0.036, 0.055), "mouth_width": draw.bell(0.07, 0.1), "lip": draw.bell(0.013, 0.026),
        "lip_rgb": draw.near((0.86, 0.56, 0.55), 0.12), "volume": draw.span(0, 1), "parting": draw.span(-1, 1),
    }  # fmt: skip


def _draw_scene(draw: _Draws) -> dict[str, Any]:
    return {
        "light": (draw.span(-0.75, 0.75), draw.span(-0.7, 0.05), 1.0), "ambient": draw.span(0.3, 0.6),
        "exposure": draw.bell(0.88, 1.14), "warmth": draw.bell(-0.05, 0.05),
        "background": draw.pick({"plain": 0.3, "gradient": 0.45, "two-tone": 0.25}),
        "backdrop": (draw.colour(0.08, 0.92, 0.2), draw.colour(0.08, 0.92, 0.2)),
        "backdrop_angle": draw.span(0, 2 * math.pi), "clothes_rgb": draw.colour(0.06, 0.85, 0.35),
        "neckline": draw.span(0, 1),
    }  # fmt: skip
