"""The scripts of examples/ run as they are, on small settings, and leave the pictures that they promise."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
RUNS = {
    "train_on_a_folder.py": (
        "--data FACES --resolution 16 --epochs 2 --out out", ("faces/grid.png", "evaluation/report.png"), "faces with both attributes: ",
    ),
    "use_an_official_network.py": ("--steps 2 --out out", ("faces/seed0265.png", "projection.png"), "synthetic64: 64 px\n"),
    "mix_and_edit.py": ("--steps 2 --out out", ("mixes/grid.png", "edited.png", "walk.gif"), ""),
    "operators_in_your_model.py": ("", (), "R1 "),
    "custom_attribute.py": ("--num 400 --epochs 2 --out out", ("faces/grid.png",), "trained on cheerful, glasses\n"),
}  # fmt: skip


def test_every_example_is_run() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(RUNS)
    for path in EXAMPLES.glob("*.py"):
        code = [line for line in path.read_text().splitlines() if line.strip()]
        assert 10 <= len(code) <= 35 and path.read_text().startswith('"""'), path


@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs(
    name: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, one_thread: None, small: None
) -> None:
    words, pictures, said = RUNS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *words.replace("FACES", str(faces)).split()])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.startswith(said) and printed.count("\n") <= 1
    for picture in pictures:
        assert min(Image.open(tmp_path / "out" / picture).size) >= 16, picture
