"""The parts of the report on a data set that are about its pictures: sizes, sharpness, near-duplicates, what alignment left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facegan.data.leftovers import ADVICE, Leftovers
from facegan.data.quality import HASH_BITS
from facegan.data.survey import SIDE, Survey
from facegan.files import quoted

_NAMED = 20  # unreadable files that are named


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table of text; rows may be shorter than the first one."""
    widths = [max((len(row[i]) for row in rows if len(row) > i + 1 or i == 0), default=0) for i in range(max(map(len, rows)))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows)
    return "\n".join(lines)


def look_rows(seen: Survey, images: int, bad: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Rows of the section on the data."""
    rows = [("looked at", f"{len(seen.rows) + len(seen.unreadable):,} of them, spread over the groups")]
    if len(seen.rows) + len(seen.unreadable) == images:
        rows = [("looked at", "all of them")]
    rows += [("unreadable", f"{len(bad):,}"), *(("", f"{quoted(name)}: {reason}") for name, reason in bad[:_NAMED])]
    rows += [("", f"and {len(bad) - _NAMED:,} more")] if len(bad) > _NAMED else []
    if not len(seen.rows):
        return rows
    shorter = seen.sizes.min(1)
    oblong = int((seen.sizes[:, 0] != seen.sizes[:, 1]).sum())
    rows.append(("shorter side", f"{shorter.min():,} px smallest, {np.median(shorter):,.0f} median, {shorter.max():,} largest"))
    advice = ": training takes the central square; `facegan data align` cuts faces out of photos" if oblong else ""
    return [*rows, ("not square", f"{oblong:,}{advice}")]


def look_section(titles: Sequence[str], sizes: Sequence[int], seen: Survey) -> str:
    """A row a group: how many were looked at, their shorter side, quartiles of their sharpness, and the repeats among them."""
    head = ("looked at", "   images", "   looked", "  shorter side (px)", "  sharpness (quartiles)", "repeats")
    rows = [head]
    for k, (title, size) in enumerate(zip(titles, sizes, strict=True)):
        own = seen.group == k
        shorter, sharp = seen.sizes[own].min(1) if own.any() else [], seen.sharpness[own]
        quartiles = "  ".join(f"{value:.2f}" for value in np.percentile(sharp, (25, 50, 75))) if own.any() else "-"
        spread = "  ".join(f"{value:.0f}" for value in (min(shorter), np.median(shorter), max(shorter))) if own.any() else "-"
        counts = (f"{size:>9,}", f"{int(own.sum()):>9,}", f"{spread:>{len(head[3])}}", f"{quartiles:>{len(head[4])}}")
        rows.append((title, *counts, f"{int(seen.alike.repeats[k]):>7,}"))
    note = f"shorter side: smallest, median, largest; sharpness: at {SIDE} px at most (docs/data.md); repeats: like an earlier one"
    return f"{aligned(rows)}\n{note}"


def alike_section(titles: Sequence[str], names: Sequence[str], seen: Survey, distance: int) -> str:
    """Pairs that look alike: within groups, across groups, and across the split."""
    alike = seen.alike
    among = np.triu(alike.groups + alike.groups.T, 1)
    kinds = (
        ("within a group", np.trace(alike.groups), alike.within, ""),
        ("across groups", among.sum(), alike.across, "one face with two labels: decide which is right, or take it out"),
        ("training / judge", alike.across_sides, alike.on_both_sides, "the judge must not know what was trained on: keep one of each pair"),
    )
    rows: list[tuple[str, ...]] = [("near-duplicates", "    pairs", f"that differ in at most {distance} of {HASH_BITS} bits")]
    for title, count, pairs, advice in kinds:
        rows.append((title, f"{count:>9,}", advice if count else ""))
        if pairs is alike.across:
            rows += [(f"  {titles[a]} / {titles[b]}", f"{among[a, b]:>9,}", "") for a, b in np.argwhere(among)]
        rows += [("", "", f"{quoted(names[pair.first])} and {quoted(names[pair.second])}: {pair.bits}") for pair in pairs]
        rows += [("", "", f"and {count - len(pairs):,} more")] if count > len(pairs) else []
    return aligned(rows)


def alignment_section(left: Leftovers) -> str:
    """What alignment took and left out, with advice a reason."""
    if left.problem:
        return aligned([("alignment", f"{quoted(left.name)} is ignored: {left.problem}")])
    rows: list[tuple[str, ...]] = [("alignment", "    faces", f"by {quoted(left.name)}, of {left.photos:,} photos")]
    sides = ""
    if left.sides is not None:
        low, middle, high = np.percentile(left.sides, (0, 50, 100))
        sides = f"{low:,.0f} px of the photo smallest, {middle:,.0f} median, {high:,.0f} largest"
    rows.append(("taken", f"{left.taken:>9,}", sides))
    rows += [("  no longer there", f"{left.gone:>9,}", "")] if left.gone else []
    rows.append(("left out", f"{sum(count for _, count in left.reasons):>9,}", ""))
    for reason, count in left.reasons:
        rows.append((f"  {reason}", f"{count:>9,}", ADVICE.get(reason, "")))
        if reason == "duplicate" and left.elsewhere:
            photo, taken = map(quoted, left.elsewhere[0])
            rows.append(("    elsewhere", f"{len(left.elsewhere):>9,}", f"one face with two labels, such as {photo}, taken as {taken}"))
    return aligned(rows)
