"""Visitors of a page over the network that comes with the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from facegan.app.networks import Networks
from facegan.app.sessions import Session, Sessions
from facegan.app.turns import hook, unhook
from facegan.cli import main
from facegan.options import App


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return Networks(App(runs=str(tmp_path_factory.mktemp("no-runs")), device="cpu"))


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    hook()
    every = Sessions()
    yield every
    every.end()
    unhook()


@pytest.fixture
def session(sessions: Sessions) -> Session:
    return sessions.of("somebody")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A plain picture with a lighter oval: no face for a detector, and something to project."""
    picture = Image.new("RGB", (90, 70), (60, 70, 90))
    picture.paste((200, 160, 140), (25, 10, 65, 60))
    path = tmp_path / "sent" / "my photo.png"
    path.parent.mkdir()
    picture.save(path)
    return path


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Runs a line as a shell would in an empty folder, whose path it gives."""
    import shlex

    place = tmp_path / "shell"
    place.mkdir()

    def typed(line: str) -> Path:
        monkeypatch.chdir(place)
        for part in line.split(" && "):
            words = shlex.split(part)
            assert words[0] == "facegan"
            assert main(words[1:]) == 0
        return place

    return typed
