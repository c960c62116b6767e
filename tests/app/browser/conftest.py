"""The page in a headless Chromium: a server as a process, a browser, and a page on which nothing may go wrong."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import app_server
import pytest
from app_server import Served

from facegan import cli

if TYPE_CHECKING:
    from app_page import Eyes
    from playwright.sync_api import Browser, BrowserContext, Route


@pytest.fixture(scope="package")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn person in front of a drawn wall, 320 x 240: no photograph of anybody."""
    return app_server.drawn_photo(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="package")
def runs(train: Callable[..., Path], faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of a few steps, `first` with an evaluation by a judge of a few steps."""
    import facegan
    from facegan.evaluation.judge import judge
    from facegan.evaluation.judge.network import JudgeConfig

    folder = tmp_path_factory.mktemp("runs")
    train(out=folder / "first")
    train(out=folder / "second", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGAN_CACHE", str(tmp_path_factory.mktemp("judges")))
        patch.setattr(judge, "JudgeConfig", partial(JudgeConfig, steps=6, batch=20, width=4, checks=1))
        report = facegan.load(folder / "first").evaluate(samples=20)
        report.save(folder / "first" / "evaluation")
    return folder


@pytest.fixture(scope="package")
def server(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app with the shipped network and a folder of runs."""
    if find_spec("gradio") is None:  # to import it here takes seconds
        pytest.skip("gradio is not installed: pip install 'facegan[app]'")
    if app_server.chromium() is None:
        pytest.skip(f"none of {', '.join(app_server.CHROMIUMS)} is installed: apt-get install chromium")
    with app_server.served(["synthetic64", "--runs", str(runs)], tmp_path_factory.mktemp("app") / "app.log") as one:
        yield one


@pytest.fixture(scope="package")
def browser(server: Served) -> Iterator[Browser]:
    """Debian's Chromium, not one that Playwright downloads. It ends with this folder: its event loop would be in the way of others."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=app_server.chromium(), args=app_server.SANDBOX)
        yield browser
        browser.close()


@contextmanager
def visits(browser: Browser, server: Served) -> Iterator[Callable[..., Eyes]]:
    """visit(**context): a page in a browser of its own. Afterwards: no error on any, no request that left this machine, a server that
    goes on."""
    from app_page import DESKTOP, PATIENCE, Eyes

    contexts: list[BrowserContext] = []
    pages: list[Eyes] = []
    left: list[str] = []

    def here_only(route: Route) -> None:
        if route.request.url.startswith((server.address, "data:", "blob:")):
            route.continue_()
        else:
            left.append(route.request.url)
            route.abort()

    def visit(**options: Any) -> Eyes:
        context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(PATIENCE)
        context.route("**/*", here_only)
        contexts.append(context)
        pages.append(Eyes(context.new_page(), server.address))
        return pages[-1]

    try:
        yield visit
    finally:
        for context in contexts:
            context.close()
    errors = [error for eyes in pages for error in eyes.errors]
    assert not left, f"requests left the machine: {left}"
    assert not errors, errors
    assert server.process.poll() is None, server.log.read_text()[-4000:]


@pytest.fixture
def visitor(browser: Browser, server: Served) -> Iterator[Callable[..., Eyes]]:
    """visitor(): a page of its own for each visitor, not yet opened."""
    with visits(browser, server) as visit:
        yield visit


@pytest.fixture
def eyes(visitor: Callable[..., Eyes]) -> Eyes:
    """A page, not yet opened."""
    return visitor()


@pytest.fixture(scope="module")
def busy(browser: Browser, server: Served, photo: Path) -> Iterator[Eyes]:
    """A page on every tab of which something was made, for tests that only look."""
    from app_page import TABS

    with visits(browser, server) as visit:
        eyes = visit().open()
        for tab in TABS:
            eyes.make(tab, photo, steps=200 if os.environ.get("FACEGAN_SCREENSHOTS") else 10)
        yield eyes


@pytest.fixture(scope="package")
def axe() -> str:
    """The source of axe-core, which looks for what people with disabilities cannot use."""
    path = os.environ.get("FACEGAN_AXE", "")
    if not path:
        pytest.skip(f"FACEGAN_AXE names no axe-core: {app_server.AXE}")
    return Path(path).read_text()


@pytest.fixture
def shoot() -> Callable[[Eyes, str], None]:
    """shoot(eyes, name): a picture of the whole page in the folder that FACEGAN_SCREENSHOTS names, if it names one."""
    folder = os.environ.get("FACEGAN_SCREENSHOTS", "")

    def shoot(eyes: Eyes, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            eyes.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return shoot


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, bytes]]:
    """The files that a command line writes, by their names below what its --out names; "." is that itself."""

    def written(line: str) -> dict[str, bytes]:
        words = shlex.split(line)
        assert words[0] == "facegan"
        monkeypatch.chdir(tmp_path)
        assert cli.main(words[1:]) == 0
        out = tmp_path / words[words.index("--out") + 1]
        return {str(path.relative_to(out)): path.read_bytes() for path in [out, *out.rglob("*")] if path.is_file()}

    return written
