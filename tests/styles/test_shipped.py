"""The network that comes with the package: small, whole, and what the README's first commands need."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.pretrained import located
from facegan.cli import main
from facegan.options import SYNTHETIC
from facegan.styles.recipe import Recipe
from facegan.styles.store import read_styles

FOLDER = located(SYNTHETIC)


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 4 * 2**20
    networks = open_networks(SYNTHETIC)
    assert networks.states.keys() == {"G_ema", "D"} and not networks.may_have_seen_joint_faces
    assert "facegan train --method b --data synthetic:1000" in (FOLDER / "README.md").read_text()


def test_its_faces_and_styles_are_faces() -> None:
    """Not noise and not one grey: as light and as varied as the drawn ones, whose pixels lie about 0 with a spread of about 0.5."""
    generator = open_networks(SYNTHETIC).generator()
    with torch.no_grad():
        images = generator(torch.randn(16, generator.config.z_dim, generator=torch.Generator().manual_seed(0)), noise_mode="const")
    assert 0.3 < float(images.std()) < 0.8 and float(images.mean(0).std()) < float(images.std())
    neighbours = (images[..., 1:] - images[..., :-1]).abs().mean()
    assert float(neighbours) < 0.25 * float(images.std())
    for name in ("bald", "beard"):
        styles = read_styles(FOLDER / "styles" / f"{name}.npz", generator.config)
        assert len(styles) == 32 and all(style.is_plain for style in styles)
    assert any(Recipe.read(FOLDER / "recipe.json", generator.config.num_ws).weights)


def test_the_first_command_of_the_readme_works(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["mix", "--rows", "0-1", "--cols", "5", "--out", "mixes"]) == 0
    assert {path.name for path in (tmp_path / "mixes").iterdir()} >= {"grid.png", "row-seed0000_col-seed0005.png", "recipe.json"}
    assert Image.open(tmp_path / "mixes/row-seed0001_col-seed0005.png").size == (64, 64)
    assert main(["generate", SYNTHETIC, "--seeds", "0", "--out", "faces"]) == 0
