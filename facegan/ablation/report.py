"""report.md, report.json and the pictures, written anew whenever a task has ended: a partial report is always there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facegan.ablation import plots
from facegan.ablation.summary import QUALITY, summarise
from facegan.ablation.tasks import Study, Task
from facegan.evaluate import command_line, machine
from facegan.training.folder import write_json
from facegan.training.pictures import save_png


def write(studies: Sequence[Study], out: Path, failures: dict[Task, str]) -> None:
    """One report a study, and one over all of them where there are several."""
    texts = []
    for study in studies:
        summary = summarise(study, failures) | {"command": command_line(), "machine": machine()}
        study.root.mkdir(parents=True, exist_ok=True)
        write_json(study.root / "report.json", summary)
        texts.append(markdown(summary))
        write_text(study.root / "report.md", texts[-1])
        if summary["rows"]:
            save_png(plots.rates(summary), study.root / "rates.png")
            for name, picture in (("curves.png", plots.curves(summary, study)), ("grid.png", plots.grid(study))):
                if picture:
                    save_png(picture, study.root / name)
    if studies[0].root != out:
        write_text(out / "report.md", "\n".join(texts))


def write_text(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text)
    os.replace(aside, path)


def markdown(summary: dict[str, Any]) -> str:
    """The tables for people."""
    title = f"# Ablation: {summary['title']}, Method {summary['method'].upper()}"
    parts = [f"{title}\n\n    {summary['command']}\n\n{summary['machine']}.\n"]
    if summary["rows"]:
        parts += [table(summary), "## What each part adds\n", additions(summary)]
        parts += ["## Commands, of the first seed\n", "\n".join(f"    {row['command']}" for row in summary["rows"].values()) + "\n"]
    if summary["waiting"]:
        parts.append(f"## Still to do\n\n{len(summary['waiting'])} tasks: {', '.join(summary['waiting'])}.\n")
    if summary["failed"]:
        lines = "\n".join(f"* {name}: {reason}" for name, reason in summary["failed"].items())
        parts.append(f"## Failed\n\n{lines}\n")
    return "\n".join(parts)


def table(summary: dict[str, Any]) -> str:
    rows = summary["rows"]
    attributes = list(next(iter(rows.values()))["marginals"])
    measured = [key for pair in QUALITY for key in pair if any(row["quality"][key] is not None for row in rows.values())]
    head = ["row", "seeds", "joint rate", "least to most", "normalised", *attributes, "floor", "ceiling", *measured]
    head += ["self score", "seconds"]
    lines = [head, ["---"] * len(head)]
    for name, row in rows.items():
        joint = row["joint"]
        lines.append([
            f"`{name}`" if row["sentence"] else name, str(len(row["seeds"])),
            f"{joint['rate']:.3f} [{joint['pooled_low']:.3f}, {joint['pooled_high']:.3f}]", f"{joint['least']:.3f} to {joint['most']:.3f}",
            bracketed(row["normalised"]), *(f"{row['marginals'][attribute]:.2f}" for attribute in attributes),
            f"{row['floor']:.3f}", f"{row['ceiling']:.3f}", *(number(row["quality"][key]) for key in measured),
            number(row["self_score"], 2), f"{row['seconds']:.0f}",
        ])  # fmt: skip
    absent = [pair[0] for pair in QUALITY if not set(pair) & set(measured)]
    notes = (
        "Joint rate: mean over seeds, in brackets Wilson's 95 % interval of all seeds' samples together, which knows nothing of other "
        "seeds; least to most over seeds does. Normalised: mean and 95 % t-interval over seeds (one seed: its bootstrap over rate, floor "
        "and ceiling). Seconds: of training, the common phase 1 included."
    )
    if summary["method"] == "b":
        notes += " Self score: share of faces in which the critics that chose see all attributes. Seconds: of search and comparison."
    fullest = max(rows.values(), key=lambda row: len(row["seeds"]))["quality"]
    real = [f"{key} {fullest[f'real_{key}']:.4f}" for key in measured if fullest[f"real_{key}"] is not None]
    if real:
        notes += f" Real joint faces, one half against the other: {', '.join(real)}."
    if absent:
        notes += f" {', '.join(absent)}: not measured."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{notes}\n"


def additions(summary: dict[str, Any]) -> str:
    """Every row against the one that it builds on, what did not help as plainly as what did."""
    lines = [["row", "compared with", "difference of the joint rate [95 %]", "so it", "what it is"], ["---"] * 5]
    for name, row in summary["rows"].items():
        if not row["on"]:
            continue
        found = row["difference"]
        said = [bracketed(found, sign="+"), found["verdict"]] if found else ["-", "not compared"]
        lines.append([f"`{name}`", f"`{row['on']}`", *said, row["sentence"]])
    note = "Paired over seeds, t-interval; with one seed Newcombe's interval of its samples, which knows nothing of other seeds."
    rows = {name: row["difference"] for name, row in summary["rows"].items() if row["difference"]}
    unhelpful = [name for name, found in rows.items() if found["verdict"] != "helps"]
    note += f" Did not help, or not clearly: {', '.join(unhelpful) or 'none'}."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{note}\n"


def bracketed(values: dict[str, Any] | None, sign: str = "") -> str:
    """`0.53 [0.50, 0.56]`"""
    if values is None:
        return "undefined"
    low, high = ("?" if values[key] is None else f"{values[key]:{sign}.3f}" for key in ("low", "high"))
    return f"{values['rate']:{sign}.3f} [{low}, {high}]"


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
