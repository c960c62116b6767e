"""What critics say of photos and of their styles: what a projection keeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from facegan.checkpoints.critics import Critics
from facegan.checkpoints.run import RunFolder, is_run
from facegan.data.attributes import names
from facegan.errors import FaceganError
from facegan.files import RECORD_LIMIT, read_json
from facegan.options import ProjectOptions
from facegan.schema import checked

log = logging.getLogger("facegan.styles")

REPORT = "projection.json"  # beside the styles: what became of each photo


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


class _Score(TypedDict):
    photo: float  # about 1: it is there; about 0: it is not
    style: float


class _Named(TypedDict):
    name: str


class _Target(_Named, total=False):
    critics: dict[str, _Score]


class _Report(TypedDict):
    targets: list[_Target]


def style_scores(folder: Path, attribute: str) -> dict[str, float]:
    """By name, what the critics that `facegan project` asked said of the faces of a folder's styles: about 1 where they see the attribute,
    about 0 where not.

    Raises:
        FaceganError: it asked none, or not of this attribute.
    """
    report: _Report = checked(read_json(folder / REPORT, RECORD_LIMIT), _Report, folder / REPORT)
    scores = {row["name"]: row["critics"][attribute]["style"] for row in report["targets"] if attribute in row.get("critics", {})}
    if not scores:
        known = sorted({name for row in report["targets"] for name in row.get("critics", {})})
        told = f"what critics say of {', '.join(known)} alone" if known else "nothing that critics say"
        ask = "ask by `facegan project --critics RUN` a run that has it"
        raise FaceganError(f"{folder / REPORT} holds {told}: name another `attribute` than {attribute}, or {ask}")
    return scores
