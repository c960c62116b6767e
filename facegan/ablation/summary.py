"""From the reports of single runs to the figures of a row."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from facegan.ablation import intervals, rows
from facegan.ablation.curve import NAME as CURVE
from facegan.ablation.tasks import MIXES, Study, Task
from facegan.metrics.joint_rate import Interval
from facegan.training.folder import RunFolder

# Inception's figures where they were measured, else those of the judge's features; each under its own name.
QUALITY = (("kid", "kid_attr"), ("precision", "precision_attr"), ("recall", "recall_attr"))
MEASURES = [prefix + key for prefix in ("", "real_") for pair in QUALITY for key in pair]  # real: real joint faces against each other
RANDOM = "random mixes"  # what Method B's other ways are compared with


def summarise(study: Study, failures: dict[Task, str]) -> dict[str, Any]:
    """{attributes, method, rows: {name: figures}, waiting: [tasks], failed: {task: reason}}; rows without a report are left out."""
    table = runs_of_a(study) if study.method == "a" else runs_of_b(study)
    figures = {name: figures_of(runs) for name, runs in table.items() if runs}
    for name, row in figures.items():
        on = rows.ROWS[name].on if study.method == "a" else "" if name == RANDOM else RANDOM
        row |= {"sentence": rows.ROWS[name].sentence if study.method == "a" else "", "on": on, "difference": None}
        if on in figures:
            row["difference"] = compared(row["seeds"], figures[on]["seeds"])
    mine = {task.name: reason for task, reason in failures.items() if task in study.tasks}
    waiting = [task.name for task in study.tasks if not task.done and task.name not in mine]
    return {
        "attributes": study.attributes, "title": study.title, "method": study.method, "rows": figures, "waiting": waiting, "failed": mine,
    }  # fmt: skip


def runs_of_a(study: Study) -> dict[str, dict[int, dict[str, Any]]]:
    """{row: {seed: report}} of the tasks that have ended, with the training's seconds, command and curve."""
    table: dict[str, dict[int, dict[str, Any]]] = {}
    for task in study.tasks:
        runs = table.setdefault(task.row, {})
        if task.done:
            curve = task.folder / CURVE
            points = json.loads(curve.read_text()) if curve.exists() else []
            extra = {"train": task.command(), "train_seconds": seconds(task), "curve": points}
            runs[task.seed] = json.loads(task.result.read_text()) | extra
    return table


def seconds(task: Task) -> float:
    """Of all stages, the common phase 1 among them: what the row would take by itself."""
    folder = RunFolder(task.folder)
    return sum(folder.facts(stage)["seconds"] for stage in folder.finished_stages())


def runs_of_b(study: Study) -> dict[str, dict[int, dict[str, Any]]]:
    """The same from the tables of the searches, a way of mixing a row; the critics' share of faces is the self score."""
    table: dict[str, dict[int, dict[str, Any]]] = {}
    for task in study.of(MIXES):
        if not task.done:
            continue
        record = json.loads(task.result.read_text())
        for line in record["table"]:
            if line["judge"]:
                way, _, recipe = line["name"].partition(":")
                extra = {"self_score": line["critics"]["joint"], "train": record["command"], "train_seconds": record["seconds"]}
                table.setdefault(way, {})[task.seed] = {**line["judge"], **extra, "recipe": recipe.strip(), "curve": []}
    return table


def figures_of(runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """A row's figures over its seeds; what was not measured is None."""
    reports = list(runs.values())
    rates, samples = [report["joint"]["rate"] for report in reports], [report["samples"] for report in reports]
    normalised = [report["normalised"]["rate"] for report in reports if report["normalised"]["rate"] is not None]
    wilson = intervals.pooled(rates, samples)
    over = intervals.over_seeds(normalised) if normalised else None
    if len(normalised) == 1:  # its own bootstrap over rate, floor and ceiling is all that is known
        own = next(report["normalised"] for report in reports if report["normalised"]["rate"] is not None)
        over = Interval(*(math.nan if own[key] is None else own[key] for key in ("rate", "low", "high")))
    return {
        "seeds": {str(seed): single(report) for seed, report in runs.items()},
        "joint": {**limits(intervals.over_seeds(rates)), "pooled_low": wilson.low, "pooled_high": wilson.high, **span(rates)},
        "normalised": {**limits(over), **span(normalised)} if over else None,
        "marginals": {name: mean(report["marginals"][name] for report in reports) for name in reports[0]["marginals"]},
        "floor": mean(report["floor"] for report in reports),
        "ceiling": mean(report["ceiling"] for report in reports),
        "quality": {key: average([(report.get("quality") or {}).get(key) for report in reports]) for key in MEASURES},
        "self_score": average([report.get("self_score") for report in reports]),
        "seconds": mean(report["train_seconds"] for report in reports),
        "command": reports[0]["train"],
    }


def single(report: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one seed."""
    kept = ("joint", "samples", "normalised", "floor", "ceiling", "marginals", "self_score", "curve", "train", "train_seconds")
    optional = ("quality", "diversity", "memorisation", "audit", "recipe", "machine")
    return {key: report[key] for key in kept} | {key: report[key] for key in optional if key in report}


def average(values: Sequence[float | None]) -> float | None:
    """None unless all of them were measured: a mean over some seeds would be compared with one over all."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def span(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)}


def limits(interval: Interval) -> dict[str, float | None]:
    """As JSON has it: a limit that does not exist is None."""
    return {name: value if math.isfinite(value) else None for name, value in interval._asdict().items()}


def compared(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """{rate, low, high, seeds, verdict} of the joint rate's difference; None without a common seed."""
    rates = [{int(seed): (run["joint"]["rate"], run["samples"]) for seed, run in runs.items()} for runs in (ours, theirs)]
    found = intervals.difference(*rates)
    if found is None:
        return None
    return {**limits(found), "seeds": len(rates[0].keys() & rates[1].keys()), "verdict": intervals.verdict(found)}
