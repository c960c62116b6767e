"""The report on a generator in words: every figure beside its reference, and what was not measured with the reason."""

from __future__ import annotations

from typing import Any

from facegan.evaluation.audit import audit_table
from facegan.evaluation.features import ATTR_NOTE
from facegan.extras import NEEDED
from facegan.plotting.text import interval, number

LPIPS_NEEDED = f"{NEEDED} and VGG16's weights (`lpips=FILE`)"


def judge_line(card: dict[str, Any]) -> str:
    """What the judge's word is worth, measured on real faces that it never learned from."""
    keys = ("balanced_accuracy", "calibration_error")
    accuracy, error = (", ".join(f"{name} {number(value)}" for name, value in card[key].items()) for key in keys)
    return f"{accuracy} balanced accuracy; {error} calibration error; ceiling {number(card['ceiling'])}"


def quality_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Each figure with that of real faces beside it."""
    quality, spread, copied = report["quality"], report["diversity"], report["memorisation"]
    rows = []
    for suffix in ("", "_attr"):
        for name in (figure + suffix for figure in ("kid", "fid", "precision", "recall") if figure + suffix in quality):
            deviation = f" (sd {number(quality[name + '_sd'], 4)})" if name + "_sd" in quality else ""
            real = f"; real halves {number(quality['real_' + name], 4)}" if "real_" + name in quality else ""
            rows.append((name, f"{number(quality[name], 4)}{deviation}{real}"))
    if not rows:
        rows.append(("quality", quality["note"]))
    elif "kid" not in quality:
        rows.append(("kid, fid", "not measured, needs Inception's weights (`weights=FILE`); the figures above are of the judge's features"))
    for name in ("lpips", "diversity_attr"):
        text = f"{number(spread[name])}; real joint faces {number(spread[name + '_real'])}" if name in spread else LPIPS_NEEDED
        rows.append((name, text))
    near = f"{number(copied['ratio'])} of a held-out face's distance to the {copied['training_images']} training images"
    closer = f"{copied['closer_than_any_held_out']:.3f} of the samples closer than any held-out face"
    rows.append(("nearest", f"{near}; {closer} (by chance {copied['by_chance']:.3f})"))
    return rows


def summary(report: dict[str, Any]) -> str:
    """The report in lines, the judge's own quality among them; of faces that somebody made the rates alone."""
    card, floors = report["judge"], report["floors"]
    if "quality" not in report:
        rates = [("joint rate", interval(report["joint"])), ("floor", f"{report['floor']:.3f}"), ("ceiling", f"{report['ceiling']:.3f}"),
                 ("normalised", interval(report["normalised"]))]  # fmt: skip
        rates += [(name, interval(values)) for name, values in report["marginal_intervals"].items()]
        rates += [("judge", judge_line(card)), ("samples", str(report["samples"]))]
        return "\n".join(f"{name:14s} {value}" for name, value in rates)
    critics = (f"{name} {fact['balanced_accuracy']:.3f} (blurry {fact['blurry_accuracy']:.3f})" for name, fact in report["critics"].items())
    rows = [
        ("joint rate", interval(report["joint"])),
        ("floor", f"{report['floor']:.3f}  ({', '.join(f'{name} {value:.3f}' for name, value in floors.items())})"),
        *([("leak", f"{interval(report['leak'])} of the faces asked for attribute 1 alone")] if report["leak"] else []),
        ("ceiling", f"{report['ceiling']:.3f}"),
        ("normalised", interval(report["normalised"])),
        *((name, interval(values)) for name, values in report["marginal_intervals"].items()),
        ("critics", ", ".join(critics) or "none"),
        ("self score", "no critics" if report["self_score"] is None else f"{report['self_score']:.3f}"),
        ("judge", judge_line(card)),
        *quality_rows(report),
        ("samples", str(report["samples"])),
        *([("started from", "networks that may have seen faces with all attributes")] if report.get("may_have_seen_joint_faces") else []),
    ]
    return "\n".join([*(f"{name:14s} {value}" for name, value in rows), audit_table(report["audit"]), ATTR_NOTE])
