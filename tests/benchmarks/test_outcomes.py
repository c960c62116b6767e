"""Every test's outcome is on disk when it has ended, whoever ran it."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import outcomes

TESTS = """
import pytest
def test_passes(): pass
def test_fails(): assert 1 == 2
@pytest.mark.skip(reason="no need")
def test_is_skipped(): pass
@pytest.fixture
def broken(): raise ValueError("planted")
def test_cannot_begin(broken): pass
"""

workers = pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")


@pytest.mark.parametrize("flags", [(), pytest.param(("-n", "2"), marks=workers)], ids=["one process", "workers"])
def test_outcomes(run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "test_planted.py").write_text(TESTS)
    file = tmp_path / "logs" / "found.jsonl"
    run("-m", "pytest", str(tmp_path), f"--rootdir={tmp_path}", "-p", "benchmarks.outcomes", "--outcomes", str(file), *flags)
    found = {line["test"].partition("::")[2]: line for line in outcomes.read(file)}
    assert {name: (line["outcome"], line["when"]) for name, line in found.items()} == {
        "test_passes": ("passed", "call"), "test_fails": ("failed", "call"), "test_is_skipped": ("skipped", "setup"),
        "test_cannot_begin": ("failed", "setup"),
    }  # fmt: skip
    assert "assert 1 == 2" in found["test_fails"]["message"] and "planted" in found["test_cannot_begin"]["message"]


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "found.jsonl"
    assert outcomes.read(file) == []
    file.write_text('{"test": "a", "outcome": "passed", "when": "call"}\n{"test": "b", "outc')
    assert [line["test"] for line in outcomes.read(file)] == ["a"]
    assert outcomes.summary(outcomes.read(file)) == "1 passed, 0 skipped, 0 failed"
