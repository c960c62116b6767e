"""Photo: a face out of a photo, its projection, and attributes added and removed."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from facegan.alignment import detector
from facegan.alignment.photos import read_photo
from facegan.app.networks import Networks
from facegan.app.sessions import Session, file_name, zipped
from facegan.app.turns import Job
from facegan.app.words import command, told
from facegan.data.photos import Target
from facegan.errors import FaceganError
from facegan.files import quoted
from facegan.options import Edit, EditOptions, Project, ProjectOptions, of
from facegan.plotting.sheets import picture_of, save_png, to_pil
from facegan.styles.edit import edit as edit_photo
from facegan.styles.project import find_photos
from facegan.styles.project import project as project_photos
from facegan.styles.projection import Projection, Settings

OF_PROJECT, OF_EDIT = ("projection.*",), ("*-edited.*", "*-pasted.png", "edit.*")  # files that one command writes and the other does not
MOST_ATTRIBUTES, LARGEST_AMOUNT = 64, 10
MOST_STEPS = 5000
MOST_PROJECTIONS = 12  # folders of one visitor
EVERY = 0.4  # seconds between two pictures of a projection
SIDE = 256  # pixels at which small faces are shown
NOT_INSTALLED = "facegan[align] is not installed, so the central square is taken: pip install 'facegan[align]'"


@dataclass(frozen=True)
class Wanted:
    """What the page's controls say."""

    network: str
    space: str = "w"
    steps: int = 200


def shown(picture: Image.Image, path: Path) -> Path:
    """Written so that it can be looked at: small faces are enlarged by repeating pixels."""
    scale = max(1, SIDE // picture.width)
    larger = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST) if scale > 1 else picture
    save_png(larger, path, 1)
    return path


def take(session: Session, upload: str | None) -> Path:
    """Copy an upload into the visitor's folder, under its own name; refuse what is no photo."""
    with told():
        if not upload:
            raise FaceganError("`photo` is missing: upload one, or take one by the camera")
        name = file_name(Path(upload).name)
        target = session.fresh("uploads") / name
        try:
            shutil.copyfile(upload, target)
            read_photo(target)
        except FaceganError as error:
            session.photo = None
            target.unlink(missing_ok=True)
            raise FaceganError(f"{name}: {error}") from None
        session.stop("photo")  # what runs is about another photo
        session.photo, session.projected, session.edited = target, None, None
        return target


def same(session: Session, upload: str) -> bool:
    """Whether it is the photo that the visitor has already."""
    photo = session.photo
    return (
        photo is not None
        and photo.exists()
        and photo.name == file_name(Path(upload).name)
        and photo.read_bytes() == Path(upload).read_bytes()
    )


@dataclass(frozen=True)
class Face:
    """The face of a photo as the network is to see it."""

    picture: Path
    words: str
    notes: tuple[str, ...]


def face_of(networks: Networks, session: Session, network: str) -> Face:
    """Cut it out: by the aligner if that is installed, else the central square."""
    with told(), session.job("photo", "face") as job, job.at_work():
        photo = _photo(session)
        target = _found(session, photo, networks.stylegan(network).config.resolution)
        picture = shown(picture_of(target.image.transpose(1, 2, 0)), session.inside("photo") / "face.png")
        if not detector.available():
            words = NOT_INSTALLED
        else:
            words = "the face is cut out as FFHQ's are" if target.place else "the central square, where the face is"
        return Face(picture, words, tuple(job.notes))


def _found(session: Session, photo: Path, resolution: int) -> Target:
    """The face of the photo at the network's size; it is looked for once."""
    key = (photo, photo.stat().st_mtime_ns, resolution)
    if session.found is None or session.found[0] != key:
        targets, problems = find_photos([str(photo)], resolution, "auto")
        if problems:
            raise FaceganError(problems[0])
        session.found = (key, replace(targets[0], source=photo.name))  # as the visitor calls it, in what is written
    target: Target = session.found[1]
    return target


def _photo(session: Session) -> Path:
    if session.photo is None or not session.photo.exists():
        raise FaceganError("`photo` is missing: upload one, or take one by the camera")
    return session.photo


def _folder(session: Session, wanted: Wanted, digest: str) -> Path:
    """Of one photo, network and way: the same question finds what is there; the oldest of many are removed."""
    root = session.inside("projections")
    key = f"{digest}-{abs(hash((wanted.network, wanted.space, wanted.steps))):x}"
    others = sorted((path for path in root.iterdir() if path.name != key), key=lambda path: path.stat().st_mtime)
    for old in others[: max(0, len(others) - MOST_PROJECTIONS + 1)]:
        session.styles = {name: path for name, path in session.styles.items() if not path.is_relative_to(old)}
        shutil.rmtree(old, ignore_errors=True)
    return root / key


def _asked(networks: Networks, wanted: Wanted) -> dict[str, Any]:
    if not 1 <= wanted.steps <= MOST_STEPS:
        raise FaceganError(f"`steps` is {wanted.steps}: expected 1 to {MOST_STEPS}")
    given = networks.options
    return dict(network=wanted.network, space=wanted.space, steps=wanted.steps, device=given.device, cuda_graphs=given.cuda_graphs)


@dataclass(frozen=True)
class Projected:
    """A photo as a style."""

    picture: Path  # photo, projection, difference
    folder: Path
    command: str
    notes: tuple[str, ...]


def project(networks: Networks, session: Session, job: Job, wanted: Wanted) -> Projected:
    """Find the style of the photo; for a `Worker`, which has the device. The job's picture is the newest face on the way."""
    photo = _photo(session)
    options = Project(target=(photo.name,), out="photo", **_asked(networks, wanted))
    gan = networks.stylegan(wanted.network)
    out = _folder(session, wanted, _digest(photo))
    shot = {"at": 0.0, "number": 0}

    def watch(projection: Projection) -> None:
        job.checked()
        if time.monotonic() - shot["at"] >= EVERY:
            place = session.inside("photo")
            now = shown(to_pil(projection.images()[0]), place / f"step{int(shot['number']) % 2}.png")
            shot.update(at=time.monotonic(), number=shot["number"] + 1)
            job.picture = now

    target = _found(session, photo, gan.config.resolution)
    projector = networks.projector(wanted.network, Settings.of(options))
    found = project_photos(projector, ProjectOptions(**of(options, ProjectOptions)), gan.source, out, watch, [target])
    [style] = found.styles
    session.styles[(wanted.network, style.name)] = out / f"{style.name}.npz"
    session.projected = (wanted, out)
    session.edited = None
    return Projected(out / "projection.png", out, command("project", options), tuple(job.notes))


def _digest(photo: Path) -> str:
    return hashlib.sha256(photo.name.encode() + photo.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Edited:
    """A photo with attributes added and removed."""

    picture: Path  # photo, projection, edit
    pasted: Path | None
    drift: float
    words: str
    command: str
    notes: tuple[str, ...]


def amounts_of(value: Any) -> dict[str, float]:
    """What a program sends as {"bald": 0.75}; FaceganError for anything else."""
    if not isinstance(value, dict) or len(value) > MOST_ATTRIBUTES:
        raise FaceganError('`amounts` are no object of attributes and numbers, such as {"bald": 0.75}')
    for name, amount in value.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not -LARGEST_AMOUNT <= amount <= LARGEST_AMOUNT:
            raise FaceganError(f"`amounts` has {quoted(amount)} for {quoted(name, 40)}: expected a number from -10 to 10")
    return {name: float(amount) for name, amount in value.items()}


def edit(networks: Networks, session: Session, amounts: Mapping[str, float], paste: bool = False, critics: str = "") -> Edited:
    """Move the projection along the attributes, each by its amount; the page's sliders."""
    with told(), session.job("photo", "edit") as job, job.at_work():
        photo = _photo(session)
        if session.projected is None or not session.projected[1].is_dir():
            raise FaceganError("There is no projection of this photo yet: project it first")
        wanted, out = session.projected
        known = networks.style_names(wanted.network)
        for name in amounts:
            if name not in known:
                raise FaceganError(f"{name[:40]!r} is no attribute beside {wanted.network}: expected one of {', '.join(known) or 'none'}")
        add = tuple(_weighted(name, amount) for name, amount in amounts.items() if amount > 0)
        remove = tuple(_weighted(name, -amount) for name, amount in amounts.items() if amount < 0)
        if not add and not remove:
            raise FaceganError("Nothing is to change: move the slider of an attribute")
        if critics and critics not in networks.with_critics():
            raise FaceganError(f"`critics` is {critics[:60]!r}: expected one of {', '.join(networks.with_critics()[:6]) or 'none'}")
        options = Edit(
            photo=photo.name, out="photo", add=add, remove=remove, paste=bool(paste), critics=critics, **_asked(networks, wanted)
        )
        gan = networks.stylegan(wanted.network)
        target = _found(session, photo, gan.config.resolution)
        projector = networks.projector(wanted.network, Settings.of(options))
        for old in out.glob("*-pasted.png"):
            old.unlink()
        found = edit_photo(projector, EditOptions(**of(replace(options, photo=str(photo)), EditOptions)), gan.source, out, target)
        pasted = next(out.glob("*-pasted.png"), None) if paste else None
        session.edited = options
        notes = tuple(note for note in job.notes if critics or not note.startswith("no critics"))  # which nobody asked for
        return Edited(out / "edit.png", pasted, found.record["identity_drift"], found.describe(), command("edit", options), notes)


def _weighted(name: str, amount: float) -> str:
    return name if amount == 1 else f"{name}:{round(amount, 4):g}"


def download(session: Session) -> Path:
    """What the command that is shown would write, in one archive."""
    with told():
        if session.projected is None or not session.projected[1].is_dir():
            raise FaceganError("There is no projection yet: project a photo first")
        left_out = OF_PROJECT if session.edited else OF_EDIT
        return zipped(session.projected[1], session.inside("downloads") / "photo.zip", left_out)
