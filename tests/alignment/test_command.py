"""`facegan data align` and `facegan.align` with the real networks, on photos that show the array of `portrait`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facegan
from facegan import cli
from facegan.errors import FaceganError


@pytest.fixture
def photos(portrait: Image.Image, tmp_path: Path) -> Path:
    """Two folders of photos, one of them turned."""
    random = np.random.default_rng(0)
    for name, side, roll in (("bald/one.png", 150, 0), ("beard/two.png", 120, 90)):
        coarse = Image.fromarray(random.integers(90, 150, (6, 8, 3), np.uint8))
        photo = coarse.resize((400, 300), Image.Resampling.BICUBIC)
        photo.paste(portrait.resize((side, side), Image.Resampling.BICUBIC), (130, 80))
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        photo.rotate(-roll, expand=True).save(path)
    return tmp_path / "photos"


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [
        "data",
        "align",
        str(photos),
        "--out",
        str(tmp_path / "faces"),
        *"--size 96 --attributes-from folders --min-sharpness 0".split(),
    ]
    assert cli.main([*words, "--dry-run"]) == 0
    assert "--dry-run" in capsys.readouterr().out and not (tmp_path / "faces").exists()
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "faces taken          2" in out and out.rstrip().endswith("contact-sheet.png")
    assert (tmp_path / "faces/metadata.csv").read_text() == "file_name,bald,beard\nbald/one.png,1,0\nbeard/two.png,0,1\n"
    one, two = (np.asarray(Image.open(tmp_path / "faces" / name)).astype(int) for name in ("bald/one.png", "beard/two.png"))
    inner = slice(30, 66)  # the same face, upright in both
    assert np.abs(one[inner, inner] - two[inner, inner]).mean() < 0.5 * np.abs(one[inner, inner] - np.rot90(two)[inner, inner]).mean()
    assert cli.main([*words, "--max-turn", "0"]) == 0
    assert "turned by more than about 0 degrees (--max-turn)" in capsys.readouterr().out
    assert cli.main([*words[:5], "--size", "8"]) == 2 and "--size is 8" in capsys.readouterr().err


def test_the_function(photos: Path, tmp_path: Path) -> None:
    picture = Image.open(photos / "bald/one.png").convert("RGB")
    options = dict(size=96, min_sharpness=0.0)
    every = facegan.align([picture, np.asarray(picture), photos / "beard"], keep_duplicates=True, **options)
    assert [row.source for row in every.taken] == ["picture 0", "picture 1", str(photos / "beard/two.png")] and len(every.images) == 3
    assert np.array_equal(np.asarray(every.images[0]), np.asarray(every.images[1]))
    alone = facegan.align(picture, **options)
    assert len(alone) == 1 and np.array_equal(np.asarray(alone.images[0]), np.asarray(every.images[0]))
    twice = facegan.align([picture, picture], **options)
    assert [row.reason for row in twice.rows] == ["", "duplicate of picture0000.png"]
    written = facegan.align(photos, out=tmp_path / "faces", **options)
    assert written.folder == tmp_path / "faces" and np.array_equal(np.asarray(written.images[0]), np.asarray(every.images[0]))


@pytest.mark.parametrize("given, options, words", [
    ([], {}, "there are no photos"),
    (np.zeros((9, 9), np.uint8), {}, r"uint8 \[9, 9\] is no photograph"),
    (np.zeros((9, 9, 3)), {}, "float64"),
    ([3], {}, "a int is no photograph"),
    (Image.new("RGB", (90, 90)), dict(out="x"), "`out` goes with paths"),
    (Image.new("RGB", (90, 90)), dict(attributes_from="folders"), "`attributes_from` goes with `out`"),
    (Image.new("RGB", (90, 90)), dict(sizes=3), "`sizes` is no option here"),
    (Image.new("F", (90, 90)), {}, "no readable image .*floating-point"),
    ("", {}, "a name is empty"),
    (Image.new("RGB", (90, 90)), dict(min_score=0.5), "`min_score` is 0.5: expected 0.9, .* to 1"),
])  # fmt: skip
def test_what_is_no_photograph(given, options, words) -> None:
    with pytest.raises(FaceganError, match=words):
        facegan.align(given, **options)


def test_pictures_that_cannot_be_decoded_are_a_sentence(tmp_path: Path) -> None:
    Image.effect_noise((200, 200), 90).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    with pytest.raises(FaceganError, match="no readable image .*truncated"):
        facegan.align(Image.open(tmp_path / "cut.jpg"), size=64)
    closed = Image.open(tmp_path / "whole.jpg")
    closed.close()
    with pytest.raises(FaceganError, match="no readable image"):
        facegan.align(closed, size=64)
