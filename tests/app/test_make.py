"""Generate and Mix: what the page makes is what its command writes."""

from __future__ import annotations

import gc
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.api import load
from facegan.app import faces, mixes
from facegan.app.mixes import Asked
from facegan.app.networks import Networks, found_runs
from facegan.app.sessions import Session, Sessions
from facegan.app.turns import Job, Worker
from facegan.app.words import PageError
from facegan.errors import FaceganError
from facegan.options import App

NETWORK = "synthetic64"


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# --- Generate


def test_generated_faces_are_those_of_the_library_and_of_the_command(
    networks: Networks, session: Session, typed: Callable[[str], Path]
) -> None:
    made = faces.generate(networks, session, NETWORK, "3, 7-8", 0.7)
    assert made.seeds == (3, 7, 8)
    wanted = load(NETWORK, device="cpu").generate([3, 7, 8], truncation=0.7)
    for path, image in zip(made.files, wanted, strict=True):
        assert (pixels(path) == np.asarray(image)).all()
    assert made.command == "facegan generate synthetic64 --seeds 3,7-8 --truncation 0.7 --out faces --device cpu"
    assert contents(faces.download(session)) == files(typed(made.command) / "faces")


def test_surprises_are_seeds(networks: Networks) -> None:
    lists = {faces.surprise() for _ in range(5)}
    assert len(lists) > 1
    assert all(len(faces.options_of(networks, NETWORK, text, 1, 0).seeds) == faces.SURPRISES for text in lists)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("other", "0"), "'other' is no network that this page offers: expected one of synthetic64"),
        (("/etc", "0"), "'/etc' is no network"),
        (("../x", "0"), "is no network"),
        ((NETWORK, "x"), "Seeds is 'x': expected numbers and ranges"),
        ((NETWORK, "0-999"), "Seeds is 1000 faces: expected at most 256"),
        ((NETWORK, "0", 1.0, 4), "Best goes with a run of Method A"),
        ((NETWORK, "0", float("nan")), "Truncation is nan"),
    ],
)
def test_what_cannot_be_generated_is_a_sentence(networks: Networks, session: Session, values: tuple, message: str) -> None:
    with pytest.raises(PageError, match=message):
        faces.generate(networks, session, *values)
    with session.turns:  # the device is free
        pass


def test_a_click_keeps_a_face_and_another_one_lets_it_go(networks: Networks, session: Session) -> None:
    made = faces.generate(networks, session, NETWORK, "5-6")
    assert faces.keep(networks, session, made, 1) == "seed 6 is kept"
    assert session.truncation == made.options.truncation
    assert faces.kept(session, NETWORK) == [6]
    assert "seed 6" in mixes.styles(networks, session, NETWORK)
    assert faces.keep(networks, session, made, 1) == "seed 6 is no longer kept"
    with pytest.raises(PageError, match="no such face"):
        faces.keep(networks, session, made, 2)
    with pytest.raises(PageError, match="no faces yet"):
        faces.download(Session(session.folder / "new", session.turns))


# --- Mix

STATES = [
    Asked(NETWORK, "0", ("seed 6",), "4", ("bald",)),  # the network's recipe
    Asked(NETWORK, "", ("seed 6",), "4-5", (), "crossover", 4, 7, 0.3, 0.8),
    Asked(NETWORK, "2", (), "", ("seed 6",), "interpolate", 9, 3, 0.45),
    Asked(NETWORK, "2,2,6", ("seed 6",), "5", (), "arithmetic", 6, 6, -0.5),
]


@pytest.mark.parametrize("state", STATES)
def test_a_mix_is_what_its_command_writes(networks: Networks, session: Session, state: Asked, typed: Callable[[str], Path]) -> None:
    session.keep(NETWORK, 6)
    mixed = mixes.mix(networks, session, state)
    made = contents(mixes.download(networks, session, state))
    folder = typed(mixed.command) / "mixes"
    assert made == files(folder)
    assert {"grid.png", "recipe.json"} < made.keys()
    assert (pixels(mixed.picture) == pixels(folder / "grid.png")).all()


def test_layers_are_a_range_whichever_end_comes_first(networks: Networks, session: Session) -> None:
    mixed = mixes.mix(networks, session, Asked(NETWORK, "0", (), "4", (), "crossover", 8, 5))
    assert mixed.command == "facegan mix --rows 0 --cols 4 --mode crossover --layers 5-8 --out mixes --device cpu"
    assert mixed.recipe == "crossover 5-8"
    assert mixes.layers_in_words(networks, NETWORK, 8, 5) == "layers 5 to 8 of 0 to 9: 32 px, 64 px"
    assert mixes.layers_in_words(networks, NETWORK, 0, 0) == "layers 0 to 0 of 0 to 9: 4 px"
    assert mixes.sizes(networks, NETWORK) == [4, 8, 8, 16, 16, 32, 32, 64, 64, 64]


def test_a_region_is_a_mask_by_name(networks: Networks, session: Session) -> None:
    offered = mixes.masks(networks, NETWORK)
    assert offered[-4:] == ["lower", "upper", "mouth", "eyes"]
    mixed = mixes.mix(networks, session, Asked(NETWORK, "0", (), "4", (), "regional", 0, 9, 1.0, 1.0, "mouth"))
    assert mixed.command == "facegan mix --rows 0 --cols 4 --mode regional --mask mouth --layers 0-9 --weight 1 --out mixes --device cpu"
    assert mixed.recipe == "regional 0-9 under mouth"
    with pytest.raises(PageError, match="expected one of"):
        mixes.mix(networks, session, Asked(NETWORK, "0", (), "4", (), "regional", 0, 9, 1.0, 1.0, "/etc/passwd"))


def test_each_mode_of_the_library_is_offered(networks: Networks, session: Session) -> None:
    assert mixes.modes(networks, session, NETWORK) == [mixes.BESIDE, "crossover", "interpolate", "arithmetic", "regional"]
    session.recipes[NETWORK] = session.folder / "recipe.json"
    assert mixes.modes(networks, session, NETWORK)[0] == mixes.FOUND
    assert [mixes.free(mode) for mode in (mixes.BESIDE, "crossover", "arithmetic")] == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (Asked(NETWORK, "", (), "1"), "Rows is missing"),
        (Asked(NETWORK, "1", (), " "), "Columns is missing"),
        (Asked(NETWORK, "0-99", (), "0-9", ("bald",)), "100 rows and 42 columns are more than the 1100 mixes of a page"),
        (Asked(NETWORK, "/etc/passwd", (), "1"), "Rows is '/etc/passwd': expected numbers"),
        (Asked(NETWORK, "1", ("/etc/x.npz",), "1"), "Rows names '/etc/x.npz', which is no style here"),
        (Asked(NETWORK, "1", ("seed 9",), "1"), "which is no style here"),  # not kept
        (Asked(NETWORK, "1", (), "1", ("photo me",)), "Columns names 'photo me', which is no style here"),
        (Asked(NETWORK, "1", (), "2", (), "other"), "Mode is 'other'"),
        (Asked(NETWORK, "1", (), "2", (), mixes.FOUND), "none was found yet"),
        (Asked(NETWORK, "1", (), "2", (), "crossover", 0, 99), "Layers is 0-99: expected 0 to 9"),
        (Asked("other", "1", (), "2"), "is no network that this page offers"),
    ],
)
def test_what_cannot_be_mixed_is_a_sentence(networks: Networks, session: Session, state: Asked, message: str) -> None:
    with pytest.raises(PageError, match=message):
        mixes.mix(networks, session, state)
    with session.turns:
        pass


def work(session: Session, call: Callable[[], object]) -> object:
    worker = Worker(Job(session.turns), call)
    for _ in worker:
        pass
    return worker.result


def test_a_walk_is_what_its_command_writes(networks: Networks, session: Session, typed: Callable[[str], Path]) -> None:
    session.keep(NETWORK, 6)
    walked = work(session, lambda: mixes.walk(networks, session, Asked(NETWORK, "0", ("seed 6",), "4", ("seed 6",)), 3, 12.5, ".gif"))
    assert walked.command == "facegan walk --rows 0 6 4 --frames 3 --fps 12.5 --out walk.gif --device cpu"  # type: ignore[attr-defined]
    assert walked.video.read_bytes() == (typed(walked.command) / "walk.gif").read_bytes()  # type: ignore[attr-defined]
    with pytest.raises(FaceganError, match="expected at most 600"):
        mixes.walk(networks, session, Asked(NETWORK, "0-99", (), "1"), 60, 12, ".gif")
    with pytest.raises(FaceganError, match="not as '.exe'"):
        mixes.walk(networks, session, Asked(NETWORK, "0", (), "1"), 3, 12, ".exe")


def test_names_of_many_styles_say_how_many(networks: Networks, session: Session) -> None:
    called = mixes.called(networks, NETWORK)
    assert [called(name) for name in mixes.styles(networks, session, NETWORK)] == ["bald (32)", "beard (32)"]
    assert called("seed 3") == "seed 3"


def test_a_search_without_critics_is_a_sentence(networks: Networks, session: Session) -> None:
    with pytest.raises(FaceganError, match="A search needs critics"):
        mixes.search(networks, session, Asked(NETWORK, "0-3", (), "4-7"), "", 8)


# --- networks


def test_what_makes_no_faces_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match="synthetic256 is a restorer"):
        Networks(App(sources=("synthetic256",), runs=str(tmp_path)))
    with pytest.raises(FaceganError, match="is no run, network or checkpoint"):
        Networks(App(sources=(str(tmp_path / "nothing"),), runs=str(tmp_path)))


def test_a_network_is_opened_once_and_shared(networks: Networks, sessions: Sessions) -> None:
    assert networks.stylegan(NETWORK) is networks.stylegan(NETWORK)
    first = faces.generate(networks, sessions.of("one"), NETWORK, "1").files[0]
    second = faces.generate(networks, sessions.of("two"), NETWORK, "1").files[0]
    assert first != second
    assert first.read_bytes() == second.read_bytes()


def test_runs_are_looked_for_in_their_folder_alone(tmp_path: Path, train: Callable[..., Path]) -> None:
    run = train()
    (tmp_path / "runs" / "group").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(run)
    shutil.copytree(run, tmp_path / "runs" / "group" / "one")
    assert found_runs(tmp_path / "runs") == [tmp_path / "runs" / "group" / "one"]
    assert found_runs(tmp_path / "nothing") == []
    networks = Networks(App(runs=str(tmp_path / "runs"), device="cpu"))
    [name] = networks.runs()
    assert networks.called(name) == "group/one"
    assert networks.names() == [NETWORK, name]
    assert networks.styled() == [NETWORK]
    with pytest.raises(FaceganError, match="is no run that this page offers"):
        networks.run(str(run))
    with pytest.raises(FaceganError, match="faces have no styles"):
        networks.stylegan(name)


# --- a long day


def test_nothing_piles_up(networks: Networks, sessions: Sessions) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    session = sessions.of("one")

    def interact(number: int) -> None:
        faces.generate(networks, session, NETWORK, f"{number}-{number + 1}")
        faces.download(session)
        state = Asked(NETWORK, f"{number}", (), "1", (), "interpolate", number % 10, 9, 0.5)
        mixes.mix(networks, session, state)
        with pytest.raises(PageError):
            mixes.mix(networks, session, Asked(NETWORK, "x", (), "1"))

    for number in range(3):
        interact(number)
    before, count = len(files(sessions.root)), tensors()
    for number in range(3, 15):
        interact(number)
    assert len(files(sessions.root)) == before
    assert tensors() <= count + 5
    assert session.jobs == {}
