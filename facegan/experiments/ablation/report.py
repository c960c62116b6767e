"""report.md, report.json and the pictures, written again whenever a task has ended: a partial report is always there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facegan.checkpoints.run import write_json
from facegan.devices import resolve_device
from facegan.evaluation.evaluator import command_line, machine
from facegan.evaluation.features import ATTR_NOTE
from facegan.evaluation.kept import HEADS
from facegan.experiments.ablation import plots
from facegan.experiments.ablation.rows import CONDITIONAL
from facegan.experiments.ablation.summary import KEPT, QUALITY, summarise
from facegan.experiments.ablation.tasks import Study, Task
from facegan.files import write_whole
from facegan.plotting import charts
from facegan.plotting.sheets import save_png
from facegan.plotting.text import interval, number

COLUMNS = dict(zip(KEPT, HEADS, strict=True))  # what is kept of a mix's row
GROUPS = {"helps": "Helped", "hurts": "Hurt", "no clear difference": "No clear difference"}  # verdicts, as the report lists them


def write(studies: Sequence[Study], out: Path, failures: dict[Task, str]) -> None:
    """One report a study, and one over all of them where there are several; report.json last, as it says that all is there."""
    summaries = {}
    for study in studies:
        summary = summarise(study, failures) | {"command": command_line(), "machine": machine(resolve_device(study.config.device))}
        summaries[study.root.name] = summary
        study.root.mkdir(parents=True, exist_ok=True)
        if summary["rows"]:
            save_png(charts.rates(summary), study.root / "rates.png")
            drawn = {"curves": plots.curves(summary, study), "times": plots.curves(summary, study, "seconds"), "grid": plots.grid(study)}
            for name, picture in drawn.items():
                if picture:
                    save_png(picture, study.root / f"{name}.png")
        write_whole(study.root / "report.md", markdown(summary))
        write_json(study.root / "report.json", summary)
    if studies[0].root != out:
        write_whole(out / "report.md", "\n".join(map(markdown, summaries.values())))
        write_json(out / "report.json", {"pairs": summaries})


def markdown(summary: dict[str, Any]) -> str:
    """The tables for people."""
    title = f"# Ablation: {summary['title']}, Method {summary['method'].upper()}"
    parts = [f"{title}\n\n    {summary['command']}\n\n{summary['machine']}, facegan {summary['facegan']}.\n"]
    if summary["rows"]:
        parts += [table(summary), "## What each part adds\n", additions(summary)]
        parts += ["## What else changes\n", audit(summary), "## The judge\n", judges(summary)]
        typed = dict.fromkeys(command for row in summary["rows"].values() for command in row["commands"])
        parts += ["## Commands, of the first seed\n", "\n".join(f"    {command}" for command in typed) + "\n"]
    if summary["waiting"]:
        parts.append(f"## Still to do\n\n{len(summary['waiting'])} tasks: {', '.join(summary['waiting'])}.\n")
    if summary["failed"]:
        lines = "\n".join(f"* {name}: {reason}" for name, reason in summary["failed"].items())
        parts.append(f"## Failed\n\n{lines}\n")
    return "\n".join(parts)


def grid(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its head first."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def titled(name: str, row: dict[str, Any]) -> str:
    return f"`{name}`" if row["sentence"] else name


def table(summary: dict[str, Any]) -> str:
    rows = summary["rows"]
    attributes = list(next(iter(rows.values()))["marginals"])
    measured = [key for pair in QUALITY for key in pair if any(row["quality"][key] is not None for row in rows.values())]
    head = ["row", "seeds", "joint rate", "least to most", "normalised", *attributes, "floor", "ceiling", *measured]
    of_row = [key for key in COLUMNS if any(row["kept"][key] is not None for row in rows.values())]
    spread = spread_of(rows)
    lines = [[*head, *(COLUMNS[key] for key in of_row), *spread, "self score", "CPU s", "clock s"]]
    for name, row in rows.items():
        joint = row["joint"]
        lines.append([
            titled(name, row), str(len(row["seeds"])), interval(joint), f"{joint['least']:.3f} to {joint['most']:.3f}", normalised(row),
            *(f"{row['marginals'][attribute]:.2f}" for attribute in attributes), f"{row['floor']:.3f}", f"{row['ceiling']:.3f}",
            *(number(row["quality"][key], 4, absent="-") for key in measured),
            *(number(row["kept"][key], 2, absent="-") for key in of_row), *(number(row[key], 2, absent="-") for key in spread),
            *(number(row[key], digits, absent="-") for key, digits in (("self_score", 2), ("cpu_seconds", 0), ("seconds", 0))),
        ])  # fmt: skip
    return f"{grid(lines)}\n\n{' '.join(notes(summary, measured))}\n"


def spread_of(rows: dict[str, Any]) -> list[str]:
    """The column of diversity, where any row has it."""
    return ["diversity"] if any(row["diversity"] is not None for row in rows.values()) else []


def normalised(row: dict[str, Any]) -> str:
    """With the number of seeds where it is defined, if not all of them."""
    of, seeds = row["normalised"]["of"], len(row["seeds"])
    return interval(row["normalised"]) + ("" if of in (0, seeds) else f" ({of} of {seeds} seeds)")


def notes(summary: dict[str, Any], measured: Sequence[str]) -> list[str]:
    """How to read the table."""
    rows = summary["rows"]
    said = [
        "Joint rate: mean over seeds and 95 % t-interval over seeds, never narrower than the interval of all samples together.",
        "Normalised: mean and t-interval over the seeds where the ceiling is above the floor (one seed: its bootstrap over rate, floor "
        "and ceiling).",
    ]
    if summary["method"] == "b":
        faces = ", ".join(f"{name} {row['samples']}" for name, row in rows.items())
        said += [
            "Mixes share their rows and columns, so they are no independent samples: one seed has no interval and no verdict. "
            f"Faces in all: {faces}; no more pairs can be made of the styles kept from the search, whatever `samples` says:"
            " `styles=S` gives (S / 2)^2. Averages, and the ranking of channels, are over all styles of the columns, rated ones too.",
            "What is kept of the row's face, as shares of what two rows differ by: the pixels outside the mask that changed, the judge's "
            "features, and the skin's tone under the mask (of ways without one: that of the columns' attribute); row found: mixes that of "
            "all rows are nearest to their own; variety: how much those of two rows differ.",
            "Self score: share of faces in which the critics that chose see all attributes. Seconds: of the network and the projections, "
            "of regional mixing and style space the masks and channels too, of what was searched or refined the search, which refines too.",
        ]
        if CONDITIONAL in rows:
            said.append(
                f"`{CONDITIONAL}`: its faces are no mixes, and independent samples; the floor is the seed's if that is higher than its own."
                " Seconds: of its own training, as long as that of the network whose styles are mixed, without critics."
            )
    else:
        said += [
            "One seed: Wilson's interval of its samples, which knows nothing of other seeds. Floor: the larger of the rates of the seed's "
            "`phase1` and of blurred real faces of attribute 1, for all rows.",
            "Self score: the mean of the lowest critic's score; rows with other critics cannot be compared by it. Seconds: of training, "
            "the common phase 1 included where a row owes it anything; the clock's depend on what else the machine did, CPU seconds (of "
            "the seeds where they were recorded) hardly.",
        ]
    leaks = [f"`{name}` {row['leak']:.3f}" for name, row in rows.items() if row["leak"] is not None]
    if leaks:
        said.append(f"Leak, the joint rate of a conditional network asked for attribute 1 alone: {', '.join(leaks)}.")
    if spread_of(rows):
        said.append("Diversity: mean distance of two faces by the judge's features.")
    if summary["same_images"]:
        said.append("All seeds use the same images, split and joint faces: the intervals know other trainings, not other data.")
    fullest = max(rows.values(), key=lambda row: len(row["seeds"]))["quality"]
    real = [f"{key} {fullest[f'real_{key}']:.4f}" for key in measured if fullest[f"real_{key}"] is not None]
    said += [f"Real joint faces, one half against the other: {', '.join(real)}."] if real else []
    said += [ATTR_NOTE] if any(key.endswith("_attr") for key in measured) else []
    absent = [pair[0] for pair in QUALITY if not set(pair) & set(measured)]
    said += [f"{', '.join(absent)}: not measured."] if absent else []
    return said


def additions(summary: dict[str, Any]) -> str:
    """Every row against those that it builds on, what did not help as plainly as what did."""
    rows = summary["rows"]
    attributes = list(next(iter(rows.values()))["marginals"])
    lines = [["row", "compared with", "seeds", "difference of the joint rate [95 %]", "so it", *attributes, "what it is"]]
    found: dict[str, list[str]] = {}
    count = 0
    for name, row in rows.items():
        for other, difference in row["differences"].items():
            said = ["-", "-", "not compared", *("-" for _ in attributes)]
            if difference:
                seeds = ", ".join(map(str, difference["seeds"]))
                differences = (difference["marginals"][attribute] for attribute in attributes)
                said = [seeds, interval(difference, "+"), difference["verdict"], *(interval(each, "+") for each in differences)]
                beside = "" if other == row["on"] else f" (against {other})"
                found.setdefault(difference["verdict"].removesuffix(" (this seed)"), []).append(name + beside)
                count += 1
            lines.append([titled(name, row), f"`{other}`", *said, row["sentence"] if other == row["on"] else ""])
        if not row["differences"]:
            lines.append([titled(name, row), "", *("" for _ in range(3 + len(attributes))), row["sentence"]])
    note = "Paired over seeds: a t-interval, never narrower than Newcombe's of all samples together."
    if summary["method"] == "a":
        note += " With one seed Newcombe's interval of its samples, which knows nothing of other seeds."
    note += (
        f" {count} comparisons at 95 % each: where nothing made any difference, about {count / 20:.1f} of them would still seem to."
        " Columns of attributes: differences of their own rates."
    )
    for word, title in GROUPS.items():
        note += f" {title}: {', '.join(found.get(word, [])) or 'none'}."
    return f"{grid(lines)}\n\n{note}\n"


def audit(summary: dict[str, Any]) -> str:
    """Rows by columns of the audit: what came or went with the attributes."""
    rows = summary["rows"]
    columns = list(dict.fromkeys(column for row in rows.values() for column in row["shifts"]))
    if not columns:
        return "Not measured: the data has none of the audited columns.\n"
    lines = [["row", *columns]]
    lines += [[titled(name, row), *(number(row["shifts"].get(column), 2, "+", "-") for column in columns)] for name, row in rows.items()]
    return f"{grid(lines)}\n\nHow much more often the judge sees it than in real joint faces, as a share of faces; mean over seeds.\n"


def judges(summary: dict[str, Any]) -> str:
    return "\n".join(f"* seed {seed}: {words}" for seed, words in summary["judges"].items()) + "\n"
