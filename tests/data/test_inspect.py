"""`facegan data inspect` from end to end: what it says of a folder's pictures, the sheet it writes, and bad input."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan import cli
from facegan.data.formats import open_image
from facegan.data.inspect import inspect
from facegan.errors import FaceganError
from facegan.plotting.sections import MARGIN, SIDE


def _picture(seed: int, width: int = 48, height: int = 48) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders: six bald, four bearded, two with both, three with neither; a face in two of them, a burst, a damaged file."""
    root = tmp_path / "faces"
    for name, seeds in {
        "bald": range(6),
        "beard": range(10, 14),
        "bald and beard": range(20, 22),
        "neither bald nor beard": range(30, 33),
    }.items():
        (root / name).mkdir(parents=True)
        for seed in seeds:
            _picture(seed).save(root / name / f"{seed}.png")
    _picture(3, 60, 60).save(root / "beard/again.png")
    _picture(11).point(lambda v: min(255, v + 2)).save(root / "beard/burst.png")
    _picture(40, 64, 40).save(root / "bald/oblong.png")
    whole = (root / "beard/10.png").read_bytes()
    (root / "beard/10.png").write_bytes(whole[: len(whole) // 2])
    return root


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_pictures_of_a_folder(folder: Path) -> None:
    found = inspect(folder, "bald,beard", look=100, duplicate_distance=30, shown=True, progress=False)
    lines = _lines(found.text)
    assert {"looked at all of them", "unreadable 1", "shorter side 40 px smallest, 48 median, 60 largest"} <= set(lines)
    assert any(line.startswith("beard/10.png: OSError") for line in lines)
    assert any(line.startswith("not square 1: training takes the central square; `facegan data align`") for line in lines)
    table = [
        line for line in lines if re.match(r"(X_[12] \w+ only|joint|excluded, may be joint|other usable) \d+ \d+ (\d+ \d+ \d+|-) ", line)
    ]
    shorter = ["7 7 40 48 48", "6 5 48 48 60", "2 2 48 48 48", "0 0 -", "3 3 48 48 48"]
    titles = ["X_1 bald only", "X_2 beard only", "joint", "excluded, may be joint", "other usable"]
    assert [line.startswith(f"{title} {said} ") for line, title, said in zip(table, titles, shorter, strict=True)] == [True] * 5
    assert [line.split()[-1] for line in table] == ["0", "1", "0", "0", "0"]  # repeats
    assert re.search(r"excluded, may be joint +0 +0 +- +- +0$", found.text, re.M)
    assert "within a group 1" in lines and any(re.fullmatch(r"beard/11.png and beard/burst.png: \d+", line) for line in lines)
    assert (
        any(line.startswith("across groups 1 one face with two labels") for line in lines) and "X_1 bald only / X_2 beard only 1" in lines
    )
    assert any(re.fullmatch(r"bald/3.png and beard/again.png: \d+", line) for line in lines)
    assert [(title, len(faces)) for title, faces in found.faces] == [
        ("X_1 bald only: 7", 7), ("X_2 beard only: 6", 5), ("joint: 2", 2), ("excluded, may be joint: 0", 0), ("other usable: 3", 3),
    ]  # fmt: skip


def test_a_sample_and_none(folder: Path) -> None:
    some = _lines(inspect(folder, "bald,beard", look=8, duplicate_distance=30, progress=False).text)
    assert any(re.fullmatch(r"looked at [5-8] of them, spread over the groups", line) for line in some)
    none = inspect(folder, "bald,beard", shown=True, progress=False)
    assert "looked at" not in none.text and "near-duplicates" not in none.text and none.faces == ()
    everything = _lines(inspect(folder, "bald,beard", look=2, check_images=True, progress=False).text)
    assert "looked at all of them" in everything and "unreadable 1" in everything


def test_pictures_none_of_which_can_be_read(folder: Path) -> None:
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        path.write_bytes(b"%d" % i)
    found = inspect(folder, "bald,beard", look=100, shown=True, progress=False)
    assert "unreadable 18" in _lines(found.text) and "shorter side  " not in found.text.split("\n\n")[0]
    assert not any(faces for _, faces in found.faces)


def test_what_alignment_left_out_is_told(folder: Path) -> None:
    header = ["source", "face", "file", "reason", "side"]
    rows = [["p/1.jpg", "0", "bald/1.png", "", "200"], ["p/2.jpg", "0", "bald/gone.png", "", "100"], ["p/2.jpg", "1", "", "small", "9"]]
    rows += [[f"p/{i}.jpg", "", "", "no face", ""] for i in range(4, 7)]
    rows += [[f"p/beard/{i}.jpg", "0", "", "duplicate of bald/1.png", "90"] for i in range(2)]
    with open(folder / "faces.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    section = _lines(inspect(folder, "bald,beard", progress=False).text.split("\n\n")[-1])
    assert section[0] == "alignment faces by faces.csv, of 7 photos"
    assert section[1:4] == ["taken 2 100 px of the photo smallest, 150 median, 200 largest", "no longer there 1", "left out 6"]
    assert [line.split(" turned")[0].split(" enlarging")[0] for line in (section[4], section[7])] == ["no face 3", "small 1"]
    assert section[5].startswith("duplicate 2 ") and section[6] == (
        "elsewhere 2 one face with two labels, such as p/beard/0.jpg, taken as bald/1.png"
    )
    (folder / "faces.csv").write_text("name,bald\nx,1\n")
    last = inspect(folder, "bald,beard", progress=False).text.split("\n\n")[-1]
    assert last.startswith("alignment  faces.csv is ignored: ") and "is no list of `facegan data align`" in last


def test_synthetic_faces_are_drawn_to_be_looked_at() -> None:
    found = inspect("synthetic:3", "bald,beard", look=20, duplicate_distance=40, num=60, shown=True, progress=False)
    lines = _lines(found.text)
    assert "shorter side 128 px smallest, 128 median, 128 largest" in lines and "unreadable 0" in lines
    assert any(line.startswith("note drawn at 128 px") for line in lines)
    assert sum(len(faces) for _, faces in found.faces) <= 20


@pytest.mark.parametrize(("options", "sentence"), [
    ({"look": -1}, "`look` is -1; expected a number of images"),
    ({"look": 5, "duplicate_distance": 289}, "`duplicate_distance` is 289; expected 0 to 288"),
    ({"look": 5, "duplicate_distance": -1}, "`duplicate_distance` is -1"),
])  # fmt: skip
def test_bad_numbers(options: dict[str, int], sentence: str, folder: Path) -> None:
    with pytest.raises(FaceganError, match=sentence):
        inspect(folder, "bald,beard", progress=False, **options)  # type: ignore[arg-type]


# --- The command and its sheet


@pytest.fixture
def command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[int, str, str]]:
    """Runs `facegan data inspect` in a folder of its own: exit status, output, errors."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def command(*words: str, data: str = str(folder)) -> tuple[int, str, str]:
        status = cli.main(["data", "inspect", data, "--attributes", "bald,beard", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def test_the_sheet_is_announced_and_shows_every_group(command: Callable, tmp_path: Path) -> None:
    status, out, _ = command()
    assert status == 0 and out.rstrip().endswith("faces of each group: inspection.png")
    with open_image(tmp_path / "here/inspection.png") as opened:
        sheet = np.asarray(opened.convert("RGB")).astype(int)
    reference = np.asarray(_picture(0, SIDE, SIDE)).astype(int)  # the first bald face, enlarged from 48 px
    found = [y for y in range(sheet.shape[0] - SIDE) if np.abs(sheet[y : y + SIDE, MARGIN : MARGIN + SIDE] - reference).mean() < 12]
    assert found, "the first bald face stands at the left"


@pytest.mark.parametrize("words", [("--sheet", ""), ("--look", "0"), ("--sheet", "", "--look", "3")])
def test_no_sheet(words: tuple[str, ...], command: Callable, tmp_path: Path) -> None:
    status, out, _ = command(*words)
    assert status == 0 and "faces of each group" not in out and not list((tmp_path / "here").iterdir())


def test_never_inside_the_data(command: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    status, _, errors = command("--sheet", str(folder / "bald/x.png"))
    assert status == 2 and "--sheet is" in errors and "inside the data" in errors
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    status, out, _ = command(data=".")
    assert status == 0 and "near-duplicates" in out and "`sheet` names a file elsewhere" in caplog.text
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("words", "sentence"), [
    (("--sheet", "x.jpg"), "--sheet is 'x.jpg'; expected a file to write that ends in .png"), (("--look", "-2"), "--look is -2"),
    (("--sheet", "x.png", "--look", "0"), "--sheet shows images that were looked at, and --look 0 looks at none"),
    (("--duplicate-distance", "1000"), "--duplicate-distance is 1000; expected 0 to 288"),
])  # fmt: skip
def test_mistakes_are_told_in_a_sentence(words: tuple[str, ...], sentence: str, command: Callable, tmp_path: Path) -> None:
    status, out, errors = command(*words)
    assert status == 2 and sentence in errors and not out and not list((tmp_path / "here").iterdir())


def test_an_archive_is_looked_at_as_its_folder_is(command: Callable, folder: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    one, other = command("--sheet", "")[1], command("--sheet", "", data=str(tmp_path / "packed.zip"))[1]
    assert one.splitlines()[1:] == other.splitlines()[1:]
