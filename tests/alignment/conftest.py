"""Photographs for tests: drawn ones with a stand-in for the detector, and an array that the real detector takes for a face."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import photographs
import pytest
import torch
from photographs import Drawn, StandIn, draw
from PIL import Image

FACES512 = Path(__file__).parents[2].parent / "shared" / "data" / "faces512.zip"


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """In place of the real one, wherever the package makes one."""
    stand_in = StandIn()
    monkeypatch.setattr("facegan.alignment.aligner.Detector", lambda device: stand_in)
    return stand_in


@pytest.fixture
def photo(detector: StandIn) -> Callable[..., Image.Image]:
    """Draws a photo and tells the detector of it; writes it where a path is given."""

    def make(path: Path | None, *faces: Drawn, size: tuple[int, int] = (320, 240), seed: int = 0) -> Image.Image:
        picture = draw(size, faces, seed)
        detector.tell(picture, faces)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        return picture

    return make


@pytest.fixture(scope="session")
def networks():
    """MTCNN's, where its weights are installed."""
    from facegan.alignment import weights

    if not weights.available():
        pytest.skip(weights.missing())
    return weights.networks(torch.device("cpu"))


@pytest.fixture(scope="session")
def faces512() -> list[Image.Image]:
    """Twelve real, aligned faces, which are no part of the repository."""
    if not FACES512.exists():
        pytest.skip(f"{FACES512} is missing: real faces are research-only and no part of the repository")
    with zipfile.ZipFile(FACES512) as archive:
        return [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in sorted(archive.namelist()) if name.endswith(".jpg")]


@pytest.fixture(scope="session")
def portrait(networks) -> Image.Image:
    """A picture of 96 px that all three networks take for a face with landmarks at IDEAL."""
    return photographs.portrait(networks)
