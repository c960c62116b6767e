"""Runs: how trainings go, what they drew, and how they are resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from facegan.app.networks import Networks
from facegan.app.sessions import Session
from facegan.app.words import flags, joined, told
from facegan.checkpoints.run import RunFolder
from facegan.config import TrainConfig
from facegan.errors import FaceganError
from facegan.files import regular_file
from facegan.methods import config_of
from facegan.plotting.courses import courses
from facegan.plotting.sheets import save_png

MOST_BYTES = 32 << 20  # of metrics.jsonl, its newest: what a chart is drawn from
MOST_SHOWN = 9  # panels
LARGEST_SHEET = 64 << 20  # bytes
CLOCKS = ("stage", "step", "epoch", "seconds", "images_per_second", "data_wait")  # what is no figure of the networks


@dataclass(frozen=True)
class Progress:
    """How a run went so far."""

    figures: dict[str, np.ndarray]  # name -> [points, 2]: steps of the whole run, value
    marks: tuple[tuple[float, str], ...]  # where stages begin
    steps: int


def progress(run: str) -> Progress:
    """Read metrics.jsonl; a line that is being written, or is damaged, is left out."""
    path = RunFolder(run).metrics
    points: dict[str, list[tuple[float, float]]] = {}
    marks: list[tuple[float, str]] = []
    base = last = 0.0
    for row in _rows(path):
        stage, step = row.get("stage"), row.get("step")
        if not isinstance(stage, str) or not isinstance(step, (int, float)):
            continue
        if not marks or marks[-1][1] != stage:
            base = last
            marks.append((base, stage))
            for course in points.values():
                course.append((np.nan, np.nan))  # no line leads from one stage to another one
        last = base + step
        for name, value in row.items():
            if name not in CLOCKS and isinstance(value, (int, float)) and np.isfinite(value):
                points.setdefault(name, []).append((last, float(value)))
    return Progress({name: np.array(course) for name, course in points.items()}, tuple(marks), int(last))


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    size = regular_file(path, 1 << 40, "record of a training")
    with open(path, "rb") as file:
        if size > MOST_BYTES:
            file.seek(size - MOST_BYTES)
            file.readline()  # half a line
        lines = file.read(MOST_BYTES).splitlines()
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def figures(networks: Networks, runs: Sequence[str]) -> list[str]:
    """The names of what was measured in the runs, losses first."""
    found = dict.fromkeys(name for run in runs if run for name in progress(networks.run(run)).figures)
    return sorted(found, key=lambda name: ("loss" not in name, list(found).index(name)))


@dataclass(frozen=True)
class Course:
    """Curves of one or two runs."""

    picture: Path
    words: str


def course(networks: Networks, session: Session, runs: Sequence[str], chosen: Sequence[str]) -> Course:
    """Draw them."""
    with told():
        known = [networks.run(run) for run in dict.fromkeys(runs) if run]
        if not known:
            raise FaceganError("There is no run here: train one, or start the page with --runs and the folder of your runs")
        went = [progress(run) for run in known[:2]]
        names = list(chosen)[:MOST_SHOWN]
        nothing = np.zeros((0, 2))
        panels = {name: [each.figures.get(name, nothing) for each in went] for name in names if any(name in each.figures for each in went)}
        picture = courses(panels, [networks.called(run) for run in known], "steps", went[0].marks)
        path = session.inside("runs") / "curves.png"
        save_png(picture, path, 1)
        words = "; ".join(f"{networks.called(run)}: {_stage(each)}" for run, each in zip(known, went, strict=True))
        return Course(path, words)


def _stage(went: Progress) -> str:
    return f"{went.steps} steps, {went.marks[-1][1]}" if went.marks else "nothing measured yet"


# --- the film


def sheets(networks: Networks, run: str) -> list[Path]:
    """The sample sheets of a run in the order in which they were drawn: by stage as these began, then by step."""
    folder = RunFolder(networks.run(run))
    order = {stage: i for i, (_, stage) in enumerate(progress(run).marks)}
    found = [path for path in (folder.root / "samples").glob("*.png") if path.name[0] != "."]

    def key(path: Path) -> tuple[int, str, str]:
        stage, _, step = path.stem.rpartition("-")
        return order.get(stage, len(order)), stage, step

    return sorted(found, key=key)


def sheet(networks: Networks, run: str, index: int) -> tuple[Path | None, str]:
    """One picture of the film, and what it is."""
    with told():
        film = sheets(networks, run)
        if not film:
            return None, "no samples were drawn yet"
        path = film[min(max(0, index), len(film) - 1)]
        regular_file(path, LARGEST_SHEET, "sample sheet")
        if not os.path.realpath(path).startswith(os.path.realpath(RunFolder(run).root) + os.sep):
            raise FaceganError(f"{path.name} lies outside the run: it is not shown")
        stage, _, step = path.stem.rpartition("-")
        return path, f"{stage}, step {int(step) if step.isdigit() else step} ({min(index, len(film) - 1) + 1} of {len(film)})"


# --- the command


def resume(networks: Networks, run: str) -> str:
    """The command that begins the run, and resumes it."""
    with told():
        config: TrainConfig = config_of(RunFolder(networks.run(run)))
        kind = type(config)
        recipe: dict[str, Any] = {"recipe": getattr(config, "recipe", "")} if kind.RECIPES else {}
        usual = kind(method=config.method, **recipe)
        words = ["facegan", "train", *flags("out", run, {})]
        if config.method != "a":
            words += flags("method", config.method, {})
        for item in fields(config):
            if item.name in ("out", "method"):
                continue
            value = getattr(config, item.name)
            plain = kind().recipe if item.name == "recipe" else getattr(usual, item.name)  # type: ignore[attr-defined]
            if value != plain:
                words += flags(item.name, value, item.metadata)
        return joined(words)
