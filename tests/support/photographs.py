"""Photographs drawn for tests, and a stand-in for the detector that knows them: drawn faces do not fool the real one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from facegan.alignment.detector import Detection

IDEAL = np.array([(0.32, 0.38), (0.68, 0.38), (0.5, 0.58), (0.35, 0.75), (0.65, 0.75)])  # landmarks of the array, as shares of its side
POINTS = np.array([(-0.24, -0.1), (0.24, -0.1), (0.0, 0.1), (-0.19, 0.28), (0.19, 0.28)])  # of a drawn face, in sides of it


@dataclass(frozen=True)
class Drawn:
    """A face to be drawn: middle, side, degrees clockwise, seed of its looks, score, share by which the nose is moved aside."""

    x: float
    y: float
    side: float
    roll: float = 0.0
    seed: int = 0
    score: float = 0.99
    turn: float = 0.0

    def landmarks(self) -> np.ndarray:
        """float64 [5, 2]"""
        points = POINTS + np.array([(0, 0), (0, 0), (self.turn, 0), (0, 0), (0, 0)])
        a = np.deg2rad(self.roll)
        rotation = np.array([(np.cos(a), -np.sin(a)), (np.sin(a), np.cos(a))])
        return points @ rotation.T * self.side + (self.x, self.y)

    def detection(self) -> Detection:
        """What a detector would say."""
        half = self.side / 2
        return Detection((self.x - half, self.y - half, self.x + half, self.y + half), self.score, self.landmarks())


class StandIn:
    """A detector that knows the photos it was told of, by their pixels."""

    def __init__(self) -> None:
        self.known: dict[str, list[Detection]] = {}
        self.seen: list[int] = []  # how many faces each photo asked for had

    def tell(self, photo: Image.Image, faces: Sequence[Drawn]) -> None:
        """Which faces a photo has."""
        self.known[self.key(photo)] = [face.detection() for face in sorted(faces, key=lambda face: -face.side)]

    @staticmethod
    def key(photo: Image.Image) -> str:
        return hashlib.sha256(repr(photo.size).encode() + photo.tobytes()).hexdigest()

    def __call__(self, photos: Sequence[Image.Image], smallest: float) -> list[list[Detection]]:
        found = [self.known.get(self.key(photo), []) for photo in photos]
        self.seen += map(len, found)
        return found


def draw(size: tuple[int, int], faces: Sequence[Drawn], seed: int = 0) -> Image.Image:
    """A noisy photo with a patch of its own for each face."""
    random = np.random.default_rng(seed)
    photo = Image.fromarray(random.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    for face in faces:
        own = np.random.default_rng(1000 + face.seed)
        side = max(8, round(face.side * 1.4))
        patch = Image.fromarray(own.integers(0, 256, (side // 2, side // 2, 3), np.uint8)).resize((side, side), Image.Resampling.NEAREST)
        coarse = Image.fromarray(own.integers(0, 256, (14, 14, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        patch = Image.blend(patch, coarse, 0.7).rotate(-face.roll, Image.Resampling.BICUBIC)
        photo.paste(patch, (round(face.x - side / 2), round(face.y - side / 2)))
    return photo
