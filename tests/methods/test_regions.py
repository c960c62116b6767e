"""Masks of attributes on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan.data.attributes import Attribute
from facegan.data.faces import FaceData
from facegan.data.table import AttributeTable
from facegan.errors import FaceganError
from facegan.training import regions

SIZE = 32
A, B = Attribute("a", "A", "!A", "A", "A"), Attribute("b", "B", "!B", "B", "B")


def data(share_of_a_in_b: float = 0.5, unknown: int = 0) -> FaceData:
    """Attribute A brightens rows 0-9, attribute B rows 22-31; A and B occur together as often as asked."""
    random = np.random.default_rng(2)
    a = random.random(400) < 0.5
    b = np.where(a, random.random(400) < share_of_a_in_b, random.random(400) < 0.5)
    images = random.normal(120, 15, (400, 3, SIZE, SIZE))
    images[a, :, :10] += 40
    images[b, :, 22:] += 40
    values = np.stack([a, b], axis=1).astype(np.float32)
    values[:unknown] = np.nan
    names = tuple(f"{i:03d}" for i in range(400))
    return FaceData(AttributeTable(names, ("A", "B"), values), images.clip(0, 255).astype(np.uint8), names, "made", (), "")


@pytest.mark.parametrize("share", [0.5, 0.1, 0.9])
def test_regression_masks_are_zero_in_the_other_ones_region_whatever_the_correlation(share: float) -> None:
    masks = regions.regression(data(share, unknown=20), (A, B), np.arange(400))
    assert masks.shape == (2, 1, SIZE, SIZE) and masks.min() >= 0 and masks.max() <= 1
    top, bottom = masks[:, 0, :9], masks[:, 0, 23:]
    assert (top[0] == 1).all() and (top[1] == 0).all()
    assert (bottom[1] == 1).all() and (bottom[0] == 0).all()
    assert (masks[:, 0, 14:18] > 0).float().mean() > 0.9  # what concerns neither belongs to both
    assert torch.equal(masks, masks.flip(3)) or torch.allclose(masks, masks.flip(3), atol=1e-5)


def test_regression_effect_sizes_against_least_squares_pixel_by_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(regions, "compete", lambda energy: seen.append(energy) or energy)
    faces = data(0.2)
    regions.regression(faces, (A, B), np.arange(0, 400, 2))
    images = faces.images[::2].astype(np.float64) / 127.5 - 1
    images = (images + images[..., ::-1]) / 2
    design = np.column_stack([np.ones(200), faces.table.values[::2]])
    for row, column in ((3, 4), (15, 20), (30, 31)):
        energies = []
        for channel in range(3):
            y = images[:, channel, row, column]
            beta = np.linalg.inv(design.T @ design) @ design.T @ y
            energies.append(beta[1:] ** 2 / (np.mean((y - design @ beta) ** 2) + 1e-4))
        np.testing.assert_allclose(seen[0][:, 0, row, column].numpy(), np.mean(energies, axis=0), rtol=1e-3, atol=1e-6)


def test_images_with_an_unknown_attribute_are_left_out() -> None:
    design, index = regions.design_matrix(data(unknown=150), (A, B), np.arange(100, 200))
    assert index.tolist() == list(range(150, 200)) and design.shape == (50, 3) and (design[:, 0] == 1).all()


def test_saliency_masks_follow_where_hand_made_critics_look() -> None:
    def upper(x: torch.Tensor) -> torch.Tensor:
        return 5.0 * x[:, :, :10].square().sum((1, 2, 3))

    def lower(x: torch.Tensor) -> torch.Tensor:  # a weaker critic has no smaller region
        return 0.01 * x[:, :, 22:].square().sum((1, 2, 3))

    positives = [torch.randn(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    masks = regions.saliency([upper, lower], positives)
    assert (masks[0, 0, :9] > 0.99).all() and (masks[1, 0, :9] == 0).all()
    assert (masks[1, 0, 23:] > 0.99).all() and (masks[0, 0, 23:] == 0).all()


def test_halves() -> None:
    bald, beard = (Attribute(name, "A", "!A", "A", "A") for name in ("bald", "beard"))
    masks = regions.halves((bald, beard), 64)
    assert (masks[0, 0, :35] == 1).all() and (masks[0, 0, 35:] == 0).all()
    assert (masks[1, 0, 32:] == 1).all() and (masks[1, 0, :32] == 0).all()
    with pytest.raises(FaceganError, match="knows no region for 'a'.*use `masks=regression`"):
        regions.halves((A, B), 64)


def test_three_attributes_share_the_pixels() -> None:
    energy = torch.zeros(3, 1, SIZE, SIZE)
    for k in range(3):
        energy[k, :, 11 * k : 11 * k + 10] = 10.0 ** (k / 2)  # one is ten times as strong as another
    masks = regions.compete(energy)
    for k in range(3):
        middle = masks[:, 0, 11 * k + 3 : 11 * k + 7]
        assert (middle[k] > 0.5).all(), k
        others = [j for j in range(3) if j != k]
        assert (middle[others] == 0).all(), k
