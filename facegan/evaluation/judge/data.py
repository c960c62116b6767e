"""What the judge's classifiers learn from: pixels of a data set, labels of its attributes and of all its other columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.data.splits import holdout
from facegan.errors import FaceganError
from facegan.evaluation.judge.network import JudgeConfig, Material, to_float

if TYPE_CHECKING:
    from facegan.data.attributes import Attribute, Groups
    from facegan.data.faces import FaceData
    from facegan.data.table import AttributeTable


def shrink(images: Tensor, size: int) -> Tensor:
    """Float images no larger than ``size``: antialiased bilinear, nothing is enlarged."""
    if images.shape[-1] <= size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def pixels_of(data: FaceData, index: np.ndarray, size: int) -> Tensor:
    """uint8 [N, 3, S, S] on the CPU, read in pieces as the images may lie in a file."""
    pieces = []
    for start in range(0, len(index), 512):
        piece = torch.from_numpy(np.asarray(data.images[index[start : start + 512]]))
        if piece.shape[-1] > size:
            piece = (shrink(to_float(piece), size) * 127.5 + 127.5).round().clamp(0, 255).byte()
        pieces.append(piece)
    side = min(size, data.images.shape[-1])
    return torch.cat(pieces) if pieces else torch.empty(0, 3, side, side, dtype=torch.uint8)


def labels_of(table: AttributeTable, attributes: tuple[Attribute, ...], joint: np.ndarray) -> np.ndarray:
    """float32 [N, K]: 1 where strictly positive (all of them for the ``joint`` rows), 0 where strictly negative, NaN
    elsewhere, which keeps doubtful images out of the loss."""
    labels = np.full((len(table), len(attributes)), np.nan, dtype=np.float32)
    for k, attribute in enumerate(attributes):
        labels[table.select(attribute.negative), k] = 0
        labels[table.select(attribute.positive), k] = 1
    labels[joint] = 1
    return labels


def material_of(
    data: FaceData, groups: Groups, judge_rows: np.ndarray, half: np.ndarray, config: JudgeConfig
) -> tuple[Material, np.ndarray, list[str]]:
    """What one classifier learns from, the rows of ``data`` that its images come from, and its other columns' names."""
    rows = np.concatenate([judge_rows, half])
    labels = labels_of(data.table, groups.attributes, groups.joint)[rows]
    known = ~np.isnan(labels).all(1)
    rows, labels = rows[known], labels[known]
    _, held = holdout(data.identities, rows, config.validation, config.seed, "judge-validation")
    learn = ~np.isin(rows, held)
    kinds = [np.isin(rows, only) for only in groups.only] + [np.isin(rows, half), (labels == 0).all(1)]
    kinds.append(~np.logical_or.reduce(kinds))  # the rest, e.g. a beard under a hat
    for name, kind in zip([a.name + " only" for a in groups.attributes] + ["joint"], kinds, strict=False):
        if not (kind & learn).any():
            raise FaceganError(
                f"judge: no image of the group {name!r} is left to learn from ({int(kind.sum())} in its part of the "
                f"data); use more images, or attributes that more of them carry."
            )
    # X_k twice: whether a face that surely has one attribute is given the other by mistake decides the joint rate
    strata = tuple(np.flatnonzero(kind & learn) for kind in [*kinds[: len(groups.only)], *kinds])
    images, columns = pixels_of(data, rows, config.resolution), []
    if config.auxiliary:
        binary = binary_columns(data.table, rows)
        often = np.minimum((binary == 0).sum(0), (binary == 1).sum(0)) >= max(8, len(rows) // 100)
        columns = [name for name, kept in zip(data.table.columns, often, strict=True) if kept]
        labels = np.concatenate([labels, binary[:, often]], 1)
    material = Material(images, torch.from_numpy(labels), strata, np.flatnonzero(~learn), len(groups.attributes))
    return material, rows, columns


def binary_columns(table: AttributeTable, rows: np.ndarray) -> np.ndarray:
    """float32 [N, C] in {0, 1, NaN}: all columns of the table."""
    values = table.values[rows]
    return np.where(np.isnan(values), np.nan, values >= 0.5).astype(np.float32)
