"""Photographs for tests: drawn ones with a stand-in for the detector, and an array that the real detector takes for a face."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from photographs import IDEAL, Drawn, StandIn, draw
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
