"""Which faces count as misplaced, in words and in one warning; the largest face of a photo, cut out."""

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pretend_detector
import pytest
from PIL import Image, ImageChops

from facegan import session
from facegan.alignment import detector, placement
from facegan.alignment.placement import Looked, cutter, misplaced, warn_of_misplaced
from facegan.errors import FaceganError

SHARED = Path(__file__).parents[3] / "shared" / "data"
CELEBA = np.array([(69, 111), (108, 111), (88, 136), (73, 152), (105, 152)], float)  # of its aligned pictures, 178 x 218


def square_at(dx=0.0, dy=0.0, ratio=1.0, degrees=0.0, width=200, height=200):
    side = min(width, height)
    return misplaced(pretend_detector.landmarks((width / 2 + dx * side, height / 2 + dy * side), ratio * side, degrees), width, height)


def picture(size=(200, 200), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


# --- words


def test_faces_that_are_in_their_place():
    assert square_at() == square_at(width=300) == square_at(height=180, width=150) == ""
    assert square_at(0.05, -0.08, 0.85, 4) == square_at(0, 0, 1.2, -8) == ""
    assert misplaced(CELEBA, 178, 218) == ""
    assert misplaced(CELEBA - (0, 20), 178, 178) == ""  # its central square


@pytest.mark.parametrize(
    "where, words",
    [(dict(degrees=20), "turned by 20 degrees"), (dict(degrees=-90), "turned by 90 degrees"), (dict(degrees=180), "turned by 180 degrees"),
     (dict(ratio=1 / 1.6), "1.6 times too small"), (dict(ratio=2), "2.0 times too large"),
     (dict(dx=0.2), "20% of the side off the middle (right)"), (dict(dx=-0.2, dy=0.2), "28% of the side off the middle (left and down)"),
     (dict(dy=-0.2, width=300), "20% of the side off the middle (up)"),
     (dict(degrees=30, ratio=0.5), "turned by 30 degrees, 2.0 times too small")],
)  # fmt: skip
def test_faces_that_are_not(where, words):
    assert square_at(**where) == words


# --- one warning


def shown(monkeypatch, *faces):
    """A detector that finds these squares, (dx, dy, ratio, degrees) each, one after the other, and then none; None: no face."""
    rest = list(faces)

    def find(photo):
        face, side = (rest.pop(0) if rest else None), min(photo.size)
        if face is None:
            return []
        dx, dy, ratio, degrees = face
        return [pretend_detector.landmarks((photo.width / 2 + dx * side, photo.height / 2 + dy * side), ratio * side, degrees)]

    return pretend_detector.install(monkeypatch, find)


GOOD, BAD = (0, 0, 1, 0), (0, 0, 1, 45)


def test_more_than_a_third_is_said_once_and_less_not(monkeypatch, caplog):
    for faces, told in (([BAD, BAD, GOOD, None], True), ([BAD, GOOD, GOOD, None], False), ([None] * 4, False), ([BAD] * 4, True)):
        caplog.clear()
        shown(monkeypatch, *faces)
        warn_of_misplaced([(f"{i}.png", picture(seed=i)) for i in range(4)], share=1 / 3)
        assert len(caplog.records) == told
        if told:
            assert "0.png is turned by 45 degrees; `facegan data align PHOTOS --out DIR`" in caplog.text
    assert "4 of 4 faces looked at are not where FFHQ has faces" in caplog.text


def test_a_single_face_is_said_and_pixels_are_taken_too(monkeypatch, caplog):
    shown(monkeypatch, BAD)
    warn_of_misplaced([("a.png", np.asarray(picture((64, 64))).transpose(2, 0, 1))])
    assert caplog.messages[0].startswith("the face is not where FFHQ has faces")


def test_few_of_many_are_looked_at_and_none_that_are_too_small(monkeypatch):
    looked = shown(monkeypatch)
    warn_of_misplaced([("", picture((600, 400)))] * 1000)
    assert len(looked) == placement.SEEN and {size for size, _ in looked} == {(192, 128)}
    looked.clear()
    warn_of_misplaced([("", picture((47, 60)))] * 10)
    assert not looked
    warn_of_misplaced([])
    kept = Looked(3)
    for i in range(9):
        kept.add(str(i), picture())
    kept.warn()
    assert len(looked) == 3


def test_nothing_is_said_without_the_extra_and_no_failure_matters(monkeypatch, caplog):
    pretend_detector.remove(monkeypatch)
    warn_of_misplaced([("", picture())])
    monkeypatch.setattr(detector, "available", lambda: True)
    warn_of_misplaced([("", picture())])
    pretend_detector.install(monkeypatch, lambda photo: 1 / 0)
    warn_of_misplaced([("", picture())])
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_training_looks_at_faces_spread_over_its_data(monkeypatch, caplog):
    images = np.zeros((1000, 3, 64, 64), np.uint8)
    images[::2] = 255  # every other one is misplaced
    pretend_detector.install(monkeypatch, lambda photo: [pretend_detector.landmarks((32, 32), 64, 45 if photo.getpixel((9, 9))[0] else 0)])
    table = SimpleNamespace(ids=[f"{i}.jpg" for i in range(1000)])
    session.look_at_faces(SimpleNamespace(data=SimpleNamespace(images=images[::-1], table=table)))
    assert "of 32 faces looked at are not where" in caplog.text
    caplog.clear()
    session.look_at_faces(SimpleNamespace(data=SimpleNamespace(images=np.zeros((5, 3, 64, 64), np.uint8), table=table)))
    session.look_at_faces(SimpleNamespace(data=SimpleNamespace(images=np.zeros((0, 3, 64, 64), np.uint8), table=table)))
    assert not caplog.text


# --- the largest face, cut out


def test_a_face_elsewhere_is_cut_out_and_one_in_its_place_is_not(monkeypatch, caplog):
    photo = picture((300, 200))
    near = lambda square: pretend_detector.landmarks(square[0], square[1])  # noqa: E731
    pretend_detector.install(monkeypatch, lambda _: [near(((90, 110), 64)), near(((200, 60), 40))])
    cut = cutter("auto", 64)
    face, square = cut(photo, "a.jpg")
    assert square.centre == pytest.approx((90, 110)) and square.side == pytest.approx(64)
    assert not ImageChops.difference(face, photo.crop((58, 78, 122, 142))).getbbox()
    pretend_detector.install(monkeypatch, lambda _: [near(((150, 100), 200))])
    assert cutter("auto", 64)(photo, "b.jpg") is None
    assert cutter("on", 64)(photo, "b.jpg")[1].side == pytest.approx(200)
    with caplog.at_level("INFO"):
        cut.tell()
    assert "face cut out as FFHQ's are: a.jpg (64 px of 300 x 200, the largest of 2)" in caplog.text


def test_without_a_face(monkeypatch, caplog):
    looked = pretend_detector.install(monkeypatch, lambda _: [])
    cut = cutter("auto", 64)
    assert [cut(picture((300, 200)), f"{i}.jpg") for i in range(5)] == [None] * 5
    assert [smallest for _, smallest in looked[:2]] == [50, 40]  # large ones first
    with caplog.at_level("INFO"):
        cut.tell()
    assert "no face found, the central square taken: 0.jpg, 1.jpg, 2.jpg and 2 more" in caplog.text
    with pytest.raises(FaceganError, match="x.jpg shows no face.*`align=off`"):
        cutter("on", 64)(picture(), "x.jpg")
    looked.clear()
    assert cut(picture((40, 40)), "tiny.png") is None and not looked


def test_where_nothing_is_looked_for(monkeypatch):
    pretend_detector.install(monkeypatch, lambda _: [])
    assert cutter("off", 64) is None
    pretend_detector.remove(monkeypatch)
    assert cutter("auto", 64) is None
    with pytest.raises(FaceganError, match="pip install 'facegan\\[align\\]'"):
        cutter("on", 64)


# --- real faces


def pictures(name, count):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in ../shared/data beside the repository")
    if not detector.available():
        pytest.skip("facegan[align] is not installed")
    with zipfile.ZipFile(SHARED / name) as archive:
        names = sorted(each for each in archive.namelist() if each.endswith(".jpg"))
        return [Image.open(io.BytesIO(archive.read(each))).convert("RGB") for each in names[:: max(1, len(names) // count)][:count]]


def zoomed_out(image):
    small = image.resize([round(side / 1.6) for side in image.size], Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", image.size, (120, 120, 120))
    canvas.paste(small, ((image.width - small.width) // 2, (image.height - small.height) // 2))
    return canvas


@pytest.mark.parametrize("name, count", [("faces512.zip", 12), ("celeba64.zip", 16)])
def test_aligned_faces_are_let_pass_and_moved_ones_are_not(name, count):
    originals = pictures(name, count)
    find = detector.Detector("cpu")
    moved = {
        "": lambda image: image, "turned by": lambda image: image.rotate(20, Image.Resampling.BICUBIC),
        "too small": zoomed_out, "off the middle": lambda image: ImageChops.offset(image, round(0.2 * image.width), 0),
    }  # fmt: skip
    for words, move in moved.items():
        images = [move(placement.reduced(image)) for image in originals]
        found = [faces[0].landmarks for faces in find(images, placement.SMALLEST * images[0].width) if faces]
        assert len(found) >= 0.8 * len(images)
        told = [misplaced(each, *images[0].size) for each in found]
        assert all(words in each for each in told) if words else not any(told), (words, told)
