"""A face of a photograph: what is measured of it, whether it is fit to learn from, and its row in faces.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from PIL import Image

from facegan.alignment.detector import Detection
from facegan.alignment.geometry import Square, crop, square_of
from facegan.alignment.photos import Photo
from facegan.data.quality import HASH_BITS, perceptual_hash, sharpness
from facegan.errors import FaceganError
from facegan.options import AlignOptions

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
PROTRUSION = 1.1  # how far the tip of a nose stands out before the eyes, in halves of their distance: about
NO_FACE, SMALL, BLURRED, PADDING, TURNED = "no face", "small", "blurred", "padding", "turned"
DUPLICATE, ANOTHER, UNREADABLE = "duplicate of", "another face of a labelled photo", "unreadable:"
REMOVED = "removed by hand"


@dataclass(frozen=True)
class FaceRow:
    """A row of faces.csv; of a photo without a face everything but `source` and `reason` is empty. Lengths are pixels of the photo."""

    source: str
    face: int | None = None  # of the photo's faces, from 0, the largest
    file: str = ""  # below the folder of faces; "" where it is left out
    reason: str = ""  # why it is left out
    score: float | None = None
    box: tuple[float, ...] = ()  # x0, y0, x1, y1
    landmarks: tuple[float, ...] = ()  # x, y of LANDMARKS
    roll: float | None = None  # degrees, clockwise
    side: float | None = None
    sharpness: float | None = None  # in [0, 1]
    padding: float | None = None  # share of the square that is beyond the photo
    turn: float | None = None  # degrees to a side, roughly
    hash: str = ""

    def square(self) -> Square:
        """Where it is in the photo."""
        return square_of(np.array(self.landmarks).reshape(5, 2))

    def is_whole(self) -> bool:
        """Whether it is of a face and has all that is told of one, or of a photo and has none of it."""
        measures = (self.score, self.roll, self.side, self.sharpness, self.padding, self.turn)
        if self.face is None:
            return not self.file and bool(self.reason)
        if not self.file.endswith(".png") or len(self.box) != 4 or len(self.landmarks) != 10 or None in measures:
            return False
        try:
            self.square()
            return int(self.hash, 16).bit_length() <= HASH_BITS and all(map(math.isfinite, (*self.box, *filter(None, measures))))
        except (FaceganError, ValueError):
            return False


COLUMNS = (
    *("source", "face", "file", "reason", "score", "x0", "y0", "x1", "y1"),
    *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"),
    *("roll", "side", "sharpness", "padding", "turn", "hash"),
)


def table(rows: Iterable[FaceRow]) -> str:
    """faces.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = asdict(row) | dict(box=row.box or ("",) * 4, landmarks=row.landmarks or ("",) * 10)
        cells = [value for item in fields(row) for value in np.atleast_1d(np.array(values[item.name], dtype=object)).tolist()]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def turn_of(landmarks: np.ndarray) -> float:
    """About how many degrees a head is turned to a side, negative to the left of the picture: by the tip of the nose, which leaves the
    line from between the eyes to the mouth as tan(yaw) times how far it stands out."""
    across = np.array(square_of(landmarks).half)
    across /= np.hypot(*across)
    eyes, mouth, nose = landmarks[:2].mean(0), landmarks[3:].mean(0), landmarks[2]
    down = mouth - eyes
    share = float((nose - eyes) @ down / max(float(down @ down), 1e-9))
    distance = max(float((landmarks[1] - landmarks[0]) @ across), 1e-3 * float(np.hypot(*down)), 1e-9)
    return math.degrees(math.atan((nose - eyes - np.clip(share, 0, 1) * down) @ across / (PROTRUSION * distance / 2)))


def measured(photo: Photo, found: Detection, source: str, number: int, file: str, options: AlignOptions) -> tuple[FaceRow, Image.Image]:
    """The row of the `number`th face of a photo, called `file` if it is taken, and its picture, RGB [size, size]."""
    square = square_of(found.landmarks)
    face = crop(photo.image, square, options.size)
    seen = face.resize((max(8, options.size // 2),) * 2, Image.Resampling.BOX) if options.size > 16 else face
    row = FaceRow(
        source,
        number,
        file,
        score=round(found.score, 4),
        box=_rounded(np.array(found.box) * photo.scale),
        landmarks=_rounded(found.landmarks.ravel() * photo.scale),
        roll=round(square.roll, 1),
        side=round(square.side * photo.scale, 1),
        sharpness=round(sharpness(seen), 4),
        padding=round(square.outside(*photo.image.size), 4),
        turn=round(turn_of(found.landmarks), 1),
        hash=f"{perceptual_hash(face):x}",
    )
    return row, face


def unfit(row: FaceRow, options: AlignOptions) -> str:
    """Why a face is not to be learned from; "" where it is."""
    assert row.side is not None and row.sharpness is not None and row.padding is not None and row.turn is not None
    if row.side < options.smallest_side:
        return SMALL
    if row.padding > options.max_padding:
        return PADDING
    if abs(row.turn) > options.max_turn:
        return TURNED
    return BLURRED if row.sharpness < options.min_sharpness else ""


def _rounded(values: np.ndarray | Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 2) for value in values)
