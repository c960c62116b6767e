"""From the reports of single runs to the figures of a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from statistics import mean
from typing import Any, TypedDict

from facegan import __version__
from facegan.checkpoints.run import RunFolder
from facegan.data.faces import synthetic_seed
from facegan.evaluation.joint_rate import Interval
from facegan.evaluation.kept import Kept
from facegan.evaluation.mixing import CHANNEL_WEIGHT, DIRECTION_WEIGHT, REFINED, SEARCHED
from facegan.evaluation.summary import judge_line
from facegan.experiments.ablation import costs, intervals, rows
from facegan.experiments.ablation.curve import NAME as CURVE
from facegan.experiments.ablation.rows import CONDITIONAL, MIXES, ROWS_B
from facegan.experiments.ablation.tasks import Study, Task
from facegan.files import RECORD_LIMIT, read_json
from facegan.schema import checked
from facegan.styles.channels import NUMBER

# Inception's figures where they were measured, else those of the judge's features; each under its own name.
QUALITY = (("kid", "kid_attr"), ("precision", "precision_attr"), ("recall", "recall_attr"))
MEASURES = [prefix + key for prefix in ("", "real_") for pair in QUALITY for key in pair]  # real: real joint faces against each other
KEPT = tuple(item.name for item in fields(Kept))  # of a mix's row
RANDOM = "random mixes"  # what Method B's other ways are compared with
SENTENCES = {  # of Method B, by the name before a comma
    RANDOM: "random ranges of layers cross over",
    "fixed layers": "the layers of the two largest sizes up to 64 px cross over",
    "averaged columns": "the same layers, with the mean of the columns",
    "directions": "what the mean of the columns has beyond the mean face is added, in all layers",
    "regional": "the column under the mask of its attribute, in all layers",
    "stylespace": f"the column in {NUMBER} channels of style space, {CHANNEL_WEIGHT:g} times as far, in the whole image",
    "stylespace directions": f"{DIRECTION_WEIGHT:g} times what the mean of the columns has beyond the mean face is added in these channels",
    f"layers {SEARCHED}": "the best recipe without a mask or channels, by critics",
    f"regional {SEARCHED}": "the best recipe under a mask, by critics",
    f"stylespace {SEARCHED}": "the best recipe in channels, by critics",
    SEARCHED: "the best of all recipes, by critics",
    f"regional {REFINED}": "the column under the mask of its attribute, its style refined for each row",
    f"{SEARCHED} {REFINED}": "the best of all recipes, its styles refined for each row",
    "averaged styles": "the mean of the rows and that of the columns, as directions from random faces",
    "rows alone": "the faces that carry attribute 1",
    "columns alone": "the faces that carry attribute 2",
    CONDITIONAL: ROWS_B[CONDITIONAL],
}
Runs = dict[int, dict[str, Any]]  # {seed: report}


class _Rate(TypedDict):
    rate: float | None


class _Measured(TypedDict):
    """What every report must say, as far as a table is made of it."""

    joint: _Rate
    normalised: _Rate
    samples: int
    floor: float
    ceiling: float
    marginals: dict[str, float]


class _Report(_Measured):
    """report.json of `facegan evaluate`."""

    judge: dict[str, Any]


class _Point(TypedDict):
    """Of curve.json."""

    stage: str
    epoch: float
    seconds: float
    joint: float


class _Critics(TypedDict):
    joint: float


class _Line(TypedDict):
    name: str
    critics: _Critics
    judge: _Measured | None


class _Search(TypedDict):
    """search.json of `facegan mix-search`."""

    table: list[_Line]
    judge: dict[str, Any] | None


def summarise(study: Study, failures: dict[Task, str]) -> dict[str, Any]:
    """{attributes, method, rows: {name: figures}, judges: {seed: words}, waiting: [tasks], failed: {task: reason}, ...} of all rows and
    seeds in the folder, whether this call asked for them or not; rows without a report are left out."""
    runs = runs_of_a(study) if study.method == "a" else runs_of_b(study)
    runs = {name: found for name, found in runs.items() if found}
    figures = {}
    for name, own in runs.items():
        on, others, sentence = place_of(name, study.method)
        # mixes share their rows and columns
        found = figures_of(own, study.method == "a" or name == CONDITIONAL)
        differences = {other: compared(own, runs[other], study.method == "a") if other in runs else None for other in others}
        figures[name] = found | {"sentence": sentence, "on": on, "differences": differences}
    mine = {task.name: reason for task, reason in failures.items() if task in study.tasks}
    return {
        "facegan": __version__, "attributes": study.attributes, "title": study.title, "method": study.method,
        "same_images": synthetic_seed(study.config.data, 0) != 0 or synthetic_seed(study.config.data, 1) != 1,
        "rows": figures, "judges": judges(runs), "failed": mine,
        "waiting": [task.name for task in study.tasks if not task.done and task.name not in mine],
    }  # fmt: skip


def place_of(name: str, method: str) -> tuple[str, tuple[str, ...], str]:
    """The row that a row builds on, all that it is compared with, and its sentence."""
    if method == "b":
        on = "" if name == RANDOM else RANDOM
        against = (CONDITIONAL,) if name == SEARCHED else ()
        return on, ((on, *against) if on else ()), SENTENCES.get(name.partition(",")[0], "")
    row = rows.ROWS[name]
    return row.on, (*((row.on,) if row.on else ()), *row.against), row.sentence


def runs_of_a(study: Study) -> dict[str, Runs]:
    """{row: {seed: report}} of the tasks that have ended, with the training's costs, command and curve."""
    table: dict[str, Runs] = {}
    for task in study.tasks:
        runs = table.setdefault(task.row, {})
        if task.done:
            curve = task.folder / CURVE
            points = checked(read_json(curve, RECORD_LIMIT), list[_Point], curve) if curve.exists() else []
            report = checked(read_json(task.result, RECORD_LIMIT), _Report, task.result)
            runs[task.seed] = report | costs_of(task) | {"commands": task.typed()[:1], "curve": points}
    return table


def costs_of(task: Task) -> dict[str, float | None]:
    """Seconds of a row's training by itself, the common phase 1 included where it owes that anything; `begun` without the last phase."""
    folder, inherits = RunFolder(task.folder), rows.ROWS[task.row].inherits
    metadata = {stage: folder.metadata(stage) for stage in folder.finished_stages()}
    seconds = {stage: fact["seconds"] for stage, fact in metadata.items() if inherits or "taken_from" not in fact}
    last = [stage for stage in seconds if stage.startswith("phase3")] or [*seconds][-1:]
    parts = [task, *([task.needs] if task.needs and inherits else [])]
    cpu = [value for part in parts if (value := costs.total(part.costs, ["train"], "cpu_seconds")) is not None]
    return {
        "seconds_training": sum(seconds.values()),
        "cpu_seconds": sum(cpu) if len(cpu) == len(parts) else None,
        "begun": sum(value for stage, value in seconds.items() if stage not in last),
    }


def runs_of_b(study: Study) -> dict[str, Runs]:
    """The same from the tables of the searches, a way of mixing a row; the critics' share of faces is the self score. Last, the network
    that was asked for labels, above the same floor."""
    table: dict[str, Runs] = {}
    floors: dict[int, float] = {}
    for task in study.of(MIXES):
        if not task.done:
            continue
        record = checked(read_json(task.result, RECORD_LIMIT), _Search, task.result)
        for line in record["table"]:
            if line["judge"]:
                way, _, recipe = line["name"].partition(":")
                plain = way.removesuffix(f" {REFINED}")
                finds = ["styles"] if plain.startswith(("regional", "stylespace")) or plain == SEARCHED else []
                also = ["mix-search"] if way.endswith((SEARCHED, REFINED)) else []
                spent = ["train", "project", *costs.known(task.costs, finds), *also]
                floors[task.seed] = line["judge"].get("floors", {}).get("rows", 0.0)
                extra = {
                    "kept": line.get("kept"), "self_score": line["critics"]["joint"], "commands": task.typed(), "recipe": recipe.strip(),
                    "curve": [], "judge": record["judge"], "begun": 0.0, "seconds_training": costs.total(task.costs, spent, "seconds"),
                    "cpu_seconds": costs.total(task.costs, spent, "cpu_seconds"),
                }  # fmt: skip
                table.setdefault(way, {})[task.seed] = {**line["judge"], **extra}
    for task in study.of(CONDITIONAL):
        if task.done:
            report = checked(read_json(task.result, RECORD_LIMIT), _Report, task.result)
            spent_here = {
                "seconds_training": costs.total(task.costs, ["train"], "seconds"),
                "cpu_seconds": costs.total(task.costs, ["train"], "cpu_seconds"),
            }
            found = {**above(report, floors.get(task.seed, 0.0)), **spent_here, "commands": task.typed(), "curve": [], "begun": 0.0}
            table.setdefault(CONDITIONAL, {})[task.seed] = found
    return table


def above(report: dict[str, Any], floor: float) -> dict[str, Any]:
    """A report with a higher floor than its own: one for all rows of a seed."""
    if floor <= report["floor"]:
        return report
    span, rate = report["ceiling"] - floor, report["joint"]["rate"] - floor
    return {**report, "floor": floor, "normalised": {"rate": rate / span if span > 0 else None, "low": None, "high": None}}


def judges(runs: dict[str, Runs]) -> dict[str, str]:
    """{seed: what its judge is worth}."""
    cards = {seed: report["judge"] for own in runs.values() for seed, report in own.items()}
    return {str(seed): judge_line(cards[seed]) for seed in sorted(cards)}


def figures_of(runs: Runs, independent: bool = True) -> dict[str, Any]:
    """A row's figures over its seeds; what was not measured is None."""
    reports = list(runs.values())
    rates, samples = [report["joint"]["rate"] for report in reports], [report["samples"] for report in reports]
    own = intervals.pooled(rates, samples) if independent else Interval(math.nan, math.nan, math.nan)
    over = intervals.rate_over_seeds(rates, samples, independent)
    return {
        "seeds": {str(seed): single(report) for seed, report in runs.items()},
        "joint": {**limits(over), "pooled_low": finite(own.low), "pooled_high": finite(own.high), **span(rates)},
        "normalised": normalised_of(reports),
        "marginals": {name: mean(report["marginals"][name] for report in reports) for name in reports[0]["marginals"]},
        "floor": mean(report["floor"] for report in reports),
        "ceiling": mean(report["ceiling"] for report in reports),
        "leak": average([(report.get("leak") or {}).get("rate") for report in reports]),
        "quality": {key: average([(report.get("quality") or {}).get(key) for report in reports]) for key in MEASURES},
        "shifts": shifts(reports),
        "kept": {key: average([(report.get("kept") or {}).get(key) for report in reports]) for key in KEPT},
        "diversity": average([(report.get("diversity") or {}).get("diversity_attr") for report in reports]),
        "self_score": average([report.get("self_score") for report in reports]),
        "seconds": average([report["seconds_training"] for report in reports]),
        "cpu_seconds": known_average([report["cpu_seconds"] for report in reports]),
        "samples": sum(samples),
        "commands": reports[0]["commands"],
    }


def normalised_of(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds where it is defined, whose number is `of`; with one such seed its own bootstrap is all that is known."""
    defined = [report["normalised"] for report in reports if report["normalised"]["rate"] is not None]
    rates = [each["rate"] for each in defined]
    if not rates:
        return {"rate": None, "low": None, "high": None, "of": 0}
    found = limits(intervals.over_seeds(rates)) if len(rates) > 1 else {key: defined[0][key] for key in ("rate", "low", "high")}
    return {**found, **span(rates), "of": len(rates)}


def shifts(reports: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """{audited column: how much more often the judge sees it than in real joint faces}."""
    columns = dict.fromkeys(column for report in reports for column in report.get("audit") or {})
    return {column: average([(report.get("audit") or {}).get(column, {}).get("shift") for report in reports]) for column in columns}


def single(report: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one seed."""
    kept = ("joint", "samples", "normalised", "floor", "ceiling", "marginals", "self_score", "curve", "commands", "begun")
    optional = (
        "seconds_training",
        "cpu_seconds",
        "leak",
        "quality",
        "diversity",
        "memorisation",
        "audit",
        "kept",
        "recipe",
        "machine",
        "facegan",
    )
    return {key: report[key] for key in kept} | {key: report[key] for key in optional if key in report}


def average(values: Sequence[float | None]) -> float | None:
    """None unless all of them were measured: a mean over some seeds would be compared with one over all."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def known_average(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known: of costs, which hardly differ between seeds."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def span(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)}


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def limits(interval: Interval) -> dict[str, float | None]:
    """As JSON has it: a limit that does not exist is None."""
    return {name: finite(value) for name, value in interval._asdict().items()}


def compared(ours: Runs, theirs: Runs, independent: bool = True) -> dict[str, Any] | None:
    """{rate, low, high, seeds, verdict, marginals: {name: {rate, low, high}}} of the differences; None without a common seed."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None

    def differ(of: str = "") -> Interval:
        """Of the joint rate, or of the marginal of one attribute."""
        rates = [
            {seed: (runs[seed]["marginals"][of] if of else runs[seed]["joint"]["rate"], runs[seed]["samples"]) for seed in seeds}
            for runs in (ours, theirs)
        ]
        found = intervals.difference(rates[0], rates[1], independent)
        assert found is not None  # they have these seeds
        return found

    joint = differ()
    marginals = {name: limits(differ(name)) for name in ours[seeds[0]]["marginals"]}
    return {**limits(joint), "seeds": seeds, "verdict": intervals.verdict(joint, len(seeds)), "marginals": marginals}
