"""README.md's Python runs as printed, where its paths are: a folder of faces and a photo."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from facegan.data.synthetic.dataset import write_celeba_layout

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)


def test_the_blocks_are_found() -> None:
    assert len(BLOCKS) == README.count("```python") >= 2
    assert "facegan.train(" in BLOCKS[0] and all(len(line) <= 140 for block in BLOCKS for line in block.splitlines())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_a_block_runs_as_printed(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, one_thread: None, small: None
) -> None:
    monkeypatch.chdir(tmp_path)
    write_celeba_layout(Path("faces"), 240, 64, 0, workers=1)
    shutil.copy(min(Path("faces/img_align_celeba").iterdir()), "photo.jpg")
    before = {path.name for path in tmp_path.iterdir()}
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    if "facegan.train(" in block:
        assert {path.name for path in tmp_path.iterdir()} - before >= {"runs", "faces-made", "mixes.png", "edited.png"}
        assert len(list(Path("faces-made").glob("seed*.png"))) == 16 and Image.open("edited.png").size == (64, 64)
        assert 0 <= float(capsys.readouterr().out) <= 1
