"""TensorBoard shows each row of metrics.jsonl once, whatever the run went through, as its own reader sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from facegan.training import loop
from facegan.training.events import Events

FLAGS = dict(phase1_epochs=7, phase2_epochs=5, epochs=6, log_every=1, snapshot_every=3)


class Cut(BaseException):
    """What a power cut is to the loop: no handler of the package knows it."""


def cut_at(patch: pytest.MonkeyPatch, stage: str, step: int) -> None:
    timed = loop.StageRun._timed_step

    def stopping(self: loop.StageRun, at: int) -> None:
        if (self.stage.name, at) == (stage, step):
            raise Cut
        timed(self, at)

    patch.setattr(loop.StageRun, "_timed_step", stopping)


def shown(run: Path) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """(tag, step) -> [(value, wall time)], as many as TensorBoard has."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    for tag in reader.Tags()["scalars"]:
        for event in reader.Scalars(tag):
            found.setdefault((tag, event.step), []).append((event.value, event.wall_time))
    return found


def logged(run: Path) -> dict[tuple[str, int], float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        (f"{row['stage']}/{name}", row["step"]): value for row in rows for name, value in row.items() if isinstance(value, float)
    }  # fmt: skip


def test_a_run_cut_off_in_every_stage_is_shown_as_its_rows_say(train: Callable[..., Path], tmp_path: Path) -> None:
    run, earlier = tmp_path / "run", {}
    for stage, step in (("phase1", 2), ("phase1", 5), ("phase2-bald", 4), ("phase3-beard", 1), ("phase3-beard", 5)):
        with pytest.MonkeyPatch.context() as patch:
            cut_at(patch, stage, step)
            with pytest.raises(Cut):
                train(run, **FLAGS)
        now = shown(run)
        assert {key: values[0][0] for key, values in now.items()} == pytest.approx(logged(run), rel=1e-6)
        assert all(len(values) == 1 for values in now.values())
        for (tag, step_), [(_, time)] in now.items():  # a row that was kept has the time at which it was written
            if (tag, step_) in earlier and tag.startswith("phase1/") and stage.startswith("phase3"):
                assert time == earlier[tag, step_][0][1]
        earlier = now
    train(run, **FLAGS)
    now, expected = shown(run), logged(run)
    assert now.keys() == expected.keys() and all(len(values) == 1 for values in now.values())
    assert {key: values[0][0] for key, values in now.items()} == pytest.approx(expected, rel=1e-6)
    assert {tag.partition("/")[0] for tag, _ in now} == {"phase1", "phase2-bald", "phase3-beard"}
    reader = EventMultiplexer().AddRunsFromDirectory(str(run))
    reader.Reload()
    assert list(reader.Runs()) == ["tensorboard"]  # no run of its own for the options of each sitting


def test_a_finished_run_is_not_written_anew(train: Callable[..., Path], tmp_path: Path) -> None:
    flags = dict(phase1_epochs=2, epochs=0)
    run = train(tmp_path / "run", **flags)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != "config.json"}
    train(run, **flags)
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != "config.json"}


def row(step: int, loss: float, stage: str = "phase1") -> dict:
    return {"stage": stage, "step": step, "G/loss": loss, "seconds": 0.5}


def test_damaged_files_of_events_cost_their_times_alone(tmp_path: Path) -> None:
    events = Events(tmp_path, {"lr": 0.1, "out": "x", "attributes": ["a"], "compile": False})
    events.begin([])
    for step in range(5):
        events.add(row(step, step / 8))
    events.close()
    for file in (tmp_path / "tensorboard").iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        file.write_bytes(content)
    events = Events(tmp_path, {})
    events.begin([row(step, step / 8) for step in range(3)])
    events.begin([])  # of a later stage of the same sitting
    events.add(row(3, 9.0))
    events.close()
    now = shown(tmp_path)
    assert [now["phase1/G/loss", step][0][0] for step in range(4)] == [0, 1 / 8, 2 / 8, 9.0] and len(now) == 8


def test_a_page_that_is_open_meanwhile_forgets_what_was_taken_back(tmp_path: Path) -> None:
    events = Events(tmp_path, {})
    events.begin([])
    for step in range(5):
        events.add(row(step, 1.0))
    events.close()
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    assert len(reader.Scalars("phase1/G/loss")) == 5
    events = Events(tmp_path, {})
    events.begin([row(0, 1.0), row(1, 1.0)])
    events.add(row(2, 2.0))
    events.close()
    reader.Reload()
    assert [(event.step, event.value) for event in reader.Scalars("phase1/G/loss")] == [(0, 1.0), (1, 1.0), (2, 2.0)]
