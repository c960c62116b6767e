"""What the pictures of an ablation show, gathered from its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from facegan.checkpoints.run import RunFolder
from facegan.data.attributes import names
from facegan.data.formats import open_image
from facegan.evaluation.mixing import WAYS
from facegan.experiments.ablation.curve import faces, sheets
from facegan.experiments.ablation.rows import MIXES
from facegan.experiments.ablation.tasks import Study, Task
from facegan.methods import config_of
from facegan.methods.a.config import MethodAConfig
from facegan.plotting import charts


def curves(summary: dict[str, Any], study: Study, over: str = "epoch") -> Image.Image | None:
    """The joint rate of the fixed-z sheets over the epochs of the last phase; or `over` the seconds of the whole training, on one axis for
    all rows."""
    rows = {}
    for name, row in summary["rows"].items():
        if courses := _courses(row, over):
            switches = _switches(study, name)
            if over == "seconds":
                epochs = _courses(row, "epoch")[0]
                switches = [float(np.interp(epoch, epochs[:, 0], courses[0][:, 0])) for epoch in switches]
            rows[name] = courses, switches
    if not rows:
        return None
    if over == "epoch":
        return charts.curves(rows, "epochs of the last phase")
    return charts.curves(rows, "seconds of training by the clock", max(course[-1, 0] for courses, _ in rows.values() for course in courses))


def _courses(row: dict[str, Any], over: str) -> list[np.ndarray]:
    """[points, 2] of each seed: epoch (or seconds, with those of the stages before) and rate, stages after phase 1 one after the other
    (phase 1 where there is no other)."""
    courses = []
    for run in row["seeds"].values():
        stages = list(dict.fromkeys(point["stage"] for point in run["curve"]))
        last = [stage for stage in stages if stage.startswith("phase3")] or stages[-1:]
        course, begun = [], run["begun"] if over == "seconds" else 0.0
        for stage in last:
            points = [(begun + point[over], point["joint"]) for point in run["curve"] if point["stage"] == stage]
            course += points
            begun = points[-1][0]
        if course:
            courses.append(np.array(course))
    return courses


def _switches(study: Study, name: str) -> list[float]:
    """Epochs at which the reals change and the merge begins, counted as `_courses` does."""
    for task in study.of(name):
        config = config_of(RunFolder(task.folder)) if task.done else None
        if isinstance(config, MethodAConfig) and 0 < config.switch < config.epochs:
            stages = len(names(config.attributes)) - 1 if config.discriminators == "full" else 1
            return [stage * config.epochs + config.switch for stage in range(stages)]
    return []


def grid(study: Study) -> Image.Image | None:
    """The first faces of the fixed noise, the same in every row, of one seed: that of which most rows are there."""
    shown = _of_one_seed(study)
    if study.method == "b":
        ways = [task.folder / MIXES / WAYS for task in shown]
        return next((open_image(path) for path in ways if path.exists()), None)
    lines = [(task.row, last) for task in shown if (last := _last_faces(task.folder)) is not None]
    return charts.rows_of_faces(lines) if lines else None


def _of_one_seed(study: Study) -> list[Task]:
    """The finished tasks of the seed that has most of them, the first of equals."""
    done = [task for task in study.tasks if task.done]
    seeds = [task.seed for task in done]
    return [task for task in done if task.seed == max(sorted(set(seeds)), key=seeds.count)]


def _last_faces(root: Path) -> Tensor | None:
    """Float [64, 3, R, R] of the last stage's last sheet; None for a run without sheets."""
    folder = RunFolder(root)
    if not (root / "config.json").exists():
        return None
    stage = [stage for stage in folder.finished_stages() if not stage.startswith("phase2")][-1]
    found = sheets(root, stage)
    return faces(open_image(found[-1][1]), folder.config().resolution) if found else None
