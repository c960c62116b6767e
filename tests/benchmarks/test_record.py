"""A file of results is whole after every row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import facegan.files
from benchmarks import record

MakeRow = Callable[..., dict[str, Any]]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> record.Results:
    monkeypatch.setattr(record, "ceilings", lambda device: {"copy_gb_s": 10.0})
    return record.Results(tmp_path / "results", "cpu")


def ids(results: record.Results) -> list[str]:
    return [row["id"] for row in record.load(results.file)["rows"]]


def test_every_row_is_on_disk_at_once(results: record.Results, row: MakeRow) -> None:
    for count in range(1, 4):
        results.add(row(f"row {count}"))
        assert ids(results) == [f"row {number}" for number in range(1, count + 1)]
    assert [file.name for file in results.file.parent.iterdir()] == [results.file.name]


def test_a_row_measured_again_replaces_the_old_one_also_in_another_process(results: record.Results, row: MakeRow) -> None:
    results.add(row("a", seconds=1.0))
    results.add(row("b"))
    record.Results(results.file.parent, "cpu").add(row("a", seconds=2.0))
    found = record.load(results.file)["rows"]
    assert [(entry["id"], entry["seconds"]) for entry in found] == [("a", 2.0), ("b", 1e-4)]


def test_rows_of_other_versions_go(results: record.Results, row: MakeRow) -> None:
    results.add(row("old"))
    content = json.loads(results.file.read_text())
    content["machine"]["torch"] = "1.0"
    results.file.write_text(json.dumps(content))
    results.add(row("new"))
    assert ids(results) == ["new"]


def test_a_stop_while_a_row_is_written_keeps_those_before(results: record.Results, row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    results.add(row("first"))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(facegan.files.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        results.add(row("second"))
    assert ids(results) == ["first"]
