"""`facegan project` and `edit` of whole photographs: which square is worked with, and what is put back."""

from __future__ import annotations

import json

import numpy as np
import pretend_detector
import pytest
import torch
from PIL import Image, ImageFilter

import facegan
from facegan.cli import main
from facegan.styles.project import find_photos
from facegan.styles.store import write_style


@pytest.fixture
def folder(projectable, tmp_path):
    """A photo of 150 x 100 px with a transparent half, and a direction."""
    torch.manual_seed(1)
    write_style(tmp_path / "that.npz", 3 * torch.randn(6, 32), key="direction")
    pixels = np.random.default_rng(0).integers(90, 160, (100, 150, 4), dtype=np.uint8)
    photo = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1))
    photo.save(tmp_path / "photo.png")
    photo.convert("RGB").save(tmp_path / "plain.png")
    return tmp_path


def at(*squares):
    return lambda photo: [pretend_detector.landmarks(*square) for square in squares]


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def edited(projectable, folder, *words, photo="plain.png"):
    fixed = ["--network", str(projectable.folder), "--styles", str(folder), "--steps", "3", "--add", "that", "--out", str(folder / "out")]
    return main(["edit", str(folder / photo), *fixed, *words])


# --- which square


def test_the_largest_face_is_cut_out(folder, monkeypatch, caplog):
    pretend_detector.install(monkeypatch, at(((40, 60), 48, 0), ((120, 30), 32, 0)))
    with caplog.at_level("INFO"):
        targets, problems = find_photos([str(folder / "plain.png")], 48, "auto")
    assert not problems and np.array_equal(targets[0].image, pixels(folder / "plain.png")[36:84, 16:64].transpose(2, 0, 1))
    assert targets[0].place.centre == pytest.approx((40, 60)) and targets[0].place.side == pytest.approx(48)
    assert "plain.png (48 px of 150 x 100, the largest of 2)" in caplog.text and "central square" not in caplog.text


@pytest.mark.parametrize("align, faces", [("off", at(((40, 60), 48, 0))), ("auto", at()), ("auto", at(((75, 50), 96, 2)))])
def test_the_central_square_otherwise(align, faces, folder, monkeypatch):
    pretend_detector.install(monkeypatch, faces)
    targets, _ = find_photos([str(folder / "plain.png")], 100, align)
    assert targets[0].place is None and np.array_equal(targets[0].image, pixels(folder / "plain.png")[:, 25:125].transpose(2, 0, 1))


def test_the_central_square_where_the_extra_is_missing(folder, monkeypatch, capsys, projectable):
    pretend_detector.remove(monkeypatch)
    assert find_photos([str(folder / "plain.png")], 100, "auto")[0][0].place is None
    assert edited(projectable, folder, "--align", "on") == 2
    assert "pip install 'facegan[align]'" in capsys.readouterr().err


def test_a_turned_photo_is_turned_first(folder, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(folder / "plain.png").rotate(180).save(folder / "turned.png", exif=exif)
    pretend_detector.install(monkeypatch, at(((40, 60), 48, 0)))
    targets, _ = find_photos([str(folder / name) for name in ("turned.png", "plain.png")], 48, "on")
    assert len(targets) == 1 and targets[0].name == "turned"  # the same pixels


def test_on_leaves_out_photos_without_a_face(folder, projectable, monkeypatch, capsys):
    Image.new("RGB", (90, 70), "blue").save(folder / "sea.png")
    pretend_detector.install(monkeypatch, lambda photo: at(((40, 60), 48, 0))(photo) if photo.width == 150 else [])
    out = folder / "styles"
    command = ["project", "--target", str(folder / "plain.png"), str(folder / "sea.png"), "--network", str(projectable.folder)]
    assert main([*command, "--steps", "2", "--align", "on", "--out", str(out)]) == 2
    assert "1 of 2 photos left out" in (said := capsys.readouterr().err) and "sea.png shows no face that was found" in said
    assert "--align off" in said
    assert (out / "plain.npz").exists() and not (out / "sea.npz").exists()
    [row] = json.loads((out / "projection.json").read_text())["targets"]
    assert row["square"] == {"centre": [40, 60], "side": 48, "roll": 0}
    pretend_detector.install(monkeypatch, at())
    assert edited(projectable, folder, "--align", "on") == 2
    assert "plain.png shows no face" in capsys.readouterr().err and not (folder / "out").exists()


def test_a_detector_that_fails_is_no_damaged_photo(folder, monkeypatch):
    pretend_detector.install(monkeypatch, lambda photo: 1 / 0)
    _, problems = find_photos([str(folder / "plain.png")], 16, "auto")
    assert problems == [f"faces could not be looked for in {folder / 'plain.png'} (ZeroDivisionError: division by zero)"]


def test_off_says_what_looks_unaligned(folder, monkeypatch, caplog):
    """At the network's resolution, of which 48 px are the fewest that say anything."""
    pretend_detector.install(monkeypatch, lambda photo: [pretend_detector.landmarks((photo.width / 2, photo.height / 2), photo.width, 30)])
    find_photos([str(folder / "plain.png")], 16, "off")
    assert "not where" not in caplog.text
    find_photos([str(folder / "plain.png")], 64, "off")
    assert "plain.png is turned by 30 degrees; `facegan data align PHOTOS --out DIR`" in caplog.text


# --- what is put back


def test_paste_puts_the_change_back_into_the_photo(folder, projectable, monkeypatch):
    pretend_detector.install(monkeypatch, at(((40, 50), 16, 0), ((120, 30), 9, 0)))
    assert edited(projectable, folder, "--paste") == 0
    out = folder / "out"
    before, after = pixels(out / "plain.png"), pixels(out / "plain-edited.png")  # of the network's 16 px, as the square has
    photo, found = pixels(folder / "plain.png"), pixels(out / "plain-pasted.png")
    outside = np.ones(photo.shape[:2], bool)
    outside[42:58, 32:48] = False
    assert np.array_equal(found[outside], photo[outside])
    wanted = (photo[42:58, 32:48] + after - before).clip(0, 255)
    assert np.abs(found[42:58, 32:48] - wanted)[3:-3, 3:-3].max() <= 1 and np.abs(after - before).mean() > 5
    square = json.loads((out / "edit.json").read_text())["square"]
    assert square["centre"] == pytest.approx([40, 50]) and square["side"] == pytest.approx(16) and square["roll"] == pytest.approx(0)


def test_paste_without_an_alignment_and_with_alpha(folder, projectable, monkeypatch):
    pretend_detector.remove(monkeypatch)
    assert edited(projectable, folder, "--paste", photo="photo.png") == 0
    photo, found = pixels(folder / "photo.png"), pixels(folder / "out/photo-pasted.png")
    assert found.shape == photo.shape and np.array_equal(found[..., 3], photo[..., 3])
    assert np.array_equal(found[:, :25], photo[:, :25]) and np.array_equal(found[:, 125:], photo[:, 125:])
    assert np.abs(found - photo)[30:70, 55:95].mean() > 2
    assert json.loads((folder / "out/edit.json").read_text())["square"] == {"centre": [75.0, 50.0], "side": 100.0, "roll": 0.0}


def test_an_edit_of_nothing_is_pasted_as_nothing(folder, projectable, monkeypatch):
    pretend_detector.install(monkeypatch, at(((40, 50), 41, 25)))
    assert edited(projectable, folder, "--paste", "--strength", "0") == 0
    assert np.array_equal(pixels(folder / "out/plain-pasted.png"), pixels(folder / "plain.png"))


def test_the_api_gives_the_photo(folder, projectable, monkeypatch):
    pretend_detector.install(monkeypatch, at(((40, 50), 41, 25)))
    gan = facegan.load(projectable.folder, device="cpu")
    done = gan.edit(folder / "plain.png", add=["that"], styles=folder, steps=2, paste=True, out=folder / "out")
    assert done.photo.size == (150, 100) and np.array_equal(np.asarray(done.photo), pixels(folder / "out/plain-pasted.png"))
    assert gan.edit(folder / "plain.png", add=["that"], styles=folder, steps=2, out=folder / "out").photo is None
