"""The page as programs meet it: named endpoints, refusals, visitors side by side, nothing served that is not theirs."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facegan.api import load
from facegan.app.server import build, end, free_port, launch
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.options import App

NETWORK = "synthetic64"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    pytest.importorskip("gradio", reason="facegan[app] is not installed")
    options = App(port=0, runs=str(tmp_path_factory.mktemp("runs")), device="cpu")
    demo = build(options)
    yield demo, launch(demo, options)
    root = demo.page.sessions.root
    end(demo)
    assert not root.exists()


def client(page: tuple[Any, str], tmp_path: Path) -> Any:
    from gradio_client import Client

    return Client(page[1], verbose=False, download_files=tmp_path / "downloads", analytics_enabled=False)


def test_a_program_makes_a_mix(page: tuple[Any, str], tmp_path: Path) -> None:
    picture, command, *_ = client(page, tmp_path).predict(NETWORK, "0-1", [], "4", [], "interpolate", 3, 7, 0.5, 0.8, api_name="/mix")
    wanted = load(NETWORK, device="cpu").mix(rows=["0-1"], cols=["4"], mode="interpolate", layers="3-7", weight=0.5, truncation=0.8)
    assert (np.asarray(Image.open(picture)) == np.asarray(wanted.grid())).all()
    assert command == ("facegan mix --rows 0 1 --cols 4 --mode interpolate --layers 3-7 --weight 0.5 --truncation 0.8 --out mixes "
                       "--device cpu")  # fmt: skip


def test_the_named_endpoints_are_those_of_the_documentation(page: tuple[Any, str], tmp_path: Path) -> None:
    found = client(page, tmp_path).view_api(print_info=False, return_format="dict")
    assert set(found["named_endpoints"]) == {"/generate", "/mix", "/walk", "/search", "/project", "/edit", "/judge", "/report", "/runs"}
    assert found["unnamed_endpoints"] == {}
    text = Path("docs/app.md")
    if text.exists():
        assert all(f"`{name}`" in text.read_text() for name in found["named_endpoints"])


@pytest.mark.parametrize(
    ("endpoint", "values", "message"),
    [
        ("/generate", ("/etc/passwd", "0", 1.0, 0), "not in the list of choices"),
        ("/generate", (NETWORK, "../..", 1.0, 0), "Seeds is '../..': expected numbers"),
        ("/generate", (NETWORK, "0-9", 1.0, 3), "Best goes with a run of Method A"),
        ("/mix", (NETWORK, "1", ["/etc/x.npz"], "2", [], "crossover", 0, 3, 1.0, 1.0), "choices|no style here"),
        ("/mix", (NETWORK, "", [], "2", [], "crossover", 0, 3, 1.0, 1.0), "Rows is missing"),
        ("/project", (NETWORK, None, "w", 10), "Photo is missing"),
        ("/edit", ({"beard": 1}, False, "none"), "There is no projection of this photo yet|Photo is missing"),
        ("/edit", ([1], False, "none"), "amounts are no object of attributes and numbers"),
        ("/edit", ({"beard": "1"}, False, "none"), "amounts has 1 for beard: expected a number"),
        ("/judge", (None, "the run's own faces", 16), "The judge needs a run"),
        ("/runs", (None, "none", []), "There is no run here"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_the_page_goes_on(
    page: tuple[Any, str], tmp_path: Path, endpoint: str, values: tuple, message: str
) -> None:
    visitor = client(page, tmp_path)
    with pytest.raises(Exception, match=message):
        visitor.predict(*values, api_name=endpoint)
    assert len(visitor.predict(NETWORK, "5", 1.0, 0, api_name="/generate")[0]) == 1


def test_no_file_of_the_machine_and_no_address_is_opened_for_a_visitor(page: tuple[Any, str], tmp_path: Path) -> None:
    visitor = client(page, tmp_path)
    secret = tmp_path / "secret.png"
    Image.new("RGB", (32, 32)).save(secret)
    for place in (str(secret), "/etc/passwd", "http://127.0.0.1:9/x.png", "https://example.org/x.png"):
        sent = {"path": place, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
        with pytest.raises(Exception, match=r".+"):
            visitor.predict(NETWORK, sent, "w", 5, api_name="/project")
    for path in ("/etc/passwd", str(secret), str(Path(__file__).resolve()), str(page[0].page.sessions.root)):
        for prefix in ("gradio_api/file=", "file="):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{page[1]}{prefix}{path}")
            assert refused.value.code in (403, 404, 405)


def test_a_photo_is_projected_and_a_bad_one_is_a_sentence(page: tuple[Any, str], tmp_path: Path, photo: Path) -> None:
    from gradio_client import handle_file

    visitor = client(page, tmp_path)
    picture, command, _ = visitor.predict(NETWORK, handle_file(str(photo)), "w", 10, api_name="/project")
    assert command == "facegan project --steps 10 --target my-photo.png --out photo --device cpu"
    assert Image.open(picture).width > 300
    picture, whole, command, drift = visitor.predict({"beard": 0.5}, True, "none", api_name="/edit")
    assert command == "facegan edit my-photo.png --steps 10 --paste --add beard:0.5 --out photo --device cpu"
    assert Image.open(picture).width > 300
    assert Image.open(whole).size == Image.open(photo).size
    assert drift > 0
    (tmp_path / "bad.jpg").write_text("no picture")
    with pytest.raises(Exception, match=r"bad.jpg: no readable image"):
        visitor.predict(NETWORK, handle_file(str(tmp_path / "bad.jpg")), "w", 10, api_name="/project")


def test_visitors_at_once_wait_and_all_are_answered(page: tuple[Any, str], tmp_path: Path) -> None:
    def visit(number: int) -> str:
        return str(client(page, tmp_path / str(number)).predict(NETWORK, str(number), 1.0, 0, api_name="/generate")[1])

    with ThreadPoolExecutor(8) as pool:
        commands = list(pool.map(visit, range(8)))
    assert [f"--seeds {number} " in command for number, command in enumerate(commands)] == [True] * 8


def test_the_page_asks_nothing_of_other_machines(page: tuple[Any, str]) -> None:
    demo, address = page
    assert not demo.analytics_enabled
    assert demo.share_url is None
    assert address.startswith("http://127.0.0.1:")
    text = urllib.request.urlopen(address).read().decode()
    loaded = [part.split('"')[0] for mark in ('src="', '<link rel="stylesheet" crossorigin href="') for part in text.split(mark)[1:]]
    assert loaded
    assert not [each for each in loaded if each.startswith(("http", "//"))]
    theme = urllib.request.urlopen(f"{address}theme.css").read().decode()
    assert "@import" not in theme
    assert "url(http" not in theme


def test_a_port_that_is_taken_and_a_host_that_is_not_ours_are_sentences(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="facegan[app] is not installed")
    with pytest.raises(FaceganError, match="`host` is '192.0.2.1', which is no address of this machine"):
        free_port("192.0.2.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = App(port=taken.getsockname()[1], runs=str(tmp_path), device="cpu")
        demo = build(options)
        with pytest.raises(FaceganError, match="cannot be listened at.*name another `port`"):
            launch(demo, options)
        end(demo)


def test_without_gradio_the_command_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from facegan.app import quiet

    monkeypatch.setattr(quiet.importlib.util, "find_spec", lambda name: None)
    assert main(["app", "--port", "0"]) == 2
    assert capsys.readouterr().err.strip().endswith("the page needs Gradio, which is not installed: pip install 'facegan[app]'")


def test_the_parser_and_the_work_need_no_gradio() -> None:
    code = (
        "import sys; from facegan.cli import parser; parser(['app']).parse_args(['app', '--port', '5'])\n"
        "assert 'torch' not in sys.modules and 'gradio' not in sys.modules\n"
        "import facegan.app.faces, facegan.app.mixes, facegan.app.photos, facegan.app.judging, facegan.app.runs, facegan.app.server\n"
        "assert 'gradio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
