"""Photo: uploads, projection with pictures on the way, edits; what the page makes is what its commands write."""

from __future__ import annotations

import io
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.alignment import detector
from facegan.app import mixes, photos
from facegan.app.mixes import Asked
from facegan.app.networks import Networks
from facegan.app.photos import Wanted
from facegan.app.sessions import Session
from facegan.app.turns import Stopped, Worker
from facegan.app.words import PageError
from facegan.errors import FaceganError

NETWORK = "synthetic64"
WANTED = Wanted(NETWORK, "w", 6)


@pytest.fixture(autouse=True)
def no_aligner(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where facegan[align] is not installed: drawn faces fool no detector."""
    monkeypatch.setattr(detector, "available", lambda: False)


def project(networks: Networks, session: Session, wanted: Wanted = WANTED) -> photos.Projected:
    with session.job("photo") as job:
        worker = Worker(job, lambda: photos.project(networks, session, job, wanted))
        for _ in worker:
            pass
        return worker.result


def test_a_photo_is_taken_under_a_harmless_name(networks: Networks, session: Session, photo: Path) -> None:
    taken = photos.take(session, str(photo))
    assert taken.name == "my-photo.png"
    assert taken.read_bytes() == photo.read_bytes()
    assert taken.is_relative_to(session.folder)
    face = photos.face_of(networks, session, NETWORK)
    assert "central square" in face.words
    assert "pip install 'facegan[align]'" in face.words
    shown = np.asarray(Image.open(face.picture))
    assert shown.shape == (256, 256, 3)
    middle = np.asarray(Image.open(photo).crop((10, 0, 80, 70)).resize((64, 64), Image.Resampling.LANCZOS))
    assert (shown[2::4, 2::4] == middle).all()


def bad_uploads(folder: Path) -> dict[str, Path]:
    (folder / "text.jpg").write_text("no picture at all")
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (4, 4)).save(folder / "tiny.png")
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "cut.png").write_bytes((folder / "tiny.png").read_bytes()[:-20])
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(("name", "message"), [
    ("text.jpg", "text.jpg: no readable image"),
    ("empty.png", "empty.png: "),
    ("tiny.png", "tiny.png: 4 x 4 pixels, expected at least 16 x 16"),
    ("moving.gif", "moving.gif: an animation of 2 pictures"),
    ("cut.png", "cut.png: "),
])  # fmt: skip
def test_a_bad_upload_is_a_sentence(session: Session, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(PageError, match=message) as error:
        photos.take(session, str(bad_uploads(tmp_path)[name]))
    assert str(tmp_path) not in str(error.value)
    assert session.photo is None


def test_without_a_photo_nothing_is_projected(networks: Networks, session: Session) -> None:
    with pytest.raises(PageError, match="Photo is missing"):
        photos.take(session, None)
    with pytest.raises(PageError, match="Photo is missing"):
        photos.face_of(networks, session, NETWORK)
    with pytest.raises(FaceganError, match="`photo` is missing"):
        project(networks, session)


def test_a_projection_and_an_edit_are_what_their_commands_write(
    networks: Networks, session: Session, photo: Path, typed: Callable[[str], Path]
) -> None:
    photos.take(session, str(photo))
    found = project(networks, session)
    assert found.command == "facegan project --steps 6 --target my-photo.png --out photo --device cpu"
    place = typed("facegan styles average " + str(found.folder / "my-photo.npz") + " --out none.npz")  # the folder to type in
    shutil.copyfile(photo, place / "my-photo.png")
    typed(found.command)
    same_pictures(photos.download(session), place / "photo")

    edited = photos.edit(networks, session, {"bald": 0.0, "beard": 0.75}, paste=True)
    assert edited.command == "facegan edit my-photo.png --steps 6 --paste --add beard:0.75 --out photo --device cpu"
    assert 0 < edited.drift < 100
    assert edited.pasted is not None
    shutil.rmtree(place / "photo")
    typed(edited.command)
    same_pictures(photos.download(session), place / "photo")
    assert Image.open(edited.pasted).size == (90, 70)
    again = photos.edit(networks, session, {"beard": 0.5})  # without the whole photo: the picture of before is gone
    shutil.rmtree(place / "photo")
    typed(again.command)
    same_pictures(photos.download(session), place / "photo")


def same_pictures(archive: Path, there: Path) -> None:
    """The archive holds the files that the command wrote, and nothing else; no word in them tells where the page keeps them."""
    with zipfile.ZipFile(archive) as opened:
        here = {name: opened.read(name) for name in opened.namelist()}
    assert {path.name for path in there.iterdir()} == {*here}
    assert {"my-photo.npz", "my-photo.png"} < {*here}
    for name, content in here.items():
        if name.endswith(".npz"):
            with np.load(there / name) as theirs, np.load(io.BytesIO(content)) as ours:
                assert {*theirs} == {*ours}
                for key in theirs:
                    assert (theirs[key] == ours[key]).all(), (name, key)
        else:
            assert (there / name).read_bytes() == content, name


def test_the_same_question_again_is_answered_at_once(networks: Networks, session: Session, photo: Path) -> None:
    photos.take(session, str(photo))
    first = project(networks, session)
    made = (first.folder / "my-photo.npz").stat().st_mtime_ns
    assert photos.same(session, str(photo))
    assert project(networks, session).folder == first.folder
    assert (first.folder / "my-photo.npz").stat().st_mtime_ns == made
    other = project(networks, session, Wanted(NETWORK, "w+", 4))
    assert other.folder != first.folder
    assert "--space w+ --steps 4" in other.command


def test_a_projected_photo_can_be_mixed(networks: Networks, session: Session, photo: Path) -> None:
    photos.take(session, str(photo))
    project(networks, session)
    assert mixes.styles(networks, session, NETWORK)[-1] == "photo my-photo"
    mixed = mixes.mix(networks, session, Asked(NETWORK, "3", (), "", ("photo my-photo",), "crossover", 0, 4))
    assert mixed.command == "facegan mix --rows 3 --cols photo/my-photo.npz --mode crossover --layers 0-4 --out mixes --device cpu"


def test_pictures_on_the_way_change_and_cancelling_frees_the_device(
    networks: Networks, session: Session, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "EVERY", 0.0)
    photos.take(session, str(photo))
    seen: dict[str, bytes] = {}
    with session.job("photo") as job:
        worker = Worker(job, lambda: photos.project(networks, session, job, Wanted(NETWORK, "w", 5000)))
        for now in worker:
            if now.picture:
                seen.setdefault(now.picture.name, now.picture.read_bytes())
            if len(seen) == 2:
                session.stop("photo")
        began = time.monotonic()
        with pytest.raises(Stopped):
            _ = worker.result
    with session.turns:  # free at once, not after 5000 steps
        assert time.monotonic() - began < 5
    assert job.bar[1] < 5000
    assert len(set(seen.values())) == 2
    assert session.projected is None
    with pytest.raises(PageError, match="There is no projection of this photo yet"):
        photos.edit(networks, session, {"beard": 1.0})


@pytest.mark.parametrize(
    ("amounts", "critics", "message"),
    [
        ({}, "", "Nothing is to change"),
        ({"bald": 0.0}, "", "Nothing is to change"),
        ({"/etc/x.npz": 1.0}, "", "'/etc/x.npz' is no attribute beside synthetic64: expected one of bald, beard"),
        ({"bald": 1.0}, "/etc", "Critics is '/etc': expected one of none"),
    ],
)
def test_an_edit_that_makes_no_sense_is_a_sentence(
    networks: Networks, session: Session, photo: Path, amounts: dict, critics: str, message: str
) -> None:
    photos.take(session, str(photo))
    project(networks, session, Wanted(NETWORK, "w", 1))
    with pytest.raises(PageError, match=message):
        photos.edit(networks, session, amounts, critics=critics)


@pytest.mark.parametrize("steps", [0, -5, 10**6])
def test_steps_have_bounds(networks: Networks, session: Session, photo: Path, steps: int) -> None:
    photos.take(session, str(photo))
    with pytest.raises(FaceganError, match="`steps` is"):
        project(networks, session, Wanted(NETWORK, "w", steps))


def test_projections_of_a_visitor_are_bounded(networks: Networks, session: Session, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MOST_PROJECTIONS", 2)
    photos.take(session, str(photo))
    for steps in (1, 2, 3, 4):
        project(networks, session, Wanted(NETWORK, "w", steps))
    assert len(list((session.folder / "projections").iterdir())) == 2
    assert all(path.exists() for path in session.styles.values())


def test_an_upload_of_the_same_name_forgets_the_projection_before(networks: Networks, session: Session, photo: Path) -> None:
    photos.take(session, str(photo))
    project(networks, session, Wanted(NETWORK, "w", 1))
    Image.new("RGB", (80, 80), "navy").save(photo)
    assert not photos.same(session, str(photo))
    photos.take(session, str(photo))
    with pytest.raises(PageError, match="project it first"):
        photos.edit(networks, session, {"beard": 1.0})
