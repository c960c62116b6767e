"""The campaigns' frame and a moment of one of them; their longer forms are `make campaigns`."""

from __future__ import annotations

import importlib.util
import runpy
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

CAMPAIGNS = Path(__file__).resolve().parent / "campaigns"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"campaign_{name}", CAMPAIGNS / f"{name}.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Campaigns import what stands beside them."""
    monkeypatch.setattr(sys, "path", [str(CAMPAIGNS), *sys.path])


frame = module("run")
THERE = [each.name for each in frame.CAMPAIGNS if (CAMPAIGNS / f"{each.name}.py").exists()]


def test_the_table_has_all_campaigns() -> None:
    modules = {path.stem for path in CAMPAIGNS.glob("*.py")} - {"run", "arguments", "forked", "fuzzed_operators"}
    assert modules == set(THERE)
    assert sum(each.seconds for each in frame.CAMPAIGNS if not each.alone) / 2 + 600 <= 3600 * 1.1


@pytest.mark.parametrize("name", THERE)
def test_each_takes_what_the_frame_gives_it(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    campaign = next(each for each in frame.CAMPAIGNS if each.name == name)
    words = campaign.words(seed=3, scale=0.001)
    assert words[2:] == ["--count", str(max(1, round(campaign.count / 1000))), "--seconds", str(campaign.seconds / 1000), "--seed", "3"]
    monkeypatch.setattr(sys, "argv", [*words[1:], "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(words[1], run_name="__main__")
    said = capsys.readouterr().out
    assert ended.value.code == 0 and all(flag in said for flag in ("--count", "--seconds", "--seed"))


SCRIPTS = {
    "good": "print('12 things: all well')",
    "wrong": "import sys; print('12 things: one wrong'); sys.exit(1)",
    "skips": "print('skipped: no root here')",
    "tidies": "import time\ntry:\n    time.sleep(30)\nfinally:\n    print('tidied', flush=True)",
    "hangs": "import signal, subprocess, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
             "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])\nprint(child.pid, flush=True)\nchild.wait()",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "verdict", "last"),
    [
        ("good", "held", "12 things: all well"),
        ("wrong", "FAILED", "12 things: one wrong"),
        ("skips", "skipped", "skipped: no root here"),
        ("absent", "skipped", "skipped: there is no absent.py here"),
    ],
)
def test_how_a_campaign_ended(name: str, verdict: str, last: str, tmp_path: Path) -> None:
    (tmp_path / "absent").touch()
    if name in SCRIPTS:
        (tmp_path / f"{name}.py").write_text(SCRIPTS[name])
    outcome = frame.run(frame.Campaign(name, 1, 30, ""), 0, 1.0, tmp_path)
    assert (outcome.verdict, outcome.last) == (verdict, last)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for a process in /proc")
def test_one_that_hangs_is_found_and_ends_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "ENDS", 0.5)
    (tmp_path / "hangs.py").write_text(SCRIPTS["hangs"])
    outcome = frame.run(frame.Campaign("hangs", 1, 2, ""), 0, 1.0, tmp_path, grace=0)
    assert outcome.verdict == "HUNG" and outcome.bad
    while alive(int(outcome.last)):  # until the system has taken it away; a child that lives on is a test that hangs
        time.sleep(0.01)


def test_one_that_takes_too_long_may_tidy_up(tmp_path: Path) -> None:
    (tmp_path / "tidies.py").write_text(SCRIPTS["tidies"])
    outcome = frame.run(frame.Campaign("tidies", 1, 2, ""), 0, 1.0, tmp_path, grace=0)
    assert outcome.verdict == "HUNG" and "tidied" in outcome.said


def test_the_status_says_whether_all_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "wrong", "skips"):
        (tmp_path / f"{name}.py").write_text(SCRIPTS[name])
    good, wrong, skips = (frame.Campaign(name, 1, 30, "", alone=name == "skips") for name in ("good", "wrong", "skips"))
    assert frame.main([good, skips], 0, 1.0, 2, tmp_path) == 0
    assert capsys.readouterr().out.endswith("2 campaigns, 1 skipped, 0 to look at\n")
    assert frame.main([good, wrong], 0, 1.0, 2, tmp_path) == 1
    assert capsys.readouterr().out.endswith("2 campaigns, 0 skipped, 1 to look at: wrong\n")


def test_words_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert [each.name for each in frame.parsed(["--only", "busy,kills"])[0]] == ["busy", "kills"]
    for words, message in ((["--only", "kill"], "--only names kill: expected kills"), (["--scale", "0"], "--scale is 0")):
        with pytest.raises(SystemExit):
            frame.parsed(words)
        assert message in capsys.readouterr().err


def test_a_moment_of_a_campaign(capsys: pytest.CaptureFixture[str]) -> None:
    """Streamed images whose decoding processes are killed, by the frame, as `make campaigns` starts it."""
    streaming = next(each for each in frame.CAMPAIGNS if each.name == "streaming")
    assert frame.main([streaming], 5, 1 / streaming.count, 1) == 0
    assert "streaming 1 cases (" in capsys.readouterr().out


def test_an_error_in_a_log_is_told_from_a_choice_that_was_refused() -> None:
    errors, place = module("interactions").errors, 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n'
    refused = place + "gradio.exceptions.Error: \"Value: /etc/passwd is not in the list of choices: ['synthetic64']\"\n"
    assert errors("facegan app: http://127.0.0.1:1/\n" + refused + "INFO: well\n" + refused) == []
    assert errors(refused + place + "MemoryError\n" + refused) == [place + "MemoryError"]


def test_growing_memory_is_told_from_flat() -> None:
    interactions = module("interactions")
    flat, growing = [100.0 + 3 * (i % 2) for i in range(500)], [100.0 + 0.1 * i for i in range(500)]
    assert interactions.growth(flat) == pytest.approx((101.5, 101.5))
    assert interactions.growth(growing) == pytest.approx((114.95, 144.95))


def test_the_threads_that_auto_chose_are_judged_by_the_better_number() -> None:
    busy = module("busy")
    rates = {"auto": [14.0, 15.0, 2.0], "1": [15.0, 16.0, 15.5], "2": [5.0, 5.2, 30.0]}
    ratio, line = busy.verdict(rates, "2")
    assert ratio == pytest.approx(14.0 / 15.5) and "auto 14.00, 1 15.50, 2 5.20; auto is 0.90x" in line
