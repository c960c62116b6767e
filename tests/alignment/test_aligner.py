"""Folders of photos to folders of faces, with a stand-in for the detector: files, reasons, resumption, labels, bad input."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from photographs import KEEP, Drawn, draw, options, table
from PIL import Image, ImageFilter

from facegan.alignment import aligner
from facegan.alignment.aligner import align_folder, align_photos, named
from facegan.alignment.face import COLUMNS, turn_of
from facegan.alignment.photos import photo_of
from facegan.errors import FaceganError
from facegan.options import AlignOptions

SIDE = 100  # of the drawn faces, where a test does not care; FFHQ's square is larger


def files(tmp_path: Path) -> list[str]:
    """Of the folder of faces, but for what is hidden."""
    root = tmp_path / "faces"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".alignment" not in path.parts)


def test_folders_are_mirrored_and_each_face_has_a_file(tmp_path, photo):
    photo(tmp_path / "photos/bald/a.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/beard/deep/b.png", Drawn(90, 110, 90, seed=2), Drawn(230, 110, SIDE, seed=3))
    photo(tmp_path / "photos/beard/none.png", seed=4)
    result = align_folder(options(tmp_path))
    assert files(tmp_path) == ["bald/a.png", "beard/deep/b.face2.png", "beard/deep/b.png", "contact-sheet.png", "faces.csv"]
    rows = table(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    assert [(Path(row["source"]).name, row["face"], row["file"], row["reason"]) for row in rows] == [
        ("a.png", "0", "bald/a.png", ""), ("b.png", "0", "beard/deep/b.png", ""), ("b.png", "1", "beard/deep/b.face2.png", ""),
        ("none.png", "", "", "no face"),
    ]  # fmt: skip
    assert result.photos == 3 and len(result) == 3 and result.counts() == {"no face": 1}
    assert [image.size for image in result.images] == [(64, 64)] * 3


def test_the_table_says_where_and_how_large(tmp_path, photo):
    face = Drawn(150, 120, SIDE, roll=30, seed=1)
    photo(tmp_path / "photos/a.png", face)
    align_folder(options(tmp_path))
    [row] = table(tmp_path)
    points = face.landmarks()
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    half = max(2.0 * np.linalg.norm(points[1] - points[0]), 1.8 * np.linalg.norm(mouth - eyes))  # Karras et al. 2019
    assert float(row["side"]) == pytest.approx(2 * half, abs=0.1) and float(row["roll"]) == pytest.approx(30, abs=0.1)
    assert [float(row[f"{name}_{axis}"]) for name in ("left_eye", "nose") for axis in "xy"] == pytest.approx(
        [*points[0], *points[2]], abs=0.01
    )
    assert float(row["score"]) == 0.99 and [float(row[name]) for name in ("x0", "y1")] == [100, 170]


def test_every_reason(tmp_path, photo):
    photos = tmp_path / "photos"
    photo(photos / "fine.png", Drawn(150, 120, SIDE, seed=1))
    photo(photos / "small.png", Drawn(150, 120, 12, seed=2))
    photo(photos / "edge.png", Drawn(20, 10, SIDE, seed=3))
    photo(photos / "turned.png", Drawn(150, 120, SIDE, seed=4, turn=0.5))
    photo(photos / "unsure.png", Drawn(150, 120, SIDE, seed=5, score=0.91))
    photo(photos / "nothing.png", seed=6)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    result = align_folder(options(tmp_path, min_score=0.95, max_padding=0.3))
    reasons = {Path(row["source"]).stem: row["reason"] for row in table(tmp_path)}
    assert reasons.pop("broken").startswith("unreadable: no readable image")
    assert reasons == {"fine": "", "small": "small", "edge": "padding", "turned": "turned", "unsure": "no face", "nothing": "no face"}
    assert [name for name in files(tmp_path) if name != "contact-sheet.png"] == ["faces.csv", "fine.png"]
    text = result.describe()
    assert "side below 32 px" in text and "more than 30%" in text and "faces taken" in text


def test_blurred_faces_are_left_out(tmp_path, photo, detector):
    face = Drawn(150, 120, SIDE, seed=1)
    sharp = photo(tmp_path / "photos/sharp.png", face)
    soft = sharp.filter(ImageFilter.GaussianBlur(6))
    soft.save(tmp_path / "photos/soft.png")
    detector.tell(soft, [face])
    align_folder(options(tmp_path, size=256, min_sharpness=0.35))
    assert {Path(row["source"]).stem: row["reason"] for row in table(tmp_path)} == {"sharp": "", "soft": "blurred"}


def test_of_a_burst_the_best_is_kept(tmp_path, photo, detector):
    """The same face three times, once larger in its photo; another face is no duplicate."""
    for number, (scale, name) in enumerate(((1, "a"), (2, "b"), (1, "c"))):
        face = Drawn(150 * scale, 120 * scale, SIDE * scale, seed=1)
        picture = draw((320, 240), [Drawn(150, 120, SIDE, seed=1)]).resize((320 * scale, 240 * scale), Image.Resampling.LANCZOS)
        picture.putpixel((0, 0), (number, 0, 0))
        (tmp_path / "photos").mkdir(exist_ok=True)
        picture.save(tmp_path / f"photos/{name}.png")
        detector.tell(picture, [face])
    photo(tmp_path / "photos/other.png", Drawn(150, 120, SIDE, seed=2), seed=9)
    result = align_folder(options(tmp_path, keep_duplicates=False))
    assert {Path(row["source"]).stem: row["reason"] for row in table(tmp_path)} == {
        "a": "duplicate of b.png", "b": "", "c": "duplicate of b.png", "other": ""}  # fmt: skip
    assert [name for name in files(tmp_path) if name != "contact-sheet.png"] == ["b.png", "faces.csv", "other.png"]
    assert result.counts() == {"duplicate": 2}
    align_folder(options(tmp_path))  # with keep_duplicates: made from the photos again, without looking for faces
    assert {"a.png", "b.png", "c.png"} < {*files(tmp_path)}


# --- resumption


def test_the_same_call_looks_at_new_photos_alone(tmp_path, photo, detector):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    align_folder(options(tmp_path))
    photo(tmp_path / "photos/b.png", Drawn(150, 120, SIDE, seed=2), seed=1)
    align_folder(options(tmp_path))
    assert detector.seen == [1, 1] and {"a.png", "b.png"} < {*files(tmp_path)}
    photo(tmp_path / "photos/a.png", Drawn(100, 120, 90, seed=3), Drawn(240, 120, 80, seed=4), seed=2)  # changed
    align_folder(options(tmp_path))
    assert detector.seen == [1, 1, 2] and [row["face"] for row in table(tmp_path)] == ["0", "1", "0"]


def test_an_interrupted_run_resumes_to_the_same_files(tmp_path, photo, detector, monkeypatch):
    for number in range(5):
        photo(tmp_path / f"photos/{number}.png", Drawn(150, 120, SIDE, seed=number), seed=number)
    align_folder(options(tmp_path, out=str(tmp_path / "whole")))
    real, calls = aligner.save_png, []

    def stop(picture, path, **more):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(path)
        real(picture, path, **more)

    monkeypatch.setattr(aligner, "save_png", stop)
    with pytest.raises(KeyboardInterrupt):
        align_folder(options(tmp_path))
    journal = tmp_path / "faces/.alignment/photos.jsonl"
    assert 1 <= len(journal.read_bytes().splitlines()) <= 4
    with open(journal, "ab") as file:
        file.write(b'{"photo": "cut off')  # by a power cut
    monkeypatch.setattr(aligner, "save_png", real)
    align_folder(options(tmp_path))
    for name in [*(f"{number}.png" for number in range(5)), "faces.csv"]:
        assert (tmp_path / "faces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_full_disk_loses_nothing(tmp_path, photo, monkeypatch):
    for number in range(3):
        photo(tmp_path / f"photos/{number}.png", Drawn(150, 120, SIDE, seed=number), seed=number)

    def full(picture, path, **more):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(aligner, "save_png", full)
        with pytest.raises(OSError, match="No space left"):
            align_folder(options(tmp_path))
    align_folder(options(tmp_path))
    assert {"0.png", "1.png", "2.png"} < {*files(tmp_path)}


def test_other_thresholds_need_no_second_look(tmp_path, photo, detector):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/b.png", Drawn(150, 120, SIDE, seed=4, turn=0.5), seed=1)
    align_folder(options(tmp_path))
    assert "b.png" not in files(tmp_path)
    align_folder(options(tmp_path, max_turn=90.0))
    assert "b.png" in files(tmp_path) and len(detector.seen) == 2
    align_folder(options(tmp_path, max_turn=10.0))
    assert "b.png" not in files(tmp_path) and len(detector.seen) == 2
    align_folder(options(tmp_path, size=32))
    assert len(detector.seen) == 4 and Image.open(tmp_path / "faces/a.png").size == (32, 32)
    align_folder(options(tmp_path, size=512))
    assert files(tmp_path) == ["contact-sheet.png", "faces.csv"]  # all are too small, and those of other sizes are gone


def test_faces_removed_by_hand_stay_away(tmp_path, photo):
    for number in range(3):
        photo(tmp_path / f"photos/{number}.png", Drawn(150, 120, SIDE, seed=number), seed=number)
    align_folder(options(tmp_path))
    (tmp_path / "faces/1.png").unlink()
    for size in (64, 64, 48):
        align_folder(options(tmp_path, size=size))
        assert "1.png" not in files(tmp_path) and [row["reason"] for row in table(tmp_path)] == ["", "removed by hand", ""]


def test_calls_with_other_photos_add_to_the_folder(tmp_path, photo):
    photo(tmp_path / "one/img.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "two/img.png", Drawn(150, 120, SIDE, seed=2), seed=1)
    align_folder(options(tmp_path, photos=(str(tmp_path / "one"),)))
    first = (tmp_path / "faces/img.png").read_bytes()
    for _ in range(2):
        align_folder(options(tmp_path, photos=(str(tmp_path / "two"),)))
        pictures = [name for name in files(tmp_path) if name.startswith("img")]
        assert len(pictures) == 2 and (tmp_path / "faces/img.png").read_bytes() == first
    align_folder(options(tmp_path, photos=(str(tmp_path / "one"),)))
    assert (tmp_path / "faces/img.png").read_bytes() == first and len(table(tmp_path)) == 2


def test_faces_move_where_a_call_that_names_more_folders_puts_them(tmp_path, photo, detector):
    photo(tmp_path / "photos/bald/a.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/beard/b.png", Drawn(150, 120, SIDE, seed=2), seed=1)
    align_folder(options(tmp_path, photos=(str(tmp_path / "photos/bald"),)))
    assert "a.png" in files(tmp_path)
    for _ in range(2):
        align_folder(options(tmp_path))
        assert files(tmp_path) == ["bald/a.png", "beard/b.png", "contact-sheet.png", "faces.csv"]
        assert [row["reason"] for row in table(tmp_path)] == ["", ""] and len(detector.seen) == 2


def test_notes_that_name_files_elsewhere_are_not_believed(tmp_path, photo, detector):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    align_folder(options(tmp_path))
    (tmp_path / "mine.png").write_bytes(b"mine")
    journal = tmp_path / "faces/.alignment/photos.jsonl"
    for notes in (journal, tmp_path / "faces/.alignment/taken.json"):
        notes.write_text(notes.read_text().replace('"a.png"', '"../mine.png"'))
    align_folder(options(tmp_path, max_turn=0.0))
    assert (tmp_path / "mine.png").read_bytes() == b"mine" and len(detector.seen) == 2


def test_nothing_that_it_did_not_make_is_removed(tmp_path, photo):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/mine.png").write_bytes(b"mine")
    align_folder(options(tmp_path))
    align_folder(options(tmp_path, max_turn=0.0))
    assert (tmp_path / "faces/mine.png").read_bytes() == b"mine"


def test_a_dry_run_writes_nothing(tmp_path, photo):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    result = align_folder(options(tmp_path, dry_run=True))
    assert len(result) == 1 and not (tmp_path / "faces").exists()


# --- names


def test_names_never_meet(tmp_path, photo):
    for name in ("a.png", "A.bmp", "a.face2.png", "b.png", "b.tif"):
        photo(tmp_path / "photos" / name, Drawn(100, 120, 90, seed=len(name)), Drawn(230, 120, 80, seed=ord(name[0])), seed=hash(name) % 99)
    align_folder(options(tmp_path))
    rows = table(tmp_path)
    assert len({row["file"].casefold() for row in rows}) == 10 and all((tmp_path / "faces" / row["file"]).exists() for row in rows)


def test_several_folders_keep_their_names(tmp_path, photo):
    photo(tmp_path / "photos/bald/x.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/beard/x.png", Drawn(150, 120, SIDE, seed=2), seed=1)
    align_folder(options(tmp_path, photos=(str(tmp_path / "photos/bald"), str(tmp_path / "photos/beard"))))
    assert {"bald/x.png", "beard/x.png"} < {*files(tmp_path)}


def test_faces_inside_the_photos_are_no_photos(tmp_path, photo):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    for _ in range(2):
        align_folder(options(tmp_path, out=str(tmp_path / "photos/faces")))
    assert sorted(path.name for path in (tmp_path / "photos/faces").glob("*.png")) == ["a.png", "contact-sheet.png"]
    assert named([], {}) == []


# --- labels


def test_labels_come_from_folders(tmp_path, photo):
    photo(tmp_path / "photos/bald/a.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/beard/b.png", Drawn(90, 110, 90, seed=2), Drawn(230, 110, SIDE, seed=3), seed=1)
    align_folder(options(tmp_path, attributes_from="folders"))
    assert (tmp_path / "faces/metadata.csv").read_text() == "file_name,bald,beard\nbald/a.png,1,0\nbeard/b.png,0,1\n"
    assert [row["reason"] for row in table(tmp_path)] == ["", "", "another face of a labelled photo"]
    align_folder(options(tmp_path, attributes_from="folders", faces="all"))
    assert (tmp_path / "faces/metadata.csv").read_text().splitlines()[2:] == ["beard/b.png,,", "beard/b.face2.png,,"]


def test_what_is_written_is_a_data_set(tmp_path, photo):
    from facegan.data.loaders import open_catalog

    photo(tmp_path / "photos/bald/a.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/beard/b.png", Drawn(150, 120, SIDE, seed=2), seed=1)
    align_folder(options(tmp_path, attributes_from="folders"))
    catalog = open_catalog(tmp_path / "faces")
    assert catalog.layout == "imagefolder" and catalog.members == ("bald/a.png", "beard/b.png")
    assert catalog.table.columns == ("bald", "beard") and catalog.table.values.tolist() == [[1, 0], [0, 1]]


def test_corrections_by_hand_stay(tmp_path, photo):
    listed = tmp_path / "faces/metadata.csv"
    photo(tmp_path / "photos/bald/a.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/beard/b.png", Drawn(150, 120, SIDE, seed=2), seed=1)
    align_folder(options(tmp_path, attributes_from="folders"))
    listed.write_text(listed.read_text().replace("bald/a.png,1,0", "bald/a.png,1,1"))
    photo(tmp_path / "photos/beard/c.png", Drawn(150, 120, SIDE, seed=3), seed=2)
    for _ in range(2):
        align_folder(options(tmp_path, attributes_from="folders"))
        assert listed.read_text().splitlines()[1:] == ["bald/a.png,1,1", "beard/b.png,0,1", "beard/c.png,0,1"]
    (tmp_path / "faces/beard/b.png").unlink()
    align_folder(options(tmp_path, attributes_from="folders"))
    assert listed.read_text().splitlines()[1:] == ["bald/a.png,1,1", "beard/c.png,0,1"]
    listed.write_text("file_name,bald,bald_score\n")
    with pytest.raises(FaceganError, match="columns were changed: expected file_name,bald,beard"):
        align_folder(options(tmp_path, attributes_from="folders"))
    assert listed.read_text() == "file_name,bald,bald_score\n"


@pytest.mark.parametrize("place", ["photos", "elsewhere"])
def test_labels_come_from_a_list(tmp_path, photo, place):
    photo(tmp_path / "photos/x/a.png", Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "photos/x/b.png", Drawn(150, 120, SIDE, seed=2), seed=1)
    photo(tmp_path / "photos/x/c.png", Drawn(150, 120, SIDE, seed=3), seed=2)
    (tmp_path / place).mkdir(exist_ok=True)
    listed = tmp_path / place / "metadata.csv"
    listed.write_text("file_name,bald,beard,identity\nx/a.png,1,,anna\nx/b.png,no,yes,\n")
    align_folder(options(tmp_path, attributes_from=str(listed)))
    assert (tmp_path / "faces/metadata.csv").read_text().splitlines() == [
        "file_name,identity,bald,beard", "x/a.png,anna,1,", "x/b.png,,0,1", "x/c.png,,,"]  # fmt: skip


@pytest.mark.parametrize("given, words", [
    ("nowhere.csv", "expected folders, or a metadata.csv"),
    ("list.odt", "with a column file_name"),
    ("other.csv", "names none of the 1 photos"),
    ("broken.csv", "needs a file_name"),
])  # fmt: skip
def test_lists_that_do_not_fit_are_refused_before_any_work(tmp_path, photo, detector, given, words):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    (tmp_path / "list.odt").write_text("")
    (tmp_path / "other.csv").write_text("file_name,bald\nz.png,1\n")
    (tmp_path / "broken.csv").write_text("name,bald\na.png,1\n")
    with pytest.raises(FaceganError, match=words):
        align_folder(options(tmp_path, attributes_from=str(tmp_path / given)))
    assert not detector.seen and not (tmp_path / "faces").exists()


# --- what photos can be


def test_bad_files_are_a_sentence_each_and_the_others_are_done(tmp_path, photo, caplog):
    photos = tmp_path / "photos"
    photo(photos / "fine.png", Drawn(150, 120, SIDE, seed=1))
    Image.new("RGB", (8, 8)).save(photos / "tiny.png")
    Image.new("CMYK", (90, 90)).save(photos / "ink.jpg")
    Image.new("L", (90, 90)).save(photos / "film.gif", save_all=True, append_images=[Image.new("L", (90, 90), 9)])
    Image.new("1", (9000, 9000)).save(photos / "huge.png")
    (photos / "raw.cr2").write_bytes(b"raw")
    (photos / "empty.jpg").write_bytes(b"")
    align_folder(options(tmp_path))
    reasons = {Path(row["source"]).name: row["reason"] for row in table(tmp_path)}
    assert reasons.pop("fine.png") == ""
    for name, words in {"tiny.png": "8 x 8 pixels, expected at least 16", "ink.jpg": "CMYK", "film.gif": "animation of 2 pictures",
                        "huge.png": "more than 64 million pixels", "empty.jpg": "no readable image"}.items():  # fmt: skip
        assert words in reasons.pop(name) and any(name in record.getMessage() for record in caplog.records)
    assert not reasons and ".cr2 is not read here" in caplog.text


def test_grey_wide_and_transparent_photos_are_photos(tmp_path, photo, detector):
    face = Drawn(150, 120, SIDE, seed=1)
    picture = photo(None, face)
    (tmp_path / "photos").mkdir()
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    clear = picture.copy()
    clear.putalpha(Image.new("L", picture.size, 255))
    for name, each in (("deep", deep), ("clear", clear), ("grey", picture.convert("L"))):
        each.save(tmp_path / f"photos/{name}.png")
        detector.tell(photo_of(Image.open(tmp_path / f"photos/{name}.png")).image, [face])
    align_folder(options(tmp_path))
    assert [row["reason"] for row in table(tmp_path)] == [""] * 3


def test_photos_are_turned_by_exif_and_large_ones_measured_in_their_own_pixels(tmp_path, photo, detector, monkeypatch):
    face = Drawn(150, 120, SIDE, seed=1)
    picture = draw((320, 240), [face])
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise is up
    (tmp_path / "photos").mkdir()
    picture.rotate(90, expand=True).save(tmp_path / "photos/a.png", exif=exif)
    detector.tell(picture, [face])
    align_folder(options(tmp_path))
    assert [row["reason"] for row in table(tmp_path)] == [""]

    monkeypatch.setattr("facegan.alignment.photos.DECODED", 320 * 240)
    large = picture.resize((640, 480), Image.Resampling.BICUBIC)
    large.save(tmp_path / "photos/b.jpg", quality=95)
    seen = photo_of(Image.open(tmp_path / "photos/b.jpg"))
    assert seen.image.size == (320, 240) and seen.scale == 2
    detector.tell(seen.image, [face])
    align_folder(options(tmp_path))
    small, big = table(tmp_path)
    assert float(big["side"]) == pytest.approx(2 * float(small["side"]), abs=0.2)
    assert float(big["nose_x"]) == pytest.approx(2 * float(small["nose_x"]), abs=0.02)


def test_forty_faces_of_one_photo(tmp_path, photo):
    faces = [Drawn(100 + 150 * (i % 8), 100 + 150 * (i // 8), 60 + i, seed=i) for i in range(40)]
    photo(tmp_path / "photos/crowd.png", *faces, size=(1300, 850))
    assert len(align_folder(options(tmp_path))) == 40 and len(table(tmp_path)) == 40


def test_no_photos_is_a_sentence(tmp_path, detector):
    (tmp_path / "photos").mkdir()
    with pytest.raises(FaceganError, match="holds no images"):
        align_folder(options(tmp_path))
    with pytest.raises(FaceganError, match="does not exist"):
        align_folder(options(tmp_path, photos=("nowhere",)))
    with pytest.raises(FaceganError, match="is an archive: unpack it"):
        align_folder(options(tmp_path, photos=("photos.zip",)))
    Image.new("RGB", (90, 90)).save(tmp_path / "photos/a.png")
    with pytest.raises(FaceganError, match="all pictures there are in"):
        align_folder(options(tmp_path, out=str(tmp_path / "photos")))


@pytest.mark.parametrize(
    "bad", [dict(size=8), dict(size=9999), dict(max_padding=1.2), dict(min_side=-1), dict(faces="some"), dict(photo="x")]
)
def test_options_that_make_no_sense(bad):
    with pytest.raises(FaceganError):
        AlignOptions(**bad)


def test_a_damaged_journal_starts_again(tmp_path, photo, detector, caplog):
    photo(tmp_path / "photos/a.png", Drawn(150, 120, SIDE, seed=1))
    align_folder(options(tmp_path))
    journal = tmp_path / "faces/.alignment/photos.jsonl"
    lines = journal.read_text().splitlines()
    for damaged in ("{}\n", f'{lines[0]}\n{{"photo": 3}}\n', "no json\n", json.dumps([1]) + "\n"):
        journal.write_text(damaged)
        align_folder(options(tmp_path))
        assert "a.png" in files(tmp_path)
    assert len(detector.seen) == 5


# --- the head's turn


def test_the_turn_of_a_head_is_its_angle():
    """A head of five points in space, its nose standing out by 1.1 half eye distances, turned and seen from far away."""
    head = np.array([(-1, 0, 0), (1, 0, 0), (0, 0.9, 1.1), (-0.8, 1.9, 0), (0.8, 1.9, 0)])
    for degrees in (-60, -25, 0, 10, 45):
        a = np.deg2rad(degrees)
        x = head[:, 0] * np.cos(a) + head[:, 2] * np.sin(a)
        for roll in (0, 1.0):
            seen = np.stack([x * np.cos(roll) - head[:, 1] * np.sin(roll), x * np.sin(roll) + head[:, 1] * np.cos(roll)], 1)
            assert turn_of(seen * 40 + 100) == pytest.approx(degrees, abs=1e-6)


# --- in memory


def test_pictures_in_memory(tmp_path, photo):
    one = photo(None, Drawn(150, 120, SIDE, seed=1))
    photo(tmp_path / "p/two.png", Drawn(150, 120, SIDE, seed=2), seed=3)
    result = align_photos([photo_of(one), str(tmp_path / "p")], AlignOptions(**KEEP), "cpu")
    assert [(row.source, row.file) for row in result.taken] == [("picture 0", "picture0000.png"), (str(tmp_path / "p/two.png"), "two.png")]
    assert [image.size for image in result.images] == [(64, 64)] * 2 and result.folder is None
    align_folder(options(tmp_path, photos=(str(tmp_path / "p"),)))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "faces/two.png")), np.asarray(result.images[1]))
