"""A plugin of pytest: one JSON line per test as it ends, so that a run that is stopped has told what it knew.

pytest -p benchmarks.outcomes --outcomes FILE
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

MESSAGE = 2000  # characters kept of a failure, its end


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, metavar="FILE", help="append one JSON line per test to FILE")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--outcomes")
    if file and not hasattr(config, "workerinput"):  # workers of pytest-xdist send theirs to the process that started them
        config.pluginmanager.register(Outcomes(file))


class Outcomes:
    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test's call, or what went wrong or was skipped around it."""
        if report.when != "call" and report.outcome == "passed":
            return
        line = {"test": report.nodeid, "outcome": report.outcome, "when": report.when, "seconds": round(report.duration, 3)}
        if report.outcome == "failed":
            line["message"] = report.longreprtext[-MESSAGE:]
        with self.file.open("a") as handle:
            handle.write(json.dumps(line) + "\n")


def read(file: Path) -> list[dict[str, Any]]:
    """What has been written so far; a last line that was cut off does not count."""
    try:
        lines = file.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def summary(found: list[dict[str, Any]]) -> str:
    """Numbers of outcomes, then a line for each failure."""
    counts = Counter(line["outcome"] for line in found)
    failed = [f"  failed: {line['test']} ({line['when']})" for line in found if line["outcome"] == "failed"]
    return "\n".join([", ".join(f"{counts[name]} {name}" for name in ("passed", "skipped", "failed")), *failed])
