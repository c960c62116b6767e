"""Faces that somebody made, as files, rated by the judge of a run: the joint rate between floor and ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facegan.data.formats import IMAGE_LIMIT
from facegan.data.images import decode, reason
from facegan.data.photos import image_files
from facegan.errors import FaceganError
from facegan.evaluation.report import EvaluationReport, picture
from facegan.evaluation.samples import FIRST, score_samples
from facegan.files import read_bytes
from facegan.pixels import to_float

if TYPE_CHECKING:
    from facegan.evaluation.evaluator import Evaluator

SHEETS = ("grid.png", "projection.png", "edit.png", "report.png")  # that other commands write beside faces
MOST = 100_000  # faces


def rate_pictures(evaluator: Evaluator, folder: str) -> EvaluationReport:
    """Rate a folder's faces at the judge's resolution; of grids and other sheets that stand beside them there is no word.

    Raises:
        FaceganError: there are none, or one cannot be read.
    """
    files = [file.path for file in image_files([folder]) if file.path.name not in SHEETS]
    if not 0 < len(files) <= MOST:
        raise FaceganError(f"`faces={folder}` holds {len(files)} faces: expected 1 to {MOST}, such as `facegan generate` writes")
    pixels = _read(files, evaluator.data.images.shape[-1])
    seen = score_samples(lambda places: to_float(pixels[places.numpy()]), len(pixels), evaluator.judge)
    details = {**evaluator.measure(seen), "faces": folder}
    return EvaluationReport.from_json(details, {"report": picture(evaluator.judge, seen.first(FIRST), details, title=Path(folder).name)})


def _read(files: Sequence[Path], resolution: int) -> np.ndarray:
    """uint8 [N, 3, R, R]"""
    found = []
    for file in files:
        try:
            found.append(decode(read_bytes(file, IMAGE_LIMIT, "picture"), resolution))
        except FaceganError:
            raise
        except Exception as error:  # on bad bytes Pillow raises whatever its parsers trip over
            raise FaceganError(f"{file} is no readable image ({reason(error)})") from None
    return np.stack(found)
