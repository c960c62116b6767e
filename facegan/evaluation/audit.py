"""What else changes with the attributes: sex, age, skin and smile among the real groups and the generated faces.

Almost all bald faces of CelebA are men's, so a generator of baldness may well draw men whatever else it was asked for. The
judge also learned the other columns of the table; here it says how often it sees four of them, beside how often real images
are labelled so. Its own bias (a rare column is called too often) is the same for real and generated faces: compare the judge
with the judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from facegan.evaluation.judge.data import binary_columns
from facegan.evaluation.judge.judge import Judge

if TYPE_CHECKING:
    from facegan.data.faces import FaceData

AUDITED = {"sex": "Male", "age": "Young", "skin": "Pale_Skin", "smile": "Smiling"}


def audited(data: FaceData) -> list[str]:
    """Which of the audited columns this data set has."""
    return [column for column in AUDITED.values() if column in data.table.columns]


def label_rates(data: FaceData, rows: np.ndarray) -> dict[str, float | None]:
    """Share of `rows` labelled with each audited column, among those with a label; None without any."""
    labels = binary_columns(data.table, rows)[:, [data.table.columns.index(name) for name in audited(data)]]
    known = [column[~np.isnan(column)] for column in labels.T]
    return {name: float(each.mean()) if len(each) else None for name, each in zip(audited(data), known, strict=True)}


def judge_rates(judge: Judge, logits: Tensor, member: int | None = None) -> dict[str, float]:
    """Share of images, by their `logits` [N, 2, K + C], in which the judge sees each of its columns: the mean of the pair, or the
    classifier `member` alone."""
    verdicts = judge.columns_said(logits).astype(np.float64)
    rates = (verdicts.mean(0) if member is None else verdicts[member]).mean(0) if len(logits) else []
    return dict(zip(judge.columns, map(float, rates), strict=False))


def real_rates(judge: Judge, data: FaceData, groups: dict[str, tuple[np.ndarray, Tensor]],
               halves: list[tuple[np.ndarray, Tensor]]) -> dict[str, dict[str, dict[str, float | None]]]:  # fmt: skip
    """{group: {column: {judge, labels}}} of `groups` (rows and their logits) and of the joint `halves`, each of which is rated,
    as the ceiling is, by the classifier that never saw it."""
    found = {}
    for name, (rows, logits) in groups.items():
        found[name] = _beside(judge_rates(judge, logits), label_rates(data, rows))
    rated = [judge_rates(judge, logits, 1 - half) for half, (_, logits) in enumerate(halves)]
    counts = [len(logits) for _, logits in halves]
    means = {column: float(np.average([rates.get(column, 0) for rates in rated], weights=counts)) for column in judge.columns}
    found["joint"] = _beside(means, label_rates(data, np.concatenate([rows for rows, _ in halves])))
    return found


def _beside(judged: dict[str, float], labelled: dict[str, float | None]) -> dict[str, dict[str, float | None]]:
    return {column: {"judge": judged.get(column), "labels": rate} for column, rate in labelled.items()}


def audit(judge: Judge, real: dict[str, dict[str, dict[str, float | None]]], logits: Tensor) -> dict[str, Any]:
    """Of generated faces by their logits: {column: {accuracy, groups: {group: {judge, labels}}, generated, shift}}. `accuracy` is the
    judge's balanced accuracy on this column, `shift` how much more often it sees it in the samples than in the real joint faces."""
    generated, table = judge_rates(judge, logits), {}
    for column in next(iter(real.values())):
        own, joint = generated.get(column), real["joint"][column]["judge"]
        table[column] = {
            "accuracy": judge.card["column_accuracy"].get(column),
            "groups": {name: rates[column] for name, rates in real.items()},
            "generated": own,
            "shift": None if own is None or joint is None else own - joint,
        }
    return table


def audit_table(table: dict[str, Any]) -> str:
    """The audit in lines; per real group the judge's rate and, in brackets, the labels'."""
    if not table:
        return "audit        none of " + ", ".join(AUDITED.values()) + " is a column of this data set"
    groups = list(next(iter(table.values()))["groups"])
    lines = [["audit", *groups, "generated", "shift", "accuracy"]]
    for column, row in table.items():
        cells = [f"{_percent(row['groups'][name]['judge'])} ({_percent(row['groups'][name]['labels'])})" for name in groups]
        shift = "?" if row["shift"] is None else f"{100 * row['shift']:+.0f}"
        lines.append([column, *cells, _percent(row["generated"]), shift, _percent(row["accuracy"])])
    widths = [max(12 if i == 0 else 0, *(len(line[i]) for line in lines)) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, "             per cent the judge sees (labelled so)"])


def _percent(rate: float | None) -> str:
    return "?" if rate is None else f"{100 * rate:.0f}"
