"""The attribute table: image ids x named columns, the one form every data set is read into."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facegan.data.selectors import Selector, parse
from facegan.errors import FaceganError


class UnknownAttribute(FaceganError):
    """A name that the table has no column for; the message lists the nearest names."""


@dataclass(frozen=True, eq=False)
class AttributeTable:
    """Which image carries which attribute.

    `ids` N distinct image ids; `columns` C distinct names; `values` float32 [N, C] in [0, 1], NaN where unknown.
    Raises FaceganError when these disagree.
    """

    ids: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        expected = (len(self.ids), len(self.columns))
        if self.values.shape != expected or self.values.dtype != np.float32:
            raise FaceganError(
                f"values: expected float32 {expected} for these ids and columns, got {self.values.dtype} {self.values.shape}"
            )
        if ((self.values < 0) | (self.values > 1)).any():
            raise FaceganError("values: attribute values must lie in [0, 1], with NaN for unknown")
        for label, names in (("ids", self.ids), ("columns", self.columns)):
            if len(set(names)) < len(names):
                twice = next(name for i, name in enumerate(names) if name in names[:i])
                raise FaceganError(f"{label}: {twice!r} occurs twice; every one must be distinct")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.columns)}

    def column(self, name: str) -> np.ndarray:
        """One column, float32 [N]; raises UnknownAttribute with the nearest names."""
        if name not in self._position:
            raise UnknownAttribute(f"attribute {name!r} is not a column of this data set; {near(name, self.columns)}")
        return self.values[:, self._position[name]]

    def truth(self, selector: str | Selector) -> np.ndarray:
        """Kleene truth of a selector per image: float32 [N] of 1, 0 and NaN (unknown)."""
        tree = parse(selector) if isinstance(selector, str) else selector
        return tree.evaluate({name: self.column(name) for name in tree.columns})

    def select(self, selector: str | Selector) -> np.ndarray:
        """Where the selector is true: bool [N]. Unknown is not true, and so not kept."""
        return self.truth(selector) == 1

    def rows(self, index: np.ndarray) -> AttributeTable:
        """The table of the images at `index` (int64 or bool, as numpy indexes), in that order."""
        picked = np.arange(len(self.ids))[index]
        return AttributeTable(tuple(self.ids[i] for i in picked), self.columns, self.values[picked])


def near(name: str, known: Iterable[str]) -> str:
    """A clause for an error message: the names closest to `name` whatever their case, or all of them when few."""
    names = list(dict.fromkeys(known))
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(candidate.casefold(), candidate)
    close = [folded[key] for key in difflib.get_close_matches(name.casefold(), folded, n=5, cutoff=0.5)]
    contained = [candidate for candidate in names if name.casefold() in candidate.casefold()]
    nearest = list(dict.fromkeys(close + contained))[:6]
    if nearest:
        return f"did you mean {', '.join(nearest)}?"
    return f"known are {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else "it has no columns at all"
