"""Boxes float64 [N, 4] (x0, y0, x1, y1), of which the best of those that overlap are kept."""

from __future__ import annotations

from typing import Literal

import numpy as np


def suppressed(boxes: np.ndarray, scores: np.ndarray, most: float, by: Literal["union", "smaller"]) -> np.ndarray:
    """Non-maximum suppression: the indices of the boxes kept, best first.

    A box is dropped where a better one shares more than `most` of the union of both, or of the smaller one.
    """
    order = np.argsort(-scores, kind="stable")
    low, high = boxes[order, :2], boxes[order, 2:]
    shared = np.prod(np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None), axis=2)
    areas = np.prod(high - low, axis=1)
    whole = np.minimum(areas[:, None], areas) if by == "smaller" else areas[:, None] + areas - shared
    alike, dropped, kept = shared > most * whole, np.zeros(len(order), bool), list[int]()
    for place, index in enumerate(order):
        if not dropped[place]:
            kept.append(index)
            dropped |= alike[place]
    return np.array(kept, dtype=np.int64)
