"""Which of the faces found are taken, and what is said of those left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from facegan.alignment.face import ANOTHER, DUPLICATE, NO_FACE, REMOVED, FaceRow, table, unfit
from facegan.data.leftovers import kind
from facegan.data.quality import Duplicates
from facegan.options import AlignOptions


@dataclass(frozen=True, eq=False)
class Aligned:
    """What became of photographs.

    Attributes:
        rows: of every face found, and of every photo without one, in the photos' order.
        images: the faces taken, RGB [size, size], in the order of `taken`; those of a folder are opened as they are asked for.
        photos: how many there were.
        folder: where the faces are, if they were written.
    """

    rows: tuple[FaceRow, ...]
    images: Sequence[Image.Image] = field(repr=False)
    photos: int
    options: AlignOptions = field(repr=False)
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.taken)

    @property
    def taken(self) -> list[FaceRow]:
        """The rows of the faces that are kept."""
        return [row for row in self.rows if not row.reason]

    def counts(self) -> dict[str, int]:
        """How many were left out, by reason, the most frequent first."""
        return dict(Counter(kind(row.reason) for row in self.rows if row.reason).most_common())

    def table(self) -> str:
        """What faces.csv holds."""
        return table(self.rows)

    def describe(self) -> str:
        """The counts for a reader."""
        options, counts = self.options, self.counts()
        why = {
            "small": f"a side below {options.smallest_side:g} px in the photo (`min_side`)",
            "blurred": f"sharpness below {options.min_sharpness:g} (`min_sharpness`)",
            "padding": f"more than {options.max_padding:.0%} of it beyond the photo's edge (`max_padding`)",
            "turned": f"turned by more than about {options.max_turn:g} degrees (`max_turn`)",
            "duplicate": f"like a better one but for {options.duplicate_distance} bits (`keep_duplicates`)",
            NO_FACE: "photos",
            "unreadable": "photos",
            ANOTHER: "a photo's label is its largest face's (`faces=all` takes all, without a label)",
            REMOVED: "files that were there after an earlier call",
        }
        lines = [("photos", self.photos, ""), ("faces taken", len(self), ""), ("left out", sum(counts.values()), "")]
        lines += [(f"  {name}", count, why[name]) for name, count in counts.items()]
        width = max(len(name) for name, _, _ in lines)
        return "\n".join(f"{name:{width}}  {count:>9,}  {text}".rstrip() for name, count, text in lines)


def selected(rows: Sequence[FaceRow], options: AlignOptions, only_largest: bool, removed: Collection[str] = ()) -> list[FaceRow]:
    """The rows with the reasons for which faces are left out, and without the files of those.

    `removed`: files that a person took out of the folder of faces.
    """
    result = []
    for row in rows:
        if row.face is not None:
            gone = REMOVED if row.file in removed else ""
            row = replace(row, reason=unfit(row, options) or gone or (ANOTHER if only_largest and row.face else ""))
        result.append(row)
    if not options.keep_duplicates:
        _mark_duplicates(result, options.duplicate_distance)
    return [replace(row, file="") if row.reason else row for row in result]


def _mark_duplicates(rows: list[FaceRow], distance: int) -> None:
    """Of faces that look alike the best stays: the one with the most pixels that are sharp."""
    candidates = [i for i, row in enumerate(rows) if row.face is not None and row.reason in ("", REMOVED)]
    candidates.sort(key=lambda i: -(rows[i].side or 0) * (rows[i].sharpness or 0))  # of equals the first stays
    kept, order = Duplicates(), list[int]()
    for i in candidates:
        code = int(rows[i].hash, 16)
        nearest = kept.nearest(code)
        if nearest and nearest[1] <= distance:
            if not rows[i].reason:
                rows[i] = replace(rows[i], reason=f"{DUPLICATE} {rows[order[nearest[0]]].file}")
        else:
            kept.add(code)
            order.append(i)
