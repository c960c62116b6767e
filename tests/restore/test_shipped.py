"""The restorer that comes with the package: small, whole, and better than what needs no network."""

from __future__ import annotations

import torch

from facegan.checkpoints.pretrained import located
from facegan.checkpoints.restorers import open_restorer
from facegan.cli import main
from facegan.evaluation.restoration import CONDITIONS, degraded_faces, held_out, psnr, rounded_as_written
from facegan.options import RESTORER
from facegan.restore.restorer import restored_faces

FOLDER = located(RESTORER)


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 4 * 2**20
    weights = open_restorer(RESTORER)
    assert weights.config.resolution == 128 and not weights.may_have_seen_joint_faces
    assert "facegan train --method restore --prior" in (FOLDER / "README.md").read_text()


def test_faces_that_it_never_saw_gain_over_lanczos() -> None:
    """By the bar of 1.5 dB at twice the size, as on the many faces of docs/results.md."""
    faces, _ = held_out(RESTORER, "synthetic:7", 128, 32)
    restorer = open_restorer(RESTORER).restorer()
    for name, degradation in CONDITIONS.items():
        degraded = degraded_faces(faces.images, degradation, torch.device("cpu"))
        restored = rounded_as_written(restored_faces(restorer, degraded))
        assert float((psnr(faces.images, restored) - psnr(faces.images, degraded)).mean()) >= 1.5, name


def test_the_command_of_the_readme_works(tmp_path, capsys) -> None:
    assert main(["data", "synth", "--num", "2", "--resolution", "64", "--seed", "7", "--out", str(tmp_path / "faces")]) == 0
    faces = str(tmp_path / "faces" / "img_align_celeba")
    assert main(["restore", faces, "--weights", RESTORER, "--scale", "2", "--out", str(tmp_path / "large")]) == 0
    assert len(list((tmp_path / "large").glob("*.png"))) == 3
