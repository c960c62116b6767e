"""Attributes as selectors, and the groups of images that a list of attributes makes.

An attribute is a strict positive and a strict negative selector, with what counts as carrying it in the joint
reference and what might. For the requested list: `X_k` = pos_k & all neg_j, joint = all present, excluded = joint and
whatever might be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegan.config import listed
from facegan.data.selectors import Name, Not, Selector, conjunction, parse
from facegan.data.table import AttributeTable, UnknownAttribute, near
from facegan.errors import FaceganError


@dataclass(frozen=True)
class Attribute:
    """One requested attribute; the four texts are selectors (`facegan.data.selectors`)."""

    name: str
    positive: str  # certainly carries it, and fit to learn it from
    negative: str  # certainly does not
    present: str  # counts as carrying it in the joint reference
    maybe: str  # might carry it: together with the others' this excludes an image from all training

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column its selectors mention."""
        texts = (self.positive, self.negative, self.present, self.maybe)
        return tuple(dict.fromkeys(name for text in texts for name in parse(text).columns))


_FACIAL_HAIR = "Goatee | Mustache | Sideburns"
_HEAD_SEEN = "!Wearing_Hat & !Blurry"


def _celeba(name: str, column: str, fit: str = "!Blurry") -> Attribute:
    """An attribute that CelebA names itself, learned from images that are also `fit` (sharp, the place visible)."""
    return Attribute(name, f"{column} & {fit}", f"!{column}", column, column)


_BALD = Attribute("bald", f"Bald & {_HEAD_SEEN}", "!Bald & !Receding_Hairline", "Bald", "Bald")
_BEARD = Attribute(
    "beard",
    f"Male & !No_Beard & ({_FACIAL_HAIR}) & {_HEAD_SEEN}",
    "No_Beard & !Goatee & !Mustache & !Sideburns & !5_o_Clock_Shadow",
    "!No_Beard",
    f"!No_Beard | {_FACIAL_HAIR} | 5_o_Clock_Shadow",
)

BUILTIN: dict[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        _BALD,
        _BEARD,
        _celeba("goatee", "Goatee", "!No_Beard & !Blurry"),
        _celeba("mustache", "Mustache", "!No_Beard & !Blurry"),
        _celeba("sideburns", "Sideburns", "!Blurry"),
        _celeba("glasses", "Eyeglasses", "!Blurry"),
        _celeba("smile", "Smiling", "!Blurry"),
        _celeba("hat", "Wearing_Hat", "!Blurry"),
        _celeba("bangs", "Bangs", "!Wearing_Hat & !Blurry"),
        _celeba("gray", "Gray_Hair", "!Bald & !Wearing_Hat & !Blurry"),
        _celeba("blond", "Blond_Hair", "!Bald & !Wearing_Hat & !Blurry"),
        _celeba("black", "Black_Hair", "!Bald & !Wearing_Hat & !Blurry"),
        _celeba("brown", "Brown_Hair", "!Bald & !Wearing_Hat & !Blurry"),
        _celeba("curly", "Wavy_Hair", "!Bald & !Wearing_Hat & !Blurry"),
        _celeba("makeup", "Heavy_Makeup", "!Blurry"),
        _celeba("earrings", "Wearing_Earrings", "!Blurry"),
        _celeba("male", "Male", "!Blurry"),
        _celeba("young", "Young", "!Blurry"),
        Attribute("female", "!Male & !Blurry", "Male", "!Male", "!Male"),
        Attribute("old", "!Young & !Blurry", "Young", "!Young", "!Young"),
    )
}
ALIASES = {"skinhead": "bald", "eyeglasses": "glasses", "smiling": "smile", "grey": "gray"}


def resolve(spec: str | Sequence[str], table: AttributeTable) -> tuple[Attribute, ...]:
    """The attributes of a comma-separated list such as `bald,beard`, in its order, for this table.

    Each item is, in order of preference: a built-in whose columns the table has; a column of that name (positive `X`,
    negative `!X`); or own selectors, `name=POSITIVE/NEGATIVE` — `bald=Bald & !Blurry/!Bald` — where `name=POSITIVE`
    alone takes its negation as the negative. Commas and slashes inside double quotes belong to the name quoted. For
    the last two, present is the positive and maybe is everything that is not strictly negative. Raises
    UnknownAttribute (with near names), SelectorError, or FaceganError for an empty list or a duplicate.
    """
    items = listed(spec)
    if not all(items):
        raise FaceganError(f"attributes: expected a comma-separated list such as bald,beard, got {', '.join(items) or 'nothing'}")
    attributes = tuple(_own(item, table) if len(listed(item, "=")) > 1 else _named(item, table) for item in items)
    names = [attribute.name for attribute in attributes]
    for name in names:
        if names.count(name) > 1:
            raise FaceganError(f"attributes: {name!r} is asked for more than once in {','.join(items)}; name each attribute once")
    return attributes


def names(attributes: str | Sequence[str]) -> list[str]:
    """What the attributes of a list are called, in its order; for a run at hand without its data."""
    written = (listed(item, "=")[0].strip('"') for item in listed(attributes))
    return [ALIASES.get(name, name) for name in written]


def _named(name: str, table: AttributeTable) -> Attribute:
    builtin = BUILTIN.get(ALIASES.get(name, name))
    missing = [column for column in builtin.columns if column not in table.columns] if builtin else []
    if builtin and not missing:
        return builtin
    plain = name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') and len(name) > 2 else name
    if plain in table.columns:
        column = Name(plain)
        return Attribute(plain, str(column), str(Not(column)), str(column), str(column))
    if builtin:
        raise UnknownAttribute(
            f"attribute {name!r} is built in for CelebA's columns, but this data set has no {', '.join(missing)}; "
            f"give its own selectors as {name}=POSITIVE/NEGATIVE over {', '.join(table.columns[:12])}"
        )
    known = (*table.columns, *(key for key, each in BUILTIN.items() if set(each.columns) <= set(table.columns)))
    raise UnknownAttribute(f"attribute {name!r} is neither a built-in nor a column of this data set; {near(name, known)}")


def _own(item: str, table: AttributeTable) -> Attribute:
    name, *rest = listed(item, "=")
    sides = listed("=".join(rest), "/")
    name = name.strip()
    if not name or len(sides) > 2:
        raise FaceganError(f"attributes: expected name=POSITIVE/NEGATIVE (or name=POSITIVE), got {item!r}")
    positive = parse(sides[0])
    negative = parse(sides[1]) if len(sides) == 2 else Not(positive)
    for selector in (positive, negative):
        table.truth(selector)  # an unknown column is told here, where the user wrote it
    return Attribute(name, str(positive), str(negative), str(positive), str(Not(negative)))


@dataclass(frozen=True, eq=False)
class Groups:
    """What a list of K attributes makes of N images; every array holds int64 row indices, ascending."""

    attributes: tuple[Attribute, ...]
    only: tuple[np.ndarray, ...]  # X_k = pos_k & all neg_j: the training images of attribute k
    joint: np.ndarray  # carry all of them: the held-out reference, never trained on
    excluded: np.ndarray  # joint, and every image that might be: no generator side ever sees these
    usable: np.ndarray  # all others


def only_selector(attributes: tuple[Attribute, ...], k: int) -> Selector:
    """The selector of X_k (k from 0): strictly attribute k, strictly none of the others."""
    others = (parse(each.negative) for j, each in enumerate(attributes) if j != k)
    return conjunction(parse(attributes[k].positive), *others)


def attrition(table: AttributeTable, selector: Selector) -> tuple[tuple[Selector, int], ...]:
    """Per top-level clause: how many images would be left if that clause alone were dropped."""
    clauses = selector.clauses()
    true = np.stack([table.select(clause) for clause in clauses])  # [clauses, N]
    failed = (~true).sum(0)
    return tuple((clause, int(((failed - ~kept) == 0).sum())) for clause, kept in zip(clauses, true, strict=True))


def partition(table: AttributeTable, attributes: tuple[Attribute, ...]) -> Groups:
    """The groups as they are, however small. Raises FaceganError for fewer than two attributes."""
    if len(attributes) < 2:
        raise FaceganError(
            "attributes: expected at least two, such as bald,beard, as the aim is faces that carry them together; "
            f"got {', '.join(each.name for each in attributes) or 'none'}"
        )
    joint = np.logical_and.reduce([table.select(each.present) for each in attributes])
    # Unknown counts as "might": only an image that surely lacks one of the attributes may be trained on.
    might = table.truth(conjunction(*(parse(each.maybe) for each in attributes))) != 0
    excluded = joint | might
    only = tuple(np.flatnonzero(table.select(only_selector(attributes, k)) & ~excluded) for k in range(len(attributes)))
    return Groups(attributes, only, np.flatnonzero(joint), np.flatnonzero(excluded), np.flatnonzero(~excluded))


def group(table: AttributeTable, attributes: tuple[Attribute, ...], *, minimum: int = 8) -> Groups:
    """`partition`, but a FaceganError that names the costliest clause for an X_k of fewer than `minimum` images."""
    groups = partition(table, attributes)
    for k, index in enumerate(groups.only):
        if len(index) < minimum:
            selector = only_selector(attributes, k)
            clause, left = max(attrition(table, selector), key=lambda row: row[1])
            raise FaceganError(
                f"attribute {attributes[k].name!r}: {len(index)} images carry it and none of the others, at least "
                f"{minimum} are needed; of `{selector}` the clause `{clause}` removes most: without it {left} images "
                "would be left"
            )
    return groups
