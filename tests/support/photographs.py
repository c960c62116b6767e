"""Photographs drawn for tests, and a stand-in for the detector that knows them: drawn faces do not fool the real one."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from facegan.alignment.detector import Detection
from facegan.alignment.weights import Networks
from facegan.options import DataAlign

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


def portrait(networks: Networks) -> Image.Image:
    """A picture of 96 px that all three networks take for a face with landmarks at IDEAL: found by ascending their gradients, it shows
    nobody."""
    random = torch.Generator().manual_seed(0)
    values = torch.zeros(1, 3, 96, 96).requires_grad_()
    optimizer = torch.optim.Adam([values], lr=0.08)

    def picture() -> torch.Tensor:
        return torch.tanh(F.avg_pool2d(F.pad(values, (1, 1, 1, 1), mode="replicate"), 3, 1))

    for _ in range(150):
        scale, shift = 0.95 + 0.35 * torch.rand(6, generator=random), 0.24 * (torch.rand(6, 2, generator=random) - 0.5)
        theta = torch.cat([torch.diag_embed(scale[:, None].expand(-1, 2)), shift[..., None]], dim=2)
        grids = [F.affine_grid(theta, [6, 3, size, size], align_corners=False) for size in (12, 24, 48)]
        small, middle, large = (F.grid_sample(picture().expand(6, -1, -1, -1), grid, align_corners=False) for grid in grids)
        probability, _, points = networks.landmarks(large)
        probabilities = (networks.proposals(small)[0], networks.refinement(middle)[0], probability)
        wanted = ((torch.from_numpy(IDEAL).float() * 2 - 1 - shift[:, None]) / scale[:, None, None] + 1) / 2
        loss = -sum((each + 1e-6).log().mean() for each in probabilities) + 100 * (points - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    levels = (picture()[0].detach().permute(1, 2, 0) * 128 + 127.5).clamp(0, 255).byte().numpy()
    return Image.fromarray(levels)


KEEP: dict[str, Any] = dict(size=64, keep_duplicates=True, min_sharpness=0.0)  # drawn faces are small, alike and soft


def options(tmp_path: Path, **more: Any) -> DataAlign:
    """From `photos` to `faces`, everything kept that can be."""
    return DataAlign(**{"photos": (str(tmp_path / "photos"),), "out": str(tmp_path / "faces"), **KEEP, **more})


def table(tmp_path: Path) -> list[dict[str, str]]:
    """faces.csv."""
    with open(tmp_path / "faces" / "faces.csv", newline="") as file:
        return list(csv.DictReader(file))
