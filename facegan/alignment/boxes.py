"""Boxes float64 [N, 4] (x0, y0, x1, y1), of which the best of those that overlap are kept."""

from __future__ import annotations

from typing import Literal

import numpy as np


def suppressed(boxes: np.ndarray, scores: np.ndarray, most: float, by: Literal["union", "smaller"]) -> np.ndarray:
    """Non-maximum suppression: the indices of the boxes kept, best first.

    A box is dropped where a better one shares more than `most` of the union of both, or of the smaller one.
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        whole = np.minimum(areas[best], areas[rest]) if by == "smaller" else areas[best] + areas[rest] - shared
        order = rest[shared <= most * whole]
    return np.array(kept, dtype=np.int64)
