"""The report of `facegan data inspect`: what a data set holds, how it looks, and what a list of attributes finds in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facegan.data.attributes import Attribute, Groups, attrition, only_selector, partition, resolve
from facegan.data.faces import synthetic_ids, synthetic_seed
from facegan.data.inspect_looks import aligned, alignment_section, alike_section, look_rows, look_section
from facegan.data.leftovers import leftovers
from facegan.data.loaders import Catalog, open_catalog
from facegan.data.quality import HASH_BITS
from facegan.data.splits import Split, split
from facegan.data.survey import Opened, Survey, open_square, sample, survey
from facegan.data.table import AttributeTable
from facegan.errors import FaceganError

_DRAWN = 128  # pixels of synthetic faces that are looked at


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found.

    Attributes:
        text: the report.
        faces: (title, small faces) of each group, for a sheet; empty where nothing was looked at.
    """

    text: str
    faces: tuple[tuple[str, tuple[Image.Image, ...]], ...] = ()


def inspect(
    data: str | Path,
    attributes: str | Sequence[str],
    *,
    check_images: bool = False,
    look: int = 0,
    duplicate_distance: int = 0,
    num: int = 8000,
    seed: int = 0,
    shown: bool = False,
    progress: bool = True,
) -> Inspection:
    """An aligned report on `data` (as `open_faces` takes it) and `attributes` (as `resolve` does).

    `look` images are looked at, spread over the groups, with `check_images` all of them; `duplicate_distance`: bits in which hashes of
    near-duplicates differ at most; `num` counts synthetic faces and `seed` is the split's; `shown`: whether faces are wanted.
    Raises FaceganError as those two do; small groups are reported, not refused.
    """
    if look < 0:
        raise FaceganError(f"`look` is {look}; expected a number of images, or 0 for none")
    if not 0 <= duplicate_distance <= HASH_BITS:
        raise FaceganError(
            f"`duplicate_distance` is {duplicate_distance}; expected 0 to {HASH_BITS} bits: 0 for pictures of equal hashes alone"
        )
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
    parts = split(identities, groups, seed)
    cells = _cells(groups)
    seen = None
    if check_images or look:
        rows = sample([index for _, index in cells], len(table) if check_images else look)
        load = _loader(catalog, drawn)
        seen = survey(load, rows, _sides(parts, len(table)), duplicate_distance, shown=shown, progress=progress)
    titles = [title for title, _ in cells]
    left = leftovers(catalog.source) if catalog else None
    sections = [
        _data_section(data, layout, table, identities, catalog, seen, check_images),
        _attribute_section(table, wanted),
        _group_section(groups, identities, parts),
        *(_attrition_section(table, wanted, k) for k in range(len(wanted))),
        *(
            [look_section(titles, [len(index) for _, index in cells], seen), alike_section(titles, table.ids, seen, duplicate_distance)]
            if seen
            else []
        ),
        *([alignment_section(left)] if left else []),
    ]
    captions = (f"{title}: {len(index):,}" for title, index in cells)
    faces = tuple(zip(captions, seen.faces, strict=True)) if seen and shown else ()
    return Inspection("\n\n".join(sections), faces)


def _cells(groups: Groups) -> list[tuple[str, np.ndarray]]:
    """(title, rows) of groups that share no image and leave none out."""
    only = [
        (f"X_{k} {attribute.name} only", index) for k, (attribute, index) in enumerate(zip(groups.attributes, groups.only, strict=True), 1)
    ]
    unsure = np.setdiff1d(groups.excluded, groups.joint)
    rest = np.setdiff1d(groups.usable, np.concatenate(groups.only))
    return [*only, ("joint", groups.joint), ("excluded, may be joint", unsure), ("other usable", rest)]


def _sides(parts: Split, count: int) -> np.ndarray:
    """int8 [count]: 1 for the generator's side, 2 for the judges', 0 for neither."""
    sides = np.zeros(count, np.int8)
    sides[parts.train] = 1
    for index in (parts.judge, *parts.joint_halves):
        sides[index] = 2
    return sides


def _loader(catalog: Catalog | None, drawn: int | None) -> Callable[[int], Opened]:
    """What opens the picture of a row."""
    if catalog is not None:
        return lambda row: open_square(catalog.source.read(catalog.members[row]))
    from facegan.data import synthetic

    assert drawn is not None
    return lambda row: (Image.fromarray(synthetic.render(synthetic.sample_parameters(drawn, row), _DRAWN)), (_DRAWN, _DRAWN))


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
    seen: Survey | None,
    check_images: bool,
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
    if seen:
        bad = [(catalog.members[row] if catalog else table.ids[row], why) for row, why in seen.unreadable]
        if catalog is None:
            rows.append(("note", f"drawn at {_DRAWN} px to be looked at; drawn faces are more alike than photos of people"))
        rows += look_rows(seen, len(table), [*bad, *(catalog.unread if catalog and check_images else ())])
    return aligned(rows)


def _attribute_section(table: AttributeTable, attributes: Sequence[Attribute]) -> str:
    rows = []
    for attribute in attributes:
        for kind in ("positive", "negative", "present", "maybe"):
            text = getattr(attribute, kind)
            rows.append((attribute.name, kind, f"{int(table.select(text).sum()):>9,}", text))
    return aligned([("attribute", "selector", "   images", ""), *rows])


def _group_section(groups: Groups, identities: Sequence[str], parts: Split) -> str:
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
    return aligned(rows)


def _attrition_section(table: AttributeTable, attributes: tuple[Attribute, ...], k: int) -> str:
    """X_k clause by clause: alone, all up to here, and all but this one."""
    selector = only_selector(attributes, k)
    rows: list[tuple[str, ...]] = [(f"X_{k + 1} clause", "    alone", " up to it", " all else")]
    so_far = np.ones(len(table), dtype=bool)
    for clause, left in attrition(table, selector):
        kept = table.select(clause)
        so_far &= kept
        rows.append((str(clause), *(f"{count:>9,}" for count in (int(kept.sum()), int(so_far.sum()), left))))
    return aligned(rows)
