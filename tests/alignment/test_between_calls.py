"""What people do to photos, faces, lists and notes between two calls of `facegan data align`, and what names it gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from photographs import KEEP, Drawn, options, table
from PIL import Image

from facegan.alignment.aligner import align_folder, align_photos
from facegan.errors import FaceganError
from facegan.files import _machine
from facegan.locks import held
from facegan.options import AlignOptions


def faces(tmp_path: Path) -> list[str]:
    root = tmp_path / "faces"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png") if path.name != "contact-sheet.png")


def labels(tmp_path: Path) -> list[str]:
    return (tmp_path / "faces/metadata.csv").read_text().splitlines()


@pytest.fixture
def two(tmp_path, photo) -> Path:
    """A photo of a face in each of two folders."""
    photo(tmp_path / "photos/bald/a.png", Drawn(150, 120, 100, seed=1), seed=1)
    photo(tmp_path / "photos/beard/b.png", Drawn(150, 120, 100, seed=2), seed=2)
    return tmp_path


# --- one call at a time


def test_a_second_call_on_one_folder_is_refused_and_a_dry_run_is_not(two):
    with held(two / "faces"), pytest.raises(FaceganError, match=r"`out=.*/faces` is in use by process \d+ on .*: wait until it has ended"):
        align_folder(options(two))
    with held(two / "faces"):
        assert len(align_folder(options(two, dry_run=True))) == 2
    assert not (two / "faces").exists()
    assert len(align_folder(options(two))) == 2 and not (two / "faces/.lock").exists()


def test_what_a_killed_call_left_within_folders_is_swept(two):
    align_folder(options(two))
    left = two / f"faces/bald/.a.png.{_machine()}-0123abcd.tmp"
    left.write_bytes(b"x")
    align_folder(options(two))
    assert not left.exists()


def test_a_face_that_was_cut_short_is_cut_out_again(two):
    align_folder(options(two))
    face = two / "faces/bald/a.png"
    content = face.read_bytes()
    for size in (0, 5, 12, len(content) - 1):
        face.write_bytes(content[:size])
        align_folder(options(two))
        assert face.read_bytes() == content


# --- faces


def test_a_removed_face_stays_away_at_another_size(two):
    align_folder(options(two))
    (two / "faces/bald/a.png").unlink()
    for size in (32, 48):
        result = align_folder(options(two, size=size))
        assert faces(two) == ["beard/b.png"] and result.counts() == {"removed by hand": 1}


def test_a_removed_face_that_is_put_back_is_taken(two):
    align_folder(options(two))
    (two / "faces/bald/a.png").rename(two / "aside.png")
    align_folder(options(two))
    (two / "aside.png").rename(two / "faces/bald/a.png")
    assert len(align_folder(options(two))) == 2 and faces(two) == ["bald/a.png", "beard/b.png"]


def test_a_removed_face_stays_away_under_another_name(two, photo):
    align_folder(options(two))
    (two / "faces/bald/a.png").unlink()
    photo(two / "more/c.png", Drawn(150, 120, 100, seed=3), seed=3)
    align_folder(options(two, photos=(str(two / "photos"), str(two / "more"))))
    assert faces(two) == ["more/c.png", "photos/beard/b.png"]


def test_pictures_of_others_are_not_written_over(two, detector):
    (two / "faces/bald").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(two / "faces/bald/a.png")
    for dry in (True, False):
        with pytest.raises(FaceganError, match=r"a\.png is there already, and is not of `facegan data align`"):
            align_folder(options(two, dry_run=dry))
    assert Image.open(two / "faces/bald/a.png").size == (9, 9) and not detector.seen


# --- photos


def test_the_folder_that_a_call_is_given_in_does_not_matter(two, detector, monkeypatch):
    monkeypatch.chdir(two)
    align_folder(options(two, photos=("photos",), attributes_from="folders"))
    before, seen = labels(two), len(detector.seen)
    (two / "below").mkdir()
    monkeypatch.chdir(two / "below")
    align_folder(options(two, photos=("../photos",), attributes_from="folders"))
    assert labels(two) == before == ["file_name,bald,beard", "bald/a.png,1,0", "beard/b.png,0,1"]
    assert [row["source"] for row in table(two)] == ["../photos/bald/a.png", "../photos/beard/b.png"] and len(detector.seen) == seen
    (two / "faces/bald/a.png").unlink()
    monkeypatch.chdir(two)
    align_folder(options(two, photos=("photos/beard",)))  # photos that this call does not name have a whole path
    assert {row["source"] for row in table(two)} == {str(two / "photos/bald/a.png"), "photos/beard/b.png"}


def test_photos_that_were_moved_are_known_with_what_was_corrected(two, detector):
    align_folder(options(two, attributes_from="folders"))
    listed = two / "faces/metadata.csv"
    listed.write_text(listed.read_text().replace("bald/a.png,1,0", "bald/a.png,1,1"))
    seen = len(detector.seen)
    (two / "photos").rename(two / "pictures")
    align_folder(options(two, photos=(str(two / "pictures"),), attributes_from="folders"))
    assert labels(two)[1:] == ["bald/a.png,1,1", "beard/b.png,0,1"] and len(detector.seen) == seen
    assert [row["source"] for row in table(two)] == [str(two / "pictures/bald/a.png"), str(two / "pictures/beard/b.png")]


def test_a_copy_is_another_photo(two, detector):
    align_folder(options(two))
    (two / "copy").mkdir()
    (two / "copy/a.png").write_bytes((two / "photos/bald/a.png").read_bytes())
    align_folder(options(two, photos=(str(two / "copy"),)))
    assert faces(two) == ["a.png", "bald/a.png", "beard/b.png"] and len(detector.seen) == 3


# --- names


def test_no_face_is_called_like_a_sheet_or_hidden_and_names_fit(tmp_path, photo):
    photo(tmp_path / "photos/labels.bmp", Drawn(150, 120, 100, seed=1), seed=1)
    photo(tmp_path / "photos/Contact-Sheet.bmp", Drawn(150, 120, 100, seed=2), seed=2)
    photo(tmp_path / f"photos/{'ä' * 120}.png", Drawn(90, 120, 80, seed=3), Drawn(230, 120, 80, seed=4), seed=3)
    photo(tmp_path / ".phone/x.png", Drawn(150, 120, 100, seed=5), seed=5)
    result = align_folder(options(tmp_path, photos=(str(tmp_path / "photos"), str(tmp_path / ".phone"))))
    names = [row.file for row in result.taken]
    assert [name.rpartition("-")[0] for name in names] == ["photos/Contact-Sheet", "photos/labels", *["photos/" + 100 * "ä"] * 2, ""]
    assert names[-1] == "phone/x.png" and names[-2].endswith(".face2.png") and faces(tmp_path) == sorted(names)


def test_faces_in_memory_have_names_of_their_own(tmp_path, photo):
    for seed, name in enumerate(("a/x.png", "b/x.png", "b/x.bmp")):
        photo(tmp_path / name, Drawn(150, 120, 100, seed=seed), seed=seed)
    chosen = AlignOptions(**KEEP)
    for given in ([str(tmp_path / "a/x.png"), str(tmp_path / "b/x.png")], [str(tmp_path / "b")]):
        result = align_photos(given, chosen, "cpu")
        assert len({row.file for row in result.taken}) == len(result) == 2
    assert [row.file for row in align_photos([str(tmp_path / "a")], chosen, "cpu").taken] == ["x.png"]


def test_an_empty_name_is_not_the_current_folder(two, monkeypatch):
    monkeypatch.chdir(two / "photos")
    for bad, words in ((dict(out=""), "`out` is empty"), (dict(photos=("",)), "a name is empty")):
        with pytest.raises(FaceganError, match=words):
            align_folder(options(two, **bad))
    assert sorted(path.name for path in (two / "photos").iterdir()) == ["bald", "beard"]


# --- metadata.csv


def test_labels_of_photos_that_a_call_does_not_name_stay(two, photo):
    align_folder(options(two, attributes_from="folders"))
    photo(two / "later/bald/c.png", Drawn(150, 120, 100, seed=3), seed=3)
    photo(two / "later/glasses/d.png", Drawn(150, 120, 100, seed=4), seed=4)
    align_folder(options(two, photos=(str(two / "later"),), attributes_from="folders"))
    want = ["file_name,bald,glasses,beard", "bald/c.png,1,0,", "glasses/d.png,0,1,", "bald/a.png,1,,0", "beard/b.png,0,,1"]
    assert labels(two) == want
    align_folder(options(two, attributes_from="folders"))
    assert sorted(labels(two)[1:]) == sorted(["bald/a.png,1,0,", "beard/b.png,0,1,", "bald/c.png,1,,0", "glasses/d.png,0,,1"])


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_corrections_may_be_saved_by_a_spreadsheet(two, mark):
    align_folder(options(two, attributes_from="folders"))
    lines = ["file_name,bald,beard,remark", 'bald/a.png,1,1,"shaved"', "beard/b.png,0,1,"]
    (two / "faces/metadata.csv").write_bytes("\r\n".join(lines).replace(",", mark).encode("utf-8-sig"))
    align_folder(options(two, attributes_from="folders"))
    assert labels(two) == ["file_name,bald,beard,remark", "bald/a.png,1,1,shaved", "beard/b.png,0,1,"]


def test_a_list_that_lost_cells_is_named(two, detector):
    align_folder(options(two, attributes_from="folders"))
    (two / "faces/metadata.csv").write_text("file_name,bald,beard\nbald/a.png,1,1\nbeard/b.png\n")
    with pytest.raises(FaceganError, match=r"metadata\.csv: line 3 has 1 cells; expected 3"):
        align_folder(options(two, attributes_from="folders"))
    assert labels(two)[1] == "bald/a.png,1,1"


# --- notes


@pytest.mark.parametrize("change", [
    {"side": None}, {"hash": "zz"}, {"hash": "f" * 73}, {"landmarks": [1.0, 2.0]}, {"landmarks": [0.0] * 10}, {"sharpness": float("nan")},
    {"box": []}, {"file": ""}, {"file": "."}, {"file": ".alignment/photos.jsonl"}, {"file": "mine.txt"}, {"face": None},
])  # fmt: skip
def test_notes_that_make_no_sense_are_not_believed(two, detector, change):
    align_folder(options(two, keep_duplicates=False))
    (two / "faces/mine.txt").write_text("mine")
    notes = two / "faces/.alignment/photos.jsonl"
    head, first, second = map(json.loads, notes.read_text().splitlines())
    first["rows"][0].update(change)
    notes.write_text("".join(json.dumps(line) + "\n" for line in (head, first, second)))
    align_folder(options(two, keep_duplicates=False))
    assert len(detector.seen) == 4 and faces(two) == ["bald/a.png", "beard/b.png"] and (two / "faces/mine.txt").exists()


def test_a_damaged_list_of_what_was_taken_says_what_to_do(two):
    align_folder(options(two))
    known = two / "faces/.alignment/taken.json"
    for text in ("", "{", "[]"):
        known.write_text(text)
        with pytest.raises(FaceganError, match=r"taken\.json.*: delete it, and"):
            align_folder(options(two))
    known.write_text(json.dumps({"taken": [".", "../x.png", "mine.txt"], "removed": [], "metadata": ""}))
    for mine in (two / "x.png", two / "faces/mine.txt"):
        mine.write_text("mine")
    align_folder(options(two))
    assert faces(two) == ["bald/a.png", "beard/b.png"] and (two / "x.png").exists() and (two / "faces/mine.txt").exists()
