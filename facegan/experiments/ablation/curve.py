"""The joint rate in the course of a training, from the sheets of fixed-z samples that every run leaves.

    python -m facegan.experiments.ablation.curve RUN [DEVICE]

The sheets show what users would get (the running average, merged) at twenty moments of each stage, so nothing need be trained or kept
for it. 64 faces a sheet make a rate to about +- 0.12; over seeds less.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.run import RunFolder, write_json
from facegan.checkpoints.trained import TrainedRun
from facegan.data.formats import open_image
from facegan.devices import AUTO
from facegan.evaluation.evaluator import Evaluator
from facegan.files import parse_json, read_text
from facegan.pixels import to_float
from facegan.schema import checked

NAME = "curve.json"


def curve(root: Path, device: str = AUTO) -> list[dict[str, Any]]:
    """Writes ROOT/curve.json: [{stage, step, epoch, seconds, faces, joint, marginals}], in the order of training."""
    trained = TrainedRun(root, device=device)
    evaluator = Evaluator(trained.config, device=trained.device)
    points = []
    for stage in tqdm(trained.generator_stages(), desc="curve", unit="stage"):
        clock = Clock(trained.folder, stage)
        for step, path in sheets(root, stage):
            shown = faces(open_image(path), trained.config.resolution)
            verdicts = evaluator.judge.verdicts(shown).mean(0)
            points.append({"stage": stage, "step": step, **clock.at(step), "faces": len(shown), "joint": float(verdicts[-1]),
                           "marginals": dict(zip(evaluator.judge.attributes, map(float, verdicts), strict=False))})  # fmt: skip
    write_json(root / NAME, points)
    return points


def sheets(root: Path, stage: str) -> list[tuple[int, Path]]:
    """(step, picture) of each snapshot of a stage, the oldest first."""
    digits = "[0-9]" * 7
    return sorted((int(path.stem[-7:]), path) for path in (root / "samples").glob(f"{stage}-{digits}.png"))


def faces(picture: Image.Image, resolution: int) -> Tensor:
    """Float [N, 3, R, R] in [-1, 1] back from a square sheet of `training.pictures.sheet`: whole pixels, one apart, enlarged."""
    scale = max(1, 64 // resolution)
    small = picture.convert("RGB").resize((picture.width // scale, picture.height // scale), Image.Resampling.NEAREST)
    pixels = np.asarray(small)
    step = resolution + 1
    cells = [
        pixels[top : top + resolution, left : left + resolution]
        for top in range(0, pixels.shape[0], step)
        for left in range(0, pixels.shape[1], step)
    ]
    return to_float(np.ascontiguousarray(np.stack(cells).transpose(0, 3, 1, 2)))


class _Row(TypedDict):
    """Of metrics.jsonl."""

    stage: str
    step: int
    epoch: float
    seconds: float


class Clock:
    """Epochs and seconds of a stage's steps, by the rows of its metrics."""

    def __init__(self, folder: RunFolder, stage: str) -> None:
        lines = read_text(folder.metrics).splitlines() if folder.metrics.exists() else []
        rows = [checked(parse_json(line, folder.metrics), _Row, folder.metrics) for line in lines]
        rows = [row for row in rows if row["stage"] == stage]
        self.steps = [0, *(row["step"] for row in rows)]
        self.columns = {
            "epoch": [0.0, *(row["epoch"] for row in rows)], "seconds": [0.0, *(row["seconds"] for row in rows)],
        }  # fmt: skip

    def at(self, step: int) -> dict[str, float]:
        return {name: float(np.interp(step, self.steps, values)) for name, values in self.columns.items()}


if __name__ == "__main__":
    curve(Path(sys.argv[1]), *sys.argv[2:])
