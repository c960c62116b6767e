"""The labelled faces that raters learn from: of any number of data sets, each face once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegan.config import listed
from facegan.data.attributes import names, resolve
from facegan.data.faces import open_faces, synthetic_seed
from facegan.data.images import build
from facegan.data.loaders import open_catalog
from facegan.data.table import AttributeTable, UnknownAttribute
from facegan.errors import FaceganError
from facegan.randomness import generator

log = logging.getLogger("facegan.data")

FEWEST, FEW = 8, 30  # labelled faces a side: refused below, warned of below
MOST = 20_000  # labelled faces that are learned from


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled faces, no two with the same pixels."""

    images: np.ndarray  # uint8 [n, 3, R, R]
    values: np.ndarray  # float32 [n, K]: 1 certainly carries it, 0 certainly not, NaN unknown
    people: tuple[str, ...]
    sampled: np.ndarray  # bool [n]: not picked for being uncertain, as what people check of earlier ratings is
    row: dict[bytes, int]  # digest of the pixels -> row


def digest(image: np.ndarray) -> bytes:
    """Of a face's pixels."""
    return hashlib.sha256(image.tobytes()).digest()


def read_examples(
    sources: Sequence[str], attributes: Sequence[str], resolution: int, seed: int, own: tuple[np.ndarray, np.ndarray], progress: bool
) -> Examples:
    """The faces of all sources of whom one attribute at least is known; raises FaceganError where a side has too few.

    `own`: values float32 [m, K] and images uint8 [m, 3, R, R] that a person has checked among the faces to be rated. Values that
    `facegan data label` wrote count where a person has checked them. Where sources disagree on a face, it is unknown. Of more than
    `MOST` faces so many are drawn.
    """
    row: dict[bytes, int] = {}
    images: list[np.ndarray] = []
    people: list[str] = []
    sampled: list[bool] = []
    rows: list[np.ndarray] = []
    unknown: dict[str, list[UnknownAttribute]] = {item: [] for item in attributes}

    def add(values: np.ndarray, pixels: np.ndarray, persons: Sequence[str], drawn: bool) -> None:
        for i in np.flatnonzero(~np.isnan(values).all(1)).tolist():
            at = row.setdefault(digest(pixels[i]), len(rows))
            if at == len(rows):
                rows.append(values[i])
                images.append(pixels[i])
                people.append(persons[i])
                sampled.append(drawn)
            else:
                unlike = ~np.isnan(rows[at]) & ~np.isnan(values[i]) & (rows[at] != values[i])
                rows[at] = np.where(unlike, np.nan, np.where(np.isnan(rows[at]), values[i], rows[at]))

    for number, source in enumerate(sources):
        table, pixels, identities, drawn = _opened(source, resolution, seed, progress)
        values = np.full((len(table), len(attributes)), np.nan, np.float32)
        for k, item in enumerate(attributes):
            try:
                values[:, k] = _known(table, item)
            except UnknownAttribute as error:
                unknown[item].append(error)
        add(values, pixels, [f"{number}/{person}" for person in identities], drawn)
    add(*own, [f"own/{i}" for i in range(len(own[0]))], False)
    for errors in unknown.values():
        if len(errors) == len(sources) and not len(own[0]):
            raise errors[0] if errors else FaceganError("`from_` is missing: name a folder or .zip of labelled faces to learn from")
    if len(rows) > MOST:
        log.warning(
            "%s labelled faces are more than are needed: %s of them, drawn at random, are learned from", f"{len(rows):,}", f"{MOST:,}"
        )
        chosen = np.sort(generator(seed, "label/examples").permutation(len(rows))[:MOST])
        place = dict(zip(chosen.tolist(), range(MOST), strict=True))
        row = {key: place[at] for key, at in row.items() if at in place}
        images, people, rows, sampled = ([part[i] for i in chosen] for part in (images, people, rows, sampled))
    pixels = np.stack(images) if images else np.empty((0, 3, resolution, resolution), np.uint8)
    found = Examples(pixels, np.array(rows, np.float32).reshape(-1, len(attributes)), tuple(people), np.array(sampled, bool), row)
    refuse_few(found, names(attributes), [*sources, *["what was checked"] * bool(len(own[0]))])
    return found


def _opened(source: str, resolution: int, seed: int, progress: bool) -> tuple[AttributeTable, np.ndarray, Sequence[str], bool]:
    """Table, images uint8 [n, 3, R, R] and identities of a data set, and whether its labels are not what people checked of earlier
    ratings; what nobody has checked is unknown."""
    if synthetic_seed(source) is not None:
        faces = open_faces(source, resolution, seed=seed, progress=progress)
        return faces.table, faces.images, faces.identities, True
    catalog = open_catalog(source)
    stamps = [catalog.source.stamp(name) for name in catalog.members]
    decoded = build(catalog.source.read, catalog.members, stamps, resolution, progress=progress)
    table, picked = catalog.table, catalog.unchecked is not None and bool(catalog.unchecked.any())
    if catalog.unchecked is not None:
        table = AttributeTable(table.ids, table.columns, np.where(catalog.unchecked, np.float32(np.nan), table.values))
    return table.rows(decoded.kept), decoded.images, [catalog.identities[i] for i in decoded.kept], not picked


def _known(table: AttributeTable, item: str) -> np.ndarray:
    """float32 [N]: 1 where the attribute's positive selector is true, 0 where its negative is, else NaN.

    Of `name=SELECTOR`, a column `name` that `facegan data label` wrote from it counts where the selector's columns are missing.
    """
    try:
        (attribute,) = resolve((item,), table)
    except UnknownAttribute:
        (name,) = names((item,))
        if len(listed(item, "=")) < 2 or name not in table.columns:
            raise
        (attribute,) = resolve((name,), table)
    yes, no = table.select(attribute.positive), table.select(attribute.negative)
    return np.where(yes, 1.0, np.where(no, 0.0, np.nan)).astype(np.float32)


def refuse_few(examples: Examples, names: Sequence[str], sources: Sequence[str]) -> None:
    """FaceganError for a side of fewer than `FEWEST` faces, or all of one person; a warning below `FEW`."""
    for k, name in enumerate(names):
        for value, side in ((1, f"with {name}"), (0, f"without {name}")):
            index = np.flatnonzero(examples.values[:, k] == value)
            if len(index) < FEWEST:
                raise FaceganError(
                    f"{' and '.join(sources)}: {len(index)} labelled faces {side}; expected at least {FEWEST}, and {FEW} or more for "
                    "scores that can be relied on: label some more, or add a data set to `from_`"
                )
            if len({examples.people[i] for i in index}) < 2:
                raise FaceganError(f"{' and '.join(sources)}: all {len(index)} labelled faces {side} show one person; expected several")
            if len(index) < FEW:
                log.warning(
                    "%s: %d labelled faces %s are few: with %d or more the scores can be relied on", sources[0], len(index), side, FEW
                )
