"""A detector of faces that finds what a test says is there, where `facegan[align]` is not installed as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from facegan.alignment.detector import Detection
from facegan.errors import FaceganError

# FFHQ's square around these is the picture [0, 1]^2: the formula gives half = 2 |e| = 0.5 and centre = eyes + 0.1 m.
ALIGNED = np.array([(0.375, 0.475), (0.625, 0.475), (0.5, 0.6), (0.4, 0.725), (0.6, 0.725)])


def landmarks(centre: tuple[float, float], side: float, degrees: float = 0.0) -> np.ndarray:
    """float64 [5, 2] of a face whose square is there, of that side and roll."""
    angle = np.radians(degrees)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return (ALIGNED - 0.5) * side @ turn.T + centre


def install(monkeypatch: Any, find: Callable[[Image.Image], Sequence[np.ndarray]]) -> list[tuple[tuple[int, int], float]]:
    """`find` gives the landmarks in a photo, largest face first; returns sizes of the photos looked at, and smallest faces asked for."""
    looked: list[tuple[tuple[int, int], float]] = []

    class Detector:
        def __init__(self, device: object = "auto") -> None:
            self.device = device

        def __call__(self, photos: Sequence[Image.Image], smallest: float) -> list[list[Detection]]:
            assert all(photo.mode == "RGB" for photo in photos) and smallest > 0
            looked.extend((photo.size, smallest) for photo in photos)
            return [
                [Detection((*points.min(0), *points.max(0)), 0.99, points) for points in map(np.asarray, find(photo))] for photo in photos
            ]

    monkeypatch.setattr("facegan.alignment.detector.available", lambda: True)
    monkeypatch.setattr("facegan.alignment.detector.Detector", Detector)
    return looked


def remove(monkeypatch: Any) -> None:
    """As where the extra is not installed."""

    def missing(device: object = "auto") -> None:
        raise FaceganError("finding faces needs pip install 'facegan[align]'")

    monkeypatch.setattr("facegan.alignment.detector.available", lambda: False)
    monkeypatch.setattr("facegan.alignment.detector.Detector", missing)
