"""The pictures of an ablation: rates with intervals, rates in the course of training, faces of the same noise in every row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from facegan.checkpoints.run import RunFolder
from facegan.data.attributes import names
from facegan.data.formats import open_image
from facegan.evaluation.mixing import WAYS
from facegan.evaluation.summary import interval
from facegan.experiments.ablation.curve import faces, sheets
from facegan.experiments.ablation.tasks import MIXES, Study, Task
from facegan.methods import config_of
from facegan.methods.a.config import MethodAConfig
from facegan.plotting.palette import BACKGROUND, FOREGROUND, GREEN, LINES, MUTED, ORANGE, font
from facegan.plotting.sheets import to_pil

RATE, RANGE, SWITCH = GREEN, (178, 220, 203), ORANGE
MARGIN, NAME = 24, 150  # NAME: room for a row's name
LINE, SPAN = 28, 620  # of a bar; of the axis from 0 to 1
PANEL, GAP, ACROSS = (250, 130), (34, 46), 4
SHOWN, FACE = 12, 64


def rates(summary: dict[str, Any]) -> Image.Image:
    """A bar a row: the mean over seeds, its interval, a dot a seed; each row's floor as a tick, the ceiling across."""
    rows = summary["rows"]
    bottom = MARGIN + 50 + len(rows) * LINE
    sheet = Image.new("RGB", (2 * MARGIN + NAME + SPAN + 190, bottom + 64), BACKGROUND)
    draw, left = ImageDraw.Draw(sheet), MARGIN + NAME
    draw.text((MARGIN, MARGIN - 8), f"joint rate: {summary['title']}", fill=FOREGROUND, font=font(20))
    for tick in range(6):
        x = left + tick * SPAN // 5
        draw.line((x, MARGIN + 46, x, bottom), fill=LINES)
        draw.text((x, bottom + 4), f"{tick / 5:.1f}", fill=MUTED, font=font(13), anchor="ma")
    ceilings = {seed: run["ceiling"] for row in rows.values() for seed, run in row["seeds"].items()}  # all rows of a seed share one
    ceiling = sum(ceilings.values()) / len(ceilings)
    x = left + round(ceiling * SPAN)
    draw.line((x, MARGIN + 40, x, bottom), fill=FOREGROUND, width=2)
    draw.text((x, MARGIN + 38), f"ceiling {ceiling:.2f}", fill=FOREGROUND, font=font(13), anchor="ms")
    for i, (name, row) in enumerate(rows.items()):
        _bar(draw, left, MARGIN + 50 + i * LINE + LINE // 2, name, row)
    note = "bar: mean over seeds; dots: seeds; whiskers: 95 % interval over seeds (one seed: of its samples); orange: the row's floor"
    draw.text((MARGIN, bottom + 32), note, fill=MUTED, font=font(13))
    return sheet


def _bar(draw: ImageDraw.ImageDraw, left: int, y: int, name: str, row: dict[str, Any]) -> None:
    joint = row["joint"]

    def at(value: float) -> int:
        return left + round(SPAN * value)

    draw.text((left - 10, y), name, fill=FOREGROUND, font=font(15), anchor="rm")
    draw.rectangle((left, y - 7, max(left, at(joint["rate"])), y + 7), fill=RANGE)
    if joint["low"] is not None:
        low, high = (at(min(1.0, max(0.0, joint[key]))) for key in ("low", "high"))
        draw.line((low, y, high, y), fill=FOREGROUND, width=2)
        for x in (low, high):
            draw.line((x, y - 4, x, y + 4), fill=FOREGROUND, width=2)
    for run in row["seeds"].values():
        x = at(run["joint"]["rate"])
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=RATE)
    floor = at(row["floor"])
    draw.line((floor, y - 10, floor, y + 10), fill=SWITCH, width=3)
    draw.text((left + SPAN + 14, y), interval(joint), fill=FOREGROUND, font=font(14), anchor="lm")


def curves(summary: dict[str, Any], study: Study, over: str = "epoch") -> Image.Image | None:
    """A panel a row: the joint rate of the fixed-z sheets, mean and range of the seeds, over the epochs of the last phase; or `over`
    the seconds of the whole training, on one axis for all rows."""
    rows = {name: courses for name, row in summary["rows"].items() if (courses := _courses(row, over))}
    if not rows:
        return None
    longest = max(course[-1, 0] for courses in rows.values() for course in courses) if over == "seconds" else 0.0
    down = math.ceil(len(rows) / ACROSS)
    cell = (PANEL[0] + GAP[0], PANEL[1] + GAP[1])
    sheet = Image.new("RGB", (MARGIN + ACROSS * cell[0], 2 * MARGIN + down * cell[1] + 20), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, (name, courses) in enumerate(rows.items()):
        corner = (MARGIN + 10 + i % ACROSS * cell[0], MARGIN + 10 + i // ACROSS * cell[1])
        switches = _switches(study, name)
        if over == "seconds":
            epochs = _courses(summary["rows"][name], "epoch")[0]
            switches = [float(np.interp(epoch, epochs[:, 0], courses[0][:, 0])) for epoch in switches]
        _panel(draw, corner, name, courses, switches, longest)
    axis = "seconds of training by the clock" if over == "seconds" else "epochs of the last phase"
    note = f"joint rate (0 to 1) of 64 faces of fixed noise over {axis}; line: mean, shade: range of seeds; orange: switch"
    draw.text((MARGIN, sheet.height - MARGIN - 6), note, fill=MUTED, font=font(13))
    return sheet


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


def _panel(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, courses: list[np.ndarray], switches: list[float], longest: float
) -> None:
    """`longest`: where the axis ends; 0: with this row."""
    left, top = corner
    width, height = PANEL
    most = longest or max(course[-1, 0] for course in courses)

    def at(epoch: float, rate: float) -> tuple[int, int]:
        return left + round(width * epoch / max(most, 1e-9)), top + round(height * (1 - rate))

    for tick in range(3):
        draw.line((*at(0, tick / 2), *at(most, tick / 2)), fill=LINES)
    grid = courses[0][:, 0]
    rated = np.stack([np.interp(grid, course[:, 0], course[:, 1]) for course in courses])
    above = [at(x, y) for x, y in zip(grid, rated.max(0), strict=True)]
    below = [at(x, y) for x, y in zip(grid, rated.min(0), strict=True)]
    if len(above) > 1:
        draw.polygon(above + below[::-1], fill=RANGE)
    for epoch in switches:
        draw.line((*at(epoch, 0), *at(epoch, 1)), fill=SWITCH, width=2)
    draw.line([at(x, y) for x, y in zip(grid, rated.mean(0), strict=True)], fill=RATE, width=3)
    draw.text((left, top - 20), name, fill=FOREGROUND, font=font(14))
    draw.text((left + width, top + height + 2), f"{most:.0f}", fill=MUTED, font=font(12), anchor="ra")


def grid(study: Study) -> Image.Image | None:
    """The first faces of the fixed noise, the same in every row, of one seed: that of which most rows are there."""
    shown = _of_one_seed(study)
    if study.method == "b":
        ways = [task.folder / MIXES / WAYS for task in shown]
        return next((open_image(path) for path in ways if path.exists()), None)
    lines = [(task.row, last) for task in shown if (last := _last_faces(task.folder)) is not None]
    if not lines:
        return None
    sheet = Image.new("RGB", (2 * MARGIN + NAME + SHOWN * (FACE + 2), 2 * MARGIN + len(lines) * (FACE + 4)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(lines):
        top = MARGIN + i * (FACE + 4)
        draw.text((MARGIN + NAME - 10, top + FACE // 2), name, fill=FOREGROUND, font=font(15), anchor="rm")
        for j, image in enumerate(images[:SHOWN]):
            sheet.paste(to_pil(image).resize((FACE, FACE), Image.Resampling.BICUBIC), (MARGIN + NAME + j * (FACE + 2), top))
    return sheet


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
