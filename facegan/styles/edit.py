"""`facegan edit`: a photo with attributes added and removed: its projection, moved along directions, and what critics say to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from facegan.devices import AUTO
from facegan.errors import FaceganError
from facegan.networks import located
from facegan.styles.comparison import comparison
from facegan.styles.critics import Critics, is_run
from facegan.styles.directions import find_direction
from facegan.styles.perceptual import distance
from facegan.styles.project import Projector
from facegan.styles.projection import Settings
from facegan.styles.recipe import parse_layers
from facegan.styles.store import SUFFIX, write_style
from facegan.styles.targets import read_photos
from facegan.training.folder import write_json
from facegan.training.pictures import save_png, to_pil

log = logging.getLogger("facegan.styles")


@dataclass(frozen=True)
class Request:
    """What the command line asks for; the flags are described there."""

    photo: str
    network: str
    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    strength: float = 1.0
    layers: str = ""
    styles: str = ""
    critics: str = ""
    space: Literal["w", "w+"] = "w"
    steps: int = 1000
    seed: int = 0
    out: str = "edits"
    device: str = AUTO
    cuda_graphs: str = "auto"


def edit(request: Request) -> None:
    """Writes NAME.npz (the projection), NAME-edited.npz and .png, edit.png and edit.json; what can be refused is refused first."""
    if not request.add and not request.remove:
        raise FaceganError("nothing to do: name an attribute with --add or --remove, such as --add beard")
    out = Path(request.out)
    projector = Projector(request.network, Settings(request.space, request.steps, request.seed), request.device, request.cuda_graphs)
    shift = request.strength * direction_of(request, projector)
    critics = open_critics(request, projector.device)
    targets, problems = read_photos([request.photo], projector.config.resolution)
    targets, others = projector.acceptable(targets[:1], out)
    if problems or others:
        raise FaceganError((problems + others)[0])
    projector.run(targets, out, batch=1)

    name = targets[0].name
    w, noise, before = projector.projected(out / f"{name}{SUFFIX}")
    [remote] = projector.doubted([name], w)
    edited = w + shift.to(w.device)
    with torch.no_grad():
        after = projector.generator.synthesis(edited, noise=noise)
    photo = projector.images(targets)
    report = measured(projector, photo, before, after, critics)
    record = {"photo": request.photo, "add": list(request.add), "remove": list(request.remove), "strength": request.strength,
              "layers": request.layers or "all", "remoteness": remote, **report}  # fmt: skip
    write_style(out / f"{name}-edited{SUFFIX}", edited[0])
    save_png(to_pil(after[0]), out / f"{name}-edited.png")
    titles = ["photo", "projection", "edited: " + " ".join([f"+{each}" for each in request.add] + [f"-{each}" for each in request.remove])]
    save_png(comparison(torch.stack([photo, before, after], dim=1), titles, [name]), out / "edit.png")
    write_json(out / "edit.json", record)
    print(describe(report))
    print(out / "edit.png")


def open_critics(request: Request, device: torch.device) -> Critics | None:
    """Those of --critics, by default of the network's own run; None, with a sentence, where that has none."""
    if request.critics:
        return Critics(request.critics, device=device)
    try:
        if is_run(request.network):
            return Critics(request.network, device=device)
        reason = f"{request.network} is no run of `facegan train`: name one with --critics RUN"
    except FaceganError as error:
        reason = str(error)
    log.warning("no critics say what the edit does, as %s", reason)
    return None


def direction_of(request: Request, projector: Projector) -> Tensor:
    """[num_ws, w_dim]: what is added minus what is removed, in the layers asked for."""
    folders = [Path(request.styles)] * bool(request.styles) + [located(request.network) / "styles"]
    total = torch.zeros(projector.config.num_ws, projector.config.w_dim)
    for sign, names in ((1, request.add), (-1, request.remove)):
        for name in names:
            total += sign * find_direction(name, projector.generator, folders)
    if request.layers:
        kept = parse_layers(request.layers, projector.config)
        total[[layer for layer in range(len(total)) if layer not in kept]] = 0
    return total


@torch.no_grad()
def measured(projector: Projector, photo: Tensor, before: Tensor, after: Tensor, critics: Critics | None) -> dict[str, Any]:
    """How far the projection is from the photo and the edit from the projection, and the critics' scores of all three."""
    features = [projector.perceptual.features(image) for image in (photo, before, after)]
    report: dict[str, Any] = {
        "likeness_by": projector.perceptual.words,
        "projection_distance": distance(features[0], features[1]).item(),
        "identity_drift": distance(features[1], features[2]).item(),
    }
    if critics:
        scores = critics(torch.cat([photo, before, after]).cpu()).tolist()  # [K, 3]
        kinds = ("photo", "projection", "edited")
        report["critics"] = {name: dict(zip(kinds, row, strict=True)) for name, row in zip(critics.attributes, scores, strict=True)}
    return report


def describe(report: dict[str, Any]) -> str:
    """The figures for a reader."""
    lines = [f"photo to projection {report['projection_distance']:.4f}, identity drift of the edit {report['identity_drift']:.4f}"]
    for name, scores in report.get("critics", {}).items():
        lines.append(f"{name}: {scores['projection']:.2f} -> {scores['edited']:.2f} (1: the critic sees it, 0: not)")
    return "\n".join(lines)
