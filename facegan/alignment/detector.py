"""Where faces are in photographs: MTCNN (Zhang et al. 2016), looked at from four sides, its landmarks averaged over views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from facegan.alignment.boxes import suppressed
from facegan.alignment.geometry import square_of
from facegan.alignment.weights import available, networks
from facegan.alignment.windows import Picture, Windows, in_parts, lit
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.models.mtcnn import LANDMARKS, PROPOSAL, REFINEMENT, STRIDE

__all__ = ["Detection", "Detector", "available"]

_BOX = 0.74  # side of the box that the networks frame, as a share of FFHQ's square
_STEP = 0.709  # from each size of the picture to the next, half of its pixels
_QUARTERS = ((0, 2), (1, 3))  # turns counter-clockwise, those together after which a picture has one shape
_THRESHOLDS = (0.7, 0.7, 0.6)  # of the three networks
_MOST = 300  # windows of one size and orientation
# Views of a face, moved by shares of half their side, and mirrored or not. Thirty, in three sizes as well, see no better.
_VIEWS = tuple(product(((0, 0), (0.12, 0), (-0.12, 0), (0, 0.12), (0, -0.12)), (False, True)))
_FIRST = _VIEWS[:2]  # of which of several candidates in one place is the face
_CENTRE, _HALF = 0.3, 1.25  # of a view: from the eyes towards the mouth; in eye distances, or eyes to mouth
_PATCH, _MARGIN = 64, 1.6  # pixels of a view's side in the patch that is cut for it, sides of the patch in views'
_SWAPPED = [1, 0, 2, 4, 3]  # landmarks of a mirrored face
_LEAST, _SPREAD = 0.9, 0.12  # mean probability over the views, and their median disagreement in eye distances, of what counts as a face


@dataclass(frozen=True, eq=False)
class Detection:
    """A face in a photo, in its pixels; pixel i covers [i, i + 1)."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1
    score: float  # mean probability over all views, in [0, 1]
    landmarks: np.ndarray  # float64 [5, 2]: eye on the left, on the right, nose's tip, mouth's corner on the left, on the right


@dataclass(frozen=True, eq=False)
class _Faces:
    """Candidates: windows, landmarks [N, 5, 2] and probabilities [N], disagreement of views [N]."""

    windows: Windows
    landmarks: np.ndarray
    scores: np.ndarray
    spreads: np.ndarray

    def __getitem__(self, index: np.ndarray) -> _Faces:
        return _Faces(self.windows[index], self.landmarks[index], self.scores[index], self.spreads[index])


class Detector:
    """Finds faces in batches of photos; every photo's faces are the same alone and among others."""

    def __init__(self, device: torch.device | str = AUTO) -> None:
        """`device`: auto, cpu, cuda or cuda:N. FaceganError where `facegan[align]` is not installed."""
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.networks = networks(self.device)

    @torch.inference_mode()
    def __call__(self, photos: Sequence[Image.Image], smallest: float) -> list[list[Detection]]:
        """The faces of each photo, largest first.

        Args:
            photos: RGB.
            smallest: side, in pixels of the photos, of FFHQ's square around the smallest faces looked for; smaller ones may be found too.
        """
        scale = min(1.0, REFINEMENT / (_BOX * smallest))
        sizes = [[max(PROPOSAL, round(side * scale)) for side in photo.size] for photo in photos]
        pictures = [Picture.of(photo, width, height, self.device) for photo, (width, height) in zip(photos, sizes, strict=True)]
        candidates = self._refined(pictures, self._proposed(pictures, _BOX * smallest))
        faces = self._landmarks(photos, pictures, candidates)
        found: list[list[Detection]] = [[] for _ in photos]
        sides, boxes = np.array([_side(landmarks) for landmarks in faces.landmarks]), faces.windows.boxes()
        for i in np.argsort(-sides, kind="stable"):
            if sides[i]:
                found[faces.windows.which[i]].append(Detection(tuple(boxes[i].tolist()), float(faces.scores[i]), faces.landmarks[i]))
        return found

    # --- the cascade
    def _proposed(self, pictures: Sequence[Picture], smallest: float) -> Windows:
        """Windows in which there may be a face whose box has `smallest` pixels or more, in each of four orientations."""
        alike: dict[tuple[float, ...], list[int]] = {}
        for i, picture in enumerate(pictures):
            alike.setdefault((*picture.levels[0].shape, *picture.scale), []).append(i)
        parts = [self._proposed_alike(pictures, places, smallest) for places in alike.values()]
        return Windows.joined([_none(), *(part for some in parts for part in some)])

    def _proposed_alike(self, pictures: Sequence[Picture], places: Sequence[int], smallest: float) -> list[Windows]:
        """Of pictures of one size, by photo and orientation."""
        images = lit(torch.cat([pictures[place].levels[0] for place in places]))
        scale = np.array(pictures[places[0]].scale)
        height, width = images.shape[2:]
        found: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
        factor = PROPOSAL / (smallest * scale.mean())
        while min(height, width) * factor >= PROPOSAL:
            size = [max(PROPOSAL, round(side * factor)) for side in (height, width)]
            small = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
            for quarters in _QUARTERS:
                turned = torch.cat([torch.rot90(small, quarter, (2, 3)) for quarter in quarters])
                turned = turned.contiguous(memory_format=torch.channels_last)
                faces, offsets = (each.cpu().numpy() for each in self.networks.proposals(turned))
                for i, (quarter, place) in enumerate(product(quarters, places)):
                    boxes, scores = _windows_of(faces[i], offsets[i])
                    if len(boxes):
                        boxes = boxes / np.tile(turned.shape[:1:-1], 2)  # shares of the turned picture
                        kept = suppressed(boxes, scores, 0.5, "union")
                        found.setdefault((place, quarter), []).append((boxes[kept], scores[kept]))
            factor *= _STEP
        parts = []
        for (place, quarter), some in found.items():
            sides = (width, height) if quarter % 2 == 0 else (height, width)
            boxes = np.concatenate([boxes for boxes, _ in some]) * np.tile(sides, 2)
            boxes = boxes[suppressed(boxes, np.concatenate([scores for _, scores in some]), 0.7, "union")]
            centres = _upright((boxes[:, :2] + boxes[:, 2:]) / 2, quarter, width, height) / scale
            halves = (boxes[:, 2:] - boxes[:, :2]).max(1) / 2 / scale.mean()
            parts.append(_windows(place, centres, halves, 90.0 * quarter))
        return parts

    def _refined(self, pictures: Sequence[Picture], windows: Windows) -> _Faces:
        """What the second network keeps, with the third one's landmarks and windows."""
        if len(windows):
            scores, offsets = in_parts(self.networks.refinement, windows.pixels(pictures, REFINEMENT))
            windows, _ = _best(windows, scores, offsets, _THRESHOLDS[1], "union")
        if not len(windows):
            return _Faces(windows, np.empty((0, 5, 2)), np.empty(0), np.empty(0))
        scores, offsets, points = in_parts(self.networks.landmarks, windows.pixels(pictures, LANDMARKS))
        landmarks = windows.points(2 * points - 1)
        windows, kept = _best(windows, scores, offsets, _THRESHOLDS[2], "smaller")
        return _Faces(windows, landmarks[kept], scores[kept], np.zeros(len(kept)))

    # --- landmarks
    def _landmarks(self, photos: Sequence[Image.Image], pictures: Sequence[Picture], faces: _Faces) -> _Faces:
        """Better landmarks, and of several candidates in one place the one whose views agree: heads that lie on their side are "found"
        upright as well, with points that mean nothing."""
        if not len(faces.windows):
            return faces
        patches = [self._patch(photos[which], landmarks) for which, landmarks in zip(faces.windows.which, faces.landmarks, strict=True)]
        faces = self._seen(patches, faces, _FIRST)
        chosen = [np.empty(0, np.int64)]
        for which in np.unique(faces.windows.which):
            mine = np.flatnonzero(faces.windows.which == which)
            order = (faces.scores - 2 * faces.spreads)[mine]
            chosen.append(mine[suppressed(faces.windows.boxes()[mine], order, 0.5, "smaller")])
        index = np.concatenate(chosen)
        faces = self._seen([self._patch(photos[which], landmarks) for which, landmarks in
                            zip(faces.windows.which[index], faces.landmarks[index], strict=True)], faces[index], _VIEWS)  # fmt: skip
        return faces[(faces.scores >= _LEAST) & (faces.spreads <= _SPREAD)]

    def _patch(self, photo: Image.Image, landmarks: np.ndarray) -> Picture:
        """The surroundings of a face, at the size that its views are seen at."""
        centre, half, _ = _view(landmarks)
        low, high = np.floor(centre - _MARGIN * half), np.ceil(centre + _MARGIN * half)
        low, high = low.clip(0, np.array(photo.size) - 1).astype(int), high.clip(1, photo.size).astype(int)
        high = np.maximum(high, low + 1)
        width, height = np.maximum(1, np.round((high - low) * min(1, _PATCH / (2 * half)))).astype(int).tolist()
        return Picture.of(photo, width, height, self.device, (*low.tolist(), *high.tolist()))

    def _seen(self, patches: Sequence[Picture], faces: _Faces, views: Sequence[tuple[tuple[float, float], bool]]) -> _Faces:
        """The median of the landmarks that the third network sees in views around those of each face, turned upright."""
        count, placed = len(faces.windows), [_view(landmarks) for landmarks in faces.landmarks]
        centres, halves, angles = (np.repeat([each[part] for each in placed], len(views), axis=0) for part in range(3))
        shifts, mirrored = (np.array(each * count) for each in zip(*views, strict=True))
        windows = Windows(np.repeat(np.arange(count), len(views)), centres + shifts * halves[:, None], halves, angles, mirrored)
        scores, _, points = in_parts(self.networks.landmarks, windows.pixels(patches, LANDMARKS))
        landmarks = windows.points(2 * points - 1)
        landmarks = np.where(mirrored[:, None, None], landmarks[:, _SWAPPED], landmarks).reshape(count, len(views), 5, 2)
        middle = np.median(landmarks, axis=1)
        eyes = np.linalg.norm(middle[:, 1] - middle[:, 0], axis=1).clip(min=1e-6)
        spreads = np.median(np.linalg.norm(landmarks - middle[:, None], axis=3), axis=(1, 2)) / eyes
        seen = [_view(each) for each in middle]
        whole = replace(faces.windows, centres=np.array([each[0] for each in seen]), halves=np.array([each[1] for each in seen]))
        return _Faces(whole, middle, scores.reshape(count, -1).mean(1), spreads)


def _view(landmarks: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Centre, half side and angle in degrees of the window that the third network sees a face best in."""
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    length = max(float(np.linalg.norm(landmarks[1] - landmarks[0])), float(np.linalg.norm(mouth - eyes)), 1e-3)
    try:
        roll = square_of(landmarks).roll
    except FaceganError:  # points without an upper side, of what is no face
        roll = 0.0
    return eyes + _CENTRE * (mouth - eyes), _HALF * length, roll


def _side(landmarks: np.ndarray) -> float:
    """Of FFHQ's square, by which faces are the larger; 0 for points that have none, of what is no face."""
    try:
        return square_of(landmarks).side
    except FaceganError:
        return 0.0


def _windows(which: int, centres: np.ndarray, halves: np.ndarray, angle: float) -> Windows:
    count = len(halves)
    return Windows(np.full(count, which), centres, halves, np.full(count, angle), np.zeros(count, bool))


def _none() -> Windows:
    return _windows(0, np.empty((0, 2)), np.empty(0), 0.0)


def _windows_of(faces: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [n, 4] in pixels, and scores [n], of the windows of a map of probabilities [h, w] and offsets [4, h, w]."""
    rows, columns = np.nonzero(faces > _THRESHOLDS[0])
    best = np.argsort(-faces[rows, columns], kind="stable")[:_MOST]
    rows, columns = rows[best], columns[best]
    corner = STRIDE * np.stack([columns, rows], axis=1)
    boxes = np.concatenate([corner, corner + PROPOSAL], axis=1) + PROPOSAL * offsets[:, rows, columns].T.astype(np.float64)
    return boxes, faces[rows, columns].astype(np.float64)


def _upright(points: np.ndarray, quarter: int, width: int, height: int) -> np.ndarray:
    """Points of a picture turned by `torch.rot90(..., quarter)` -> of the picture, `width` x `height` as it was."""
    x, y = points.T
    return np.stack([(x, y), (width - y, x), (width - x, height - y), (y, height - x)][quarter], axis=1)


def _best(
    windows: Windows, scores: np.ndarray, offsets: np.ndarray, least: float, by: Literal["union", "smaller"]
) -> tuple[Windows, np.ndarray]:
    """Windows moved to their boxes, of those of one photo and orientation that overlap the best one; and which ones those are."""
    likely = np.flatnonzero(scores > least)
    moved = windows[likely].moved(offsets[likely])
    kept = [np.empty(0, np.int64)]
    for group in {*zip(moved.which.tolist(), moved.angles.tolist(), strict=True)}:
        mine = np.flatnonzero((moved.which == group[0]) & (moved.angles == group[1]))
        kept.append(mine[suppressed(moved.boxes()[mine], scores[likely][mine], 0.7, by)])
    index = np.sort(np.concatenate(kept))
    return moved[index], likely[index]
