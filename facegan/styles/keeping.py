"""What critics say of photos and of their styles: what a projection keeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facegan.checkpoints.critics import Critics
from facegan.checkpoints.run import RunFolder, is_run
from facegan.data.attributes import names
from facegan.errors import FaceganError
from facegan.options import ProjectOptions

log = logging.getLogger("facegan.styles")


def projection_critics(options: ProjectOptions, network: str, device: torch.device) -> Critics | None:
    """Those of `keep`, or, to report by, all of a run that has some; None where there are none and none are asked for."""
    run = options.critics or network
    if options.keep and not is_run(run):
        raise FaceganError(f"`keep` asks critics, and {run} is no run of `facegan train`: name one with `critics=RUN`")
    if options.keep or options.critics:
        return Critics(run, names(options.keep), device)
    finished = RunFolder(run).finished_stages() if is_run(run) else []
    wanted = names(RunFolder(run).config().attributes) if finished else []
    return Critics(run, wanted, device) if wanted and all(f"phase2-{name}" in finished for name in wanted) else None


def report_scores(attributes: Sequence[str], photos: Tensor, styles: Tensor, rows: Sequence[dict[str, Any]]) -> None:
    """Scores [K, N] of photos and of what their styles make, into the N `rows`; how many of both show each attribute is logged."""
    for index, row in enumerate(rows):
        row["critics"] = {name: {"photo": photos[k, index].item(), "style": styles[k, index].item()} for k, name in enumerate(attributes)}
    for name, photo, style in zip(attributes, photos, styles, strict=True):
        seen = [int(scores.gt(0.5).sum()) for scores in (photo, style)]
        log.info("%s: critics see it in %d of %d photos and in %d of their styles", name, seen[0], len(rows), seen[1])
