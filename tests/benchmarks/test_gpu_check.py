"""`gpu_check.py`: its plan, and that a stop at any moment keeps what was measured."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import children, gpu_check, plan

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "benchmarks" / "gpu_check.py")


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks that are started are no part of this run, which pytest-xdist may have divided."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[list[str], list[str]]]:
    """planned(*flags): what --plan prints, as names that fit into the time and names that do not."""

    def planned(*flags: str) -> tuple[list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", [SCRIPT, "--plan", *flags])
        assert gpu_check.main() == 0
        lines = capsys.readouterr().out.splitlines()[:-1]
        missing = [line for line in lines if "no time" in line]
        return [line.split()[-1] for line in lines if line not in missing], [line.split()[-1] for line in missing]

    return planned


def test_the_most_important_comes_first(planned: Callable[..., tuple[list[str], list[str]]]) -> None:
    fits, missing = planned("--total", "400")
    assert fits[:4] == ["builds/native", "tests/triton", "tests/native", "first-step/stylegan2-256"]
    assert {"training/stylegan2-256", "training/method-a-64", "training/method-b-64"} <= {*fits}
    assert missing, "400 s are not enough for everything"
    assert not planned("--total", "4000")[1]


@pytest.mark.parametrize("group", plan.GROUPS)
def test_a_group_can_be_asked_for_first(planned: Callable[..., tuple[list[str], list[str]]], group: str) -> None:
    names = [name for name in planned("--total", "9999", "--first", group)[0] if not name.startswith(("tests/", "builds/"))]
    of_group = [name.startswith(f"{group}/") for name in names]
    assert any(of_group) and of_group == sorted(of_group, reverse=True)
    assert sorted(names) == sorted(entry.id for entry in plan.everything("cuda"))


def test_only_what_matches_and_what_that_needs(planned: Callable[..., tuple[list[str], list[str]]]) -> None:
    names = planned("--only", "to_rgb.*triton")[0]
    assert names and all(re.search("to_rgb.*triton", name) for name in names)
    assert planned("--only", "to_rgb.*native")[0][0] == "builds/native"
    assert planned("--only", "^tests")[0] == ["builds/native", "tests/triton", "tests/native"]
    assert "builds/peer" in planned("--only", "to_rgb", "--peer-nvidia", "somewhere")[0]
    assert planned("--only", "no such thing") == ([], [])


def test_a_short_time_leaves_out_what_cannot_end(planned: Callable[..., tuple[list[str], list[str]]]) -> None:
    fits, missing = planned("--device", "cpu", "--total", "150")
    assert fits[0] == "tests/cpu" and missing
    assert planned("--device", "cpu", "--total", "41") == (["tests/cpu"], [entry.id for entry in plan.everything("cpu")])


@pytest.mark.slow
def test_a_kill_keeps_what_was_measured(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--device", "cpu", "--only", "bias_act", "--results", str(tmp_path)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        while not [*tmp_path.glob("*.json")]:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (file,) = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    assert rows[0]["op"] == "bias_act" and rows[0]["seconds"] > 0 and rows[0]["speed_up"].keys() == {"eager", "copy"}


@pytest.mark.slow
def test_cases_run_in_the_planned_order_while_there_is_time(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    flags = ["--cases", "tiny", "--groups", "layers,streaming", "--first", "layers", "--only", "bwd-", "--budget", "0"]
    found = run("-m", "pytest", "benchmarks", "--benchmark-only", "-v", "-rs", *flags)
    wanted = [entry for entry in plan.measurements("cpu", "bwd-", "layers") if entry.group != "training"]
    order = re.findall(r"::test_(\w+)\[\w*-?(\S+)\] SKIPPED", found.stdout)
    assert [name for name, _ in order] == [entry.kind.split()[0] for entry in wanted], found.stdout
    assert found.stdout.count("no time: ") and "passed" not in found.stdout.splitlines()[-1]


# The child says so if it is still there long after its parent was killed.
PARENT = """
from benchmarks.children import start
child = start(["-c", "import time; print('started', flush=True); time.sleep(30); print('survived')"])
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can tie a process to its parent")
def test_a_child_does_not_outlive_who_started_it(environment: dict[str, str]) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    parent.kill()
    assert parent.stdout.read() == ""  # both have closed it
    parent.wait()
    parent.stdout.close()


def test_a_child_is_killed_at_its_limit_with_all_that_it_started() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(30); print('survived', flush=True)"]
    read, write = os.pipe()
    with os.fdopen(write, "w") as output:
        process = children.start(["-c", f"import subprocess; subprocess.run({command!r})"], output)
    assert children.status(process, 0.5) is None and process.returncode == -signal.SIGKILL
    with os.fdopen(read) as said:
        assert said.read() == ""
    done = children.start(["-c", "raise SystemExit(3)"])
    assert children.status(done, 600) == 3
