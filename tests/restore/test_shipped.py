"""The restorers that come with the package: small, whole, and better than what needs no network."""

from __future__ import annotations

import pytest
import torch

from facegan.checkpoints.pretrained import located
from facegan.checkpoints.restorers import open_restorer
from facegan.cli import main
from facegan.evaluation.restoration import CONDITIONS, degraded_faces, held_out, psnr, rounded_as_written
from facegan.options import RESTORER
from facegan.restore.restorer import restored_faces

SIZES = {"synthetic128": 128, RESTORER: 256}
# `synthetic256` is for what is a quarter of its size; of a half Lanczos makes as much.
GAINS = [("synthetic128", condition) for condition in CONDITIONS] + [(RESTORER, condition) for condition in CONDITIONS if "x4" in condition]


@pytest.mark.parametrize("name", SIZES)
def test_it_is_small_and_says_how_it_was_made(name: str) -> None:
    folder = located(name)
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 4 * 2**20
    weights = open_restorer(name)
    assert weights.config.resolution == SIZES[name] and not weights.may_have_seen_joint_faces
    assert "facegan train --method restore" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name,condition", GAINS)
def test_faces_that_it_never_saw_gain_over_lanczos(name: str, condition: str) -> None:
    """By the bar of 1.5 dB, as on the many faces of docs/results.md."""
    faces, _ = held_out(name, "synthetic:7", SIZES[name], 32)
    degraded = degraded_faces(faces.images, CONDITIONS[condition], torch.device("cpu"))
    restored = rounded_as_written(restored_faces(open_restorer(name).restorer(), degraded))
    assert float((psnr(faces.images, restored) - psnr(faces.images, degraded)).mean()) >= 1.5


def test_the_command_of_the_readme_works(tmp_path, capsys) -> None:
    assert main(["data", "synth", "--num", "2", "--resolution", "64", "--seed", "7", "--out", str(tmp_path / "faces")]) == 0
    faces = str(tmp_path / "faces" / "img_align_celeba")
    assert main(["restore", faces, "--weights", RESTORER, "--scale", "4", "--out", str(tmp_path / "large")]) == 0
    assert len(list((tmp_path / "large").glob("*.png"))) == 3
