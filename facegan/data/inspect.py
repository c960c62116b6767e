"""The text report of `facegan data inspect`: what a data set holds and what a list of attributes finds in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facegan.data.attributes import Attribute, Groups, attrition, only_selector, partition, resolve
from facegan.data.faces import synthetic_ids, synthetic_seed
from facegan.data.images import unreadable
from facegan.data.loaders import Catalog, open_catalog
from facegan.data.splits import split
from facegan.data.table import AttributeTable


def inspect(
    data: str | Path, attributes: str | Sequence[str], *, check_images: bool = False, num: int = 8000, seed: int = 0, progress: bool = True
) -> str:
    """An aligned report on `data` (as `open_faces` takes it) and `attributes` (as `resolve` does).

    Images are decoded only with `check_images`; `num` counts synthetic faces and `seed` is the split's.
    Raises FaceganError as those two do; small groups are reported, not refused.
    """
    drawn = synthetic_seed(data)
    catalog = None if drawn is not None else open_catalog(data)
    if catalog is not None:
        table, identities, layout = catalog.table, catalog.identities, catalog.layout
    else:
        assert drawn is not None
        table, layout = _synthetic_table(num, drawn), "synthetic"
        identities = table.ids
    wanted = resolve(attributes, table)
    groups = partition(table, wanted)
    sections = [
        _data_section(data, layout, table, identities, catalog, check_images, progress),
        _attribute_section(table, wanted),
        _group_section(groups, identities, seed),
        *(_attrition_section(table, wanted, k) for k in range(len(wanted))),
    ]
    return "\n\n".join(sections)


def _synthetic_table(num: int, seed: int) -> AttributeTable:
    """The attributes of synthetic faces, without drawing them."""
    from facegan.data import synthetic

    rows = [list(synthetic.sample_parameters(seed, i).attributes().values()) for i in range(num)]
    values = np.array(rows, np.float32).reshape(num, len(synthetic.COLUMNS))
    return AttributeTable(synthetic_ids(num), tuple(synthetic.COLUMNS), values)


def _data_section(
    data: str | Path,
    layout: str,
    table: AttributeTable,
    identities: Sequence[str],
    catalog: Catalog | None,
    check_images: bool,
    progress: bool,
) -> str:
    rows = [
        ("data", str(data)),
        ("layout", layout),
        ("images", f"{len(table):,}"),
        ("identities", f"{len(set(identities)):,}"),
        ("columns", f"{len(table.columns)}: {', '.join(table.columns)}"),
        ("unknown values", f"{int(np.isnan(table.values).sum()):,}"),
    ]
    rows += [("note", note) for note in catalog.notes] if catalog else []
    if check_images:
        bad = [*unreadable(catalog.source.read, catalog.members, progress), *catalog.unread] if catalog else []
        rows += [("unreadable", f"{len(bad):,}"), *(("", f"{name}: {reason}") for name, reason in bad[:20])]
        rows += [("", f"and {len(bad) - 20:,} more")] if len(bad) > 20 else []
    return _aligned(rows)


def _attribute_section(table: AttributeTable, attributes: Sequence[Attribute]) -> str:
    rows = []
    for attribute in attributes:
        for kind in ("positive", "negative", "present", "maybe"):
            text = getattr(attribute, kind)
            rows.append((attribute.name, kind, f"{int(table.select(text).sum()):>9,}", text))
    return _aligned([("attribute", "selector", "   images", ""), *rows])


def _group_section(groups: Groups, identities: Sequence[str], seed: int) -> str:
    parts = split(identities, groups, seed)
    rows: list[tuple[str, ...]] = [("group", "   images", "    train", "    judge", "  persons")]

    def add(name: str, index: np.ndarray) -> None:
        sides = (int(np.isin(index, side).sum()) for side in (parts.train, parts.judge))
        persons = len({identities[i] for i in index})
        rows.append((name, *(f"{count:>9,}" for count in (len(index), *sides, persons))))

    for k, (attribute, index) in enumerate(zip(groups.attributes, groups.only, strict=True), start=1):
        add(f"X_{k} {attribute.name} only", index)
    first, second = parts.joint_halves
    add("joint", groups.joint)
    add("joint, first half", first)
    add("joint, second half", second)
    add("excluded", groups.excluded)
    add("usable", groups.usable)
    return _aligned(rows)


def _attrition_section(table: AttributeTable, attributes: tuple[Attribute, ...], k: int) -> str:
    """X_k clause by clause: alone, all up to here, and all but this one."""
    selector = only_selector(attributes, k)
    rows: list[tuple[str, ...]] = [(f"X_{k + 1} clause", "    alone", " up to it", " all else")]
    so_far = np.ones(len(table), dtype=bool)
    for clause, left in attrition(table, selector):
        kept = table.select(clause)
        so_far &= kept
        rows.append((str(clause), *(f"{count:>9,}" for count in (int(kept.sum()), int(so_far.sum()), left))))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)
