"""What a mix keeps of the face that it started from, beside whether it carries the attributes.

A way of mixing that turns every face into one average may carry both attributes in all of them, and still makes one face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from facegan.checkpoints.critics import resized
from facegan.evaluation.features import Attributes
from facegan.evaluation.samples import JudgedSamples
from facegan.styles.refine import skin, under_mask

if TYPE_CHECKING:
    from facegan.evaluation.evaluator import Evaluator

HEADS = ("changed outside", "features", "skin", "row found", "variety")  # of a table's columns
PAIRS = 4096  # of faces that are compared, at most


@dataclass(frozen=True)
class Kept:
    """Of mixes beside their rows. All but `found` are shares of what two different rows differ by: 0 is the row, 1 another person; None
    where there is a single row, or all are alike."""

    outside: float | None  # change of the pixels where the mask is 0; None, too, where there are none
    features: float | None  # distance of the judge's features, which the attribute that was asked for changes too
    skin: float | None  # distance of the mean colours of the brightest quarter of the pixels under the mask; None, too, where there is none
    found: float  # share of the mixes that of all rows are nearest to their own, by those pixels (all, where there are none)
    variety: float | None  # how much mixes of different rows differ in these pixels: 1 as much as the rows

    def to_json(self) -> dict[str, Any]:
        """Its numbers."""
        return asdict(self)

    @classmethod
    def cells(cls, found: Mapping[str, float | None] | None) -> list[str]:
        """What a table shows of `to_json`, in the order of the fields; "-" for what there is none of."""
        numbers = [(found or {}).get(field.name) for field in fields(cls)]
        return ["-" if number is None else f"{number:.2f}" for number in numbers]


def kept(mixes: Tensor, rows: Tensor, row_of: Tensor, features: Tensor, row_features: Tensor, mask: Tensor | None = None) -> Kept:
    """Compare mixes with their rows.

    Args:
        mixes: [N, 3, R, R] in [-1, 1].
        rows: [M, 3, R, R], the rows' own faces.
        row_of: int64 [N], the row of each mix.
        features: [N, D], the judge's.
        row_features: [M, D].
        mask: [1, 1, R, R], where the columns' styles went; None: everywhere.
    """
    free = None if mask is None else mask[0, 0] <= 0  # [R, R]
    outside = free is not None and bool(free.any())
    seen, own = ((faces if free is None or not outside else faces[..., free]).flatten(1).float() for faces in (mixes, rows))
    first, second = pairs(torch.arange(len(rows)))
    between = (own[first] - own[second]).abs().mean(1)
    apart = (row_features[first] - row_features[second]).norm(dim=1)
    nearest = torch.cdist(seen, own, p=1).argmin(1)
    under, tone = None if mask is None else under_mask(mask), None
    if under is not None and len(under):
        mine, theirs = (skin(faces, under) for faces in (mixes, rows))
        tone = share((mine - theirs[row_of]).norm(dim=1).mean(), (theirs[first] - theirs[second]).norm(dim=1))
    return Kept(
        outside=share((seen - own[row_of]).abs().mean(), between) if outside else None,
        features=share((features - row_features[row_of]).norm(dim=1).mean(), apart),
        skin=tone,
        found=float((nearest == row_of).float().mean()),
        variety=share(_apart(seen, row_of), between),
    )


def kept_by(
    evaluator: Evaluator,
    seen: JudgedSamples,
    mixes: Tensor,
    rows: Tensor,
    row_of: Tensor,
    mask: Tensor | None,
    region: Tensor | None = None,
) -> Kept:
    """`kept`, by the features of an evaluator's judge; `seen`: what it has seen of the mixes.

    `region`: [1, 1, R, R], outside of which changes are told, and of the skin there, where there is no mask.
    """
    small = resized(rows, evaluator.judge.resolution, "the judge")
    of_rows = evaluator.score_samples(small.__getitem__, len(small))
    features = seen.features[Attributes.suffix], of_rows.features[Attributes.suffix]
    found = kept(mixes, rows, row_of, *features, mask)
    if mask is None and region is not None:
        there = kept(mixes, rows, row_of, *features, region)
        found = replace(found, outside=there.outside, skin=there.skin)
    return found


def share(value: Tensor, differences: Tensor) -> float | None:
    """A value over the mean of what pairs of rows [P] differ by."""
    return float(value / differences.mean()) if len(differences) and float(differences.mean()) > 0 else None


def pairs(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Places of two members of different groups [N], at most `PAIRS` of them, evenly taken from all."""
    first, second = torch.where(groups[:, None] < groups[None])
    every = max(1, len(first) // PAIRS)
    return first[::every], second[::every]


def _apart(flat: Tensor, groups: Tensor) -> Tensor:
    """Mean absolute difference of members [N, P] of different groups; zero where there is a single one."""
    first, second = pairs(groups)
    return (flat[first] - flat[second]).abs().mean() if len(first) else flat.new_zeros(())
