"""A photo with attributes added and removed: its projection, moved along directions, and what critics say to it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from facegan.alignment.geometry import Square, central, paste
from facegan.checkpoints.critics import Critics
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import is_run, write_json
from facegan.data.photos import Target, upright
from facegan.errors import FaceganError
from facegan.options import EditOptions
from facegan.plotting.comparison import comparison
from facegan.plotting.sheets import save_png, to_pil
from facegan.styles.directions import find_direction
from facegan.styles.perceptual import distance
from facegan.styles.project import Projector, find_photos
from facegan.styles.recipe import parse_layers
from facegan.styles.store import SUFFIX, write_style

log = logging.getLogger("facegan.styles")


@dataclass(frozen=True, eq=False)
class Edited:
    """A photo, its projection, and the edit."""

    folder: Path
    style: Tensor  # float32 [num_ws, w_dim], of the edit
    tensors: Tensor  # [3, 3, R, R] in [-1, 1]: photo, projection, edit
    record: dict[str, Any]  # as edit.json has it
    photo: Image.Image | None = None  # the whole photo with what the edit changed, if `paste` asked for it

    @property
    def image(self) -> Image.Image:
        """The edit as a picture."""
        return to_pil(self.tensors[2])

    def to_json(self) -> dict[str, Any]:
        """What edit.json holds."""
        return dict(self.record)

    def describe(self) -> str:
        """The figures for a reader."""
        report = self.record
        lines = [f"photo to projection {report['projection_distance']:.4f}, identity drift of the edit {report['identity_drift']:.4f}"]
        for name, scores in report.get("critics", {}).items():
            lines.append(f"{name}: {scores['projection']:.2f} -> {scores['edited']:.2f} (1: the critic sees it, 0: not)")
        return "\n".join(lines)


def edit(projector: Projector, options: EditOptions, network: str, out: Path, target: Target | None = None) -> Edited:
    """Write NAME.npz (the projection), NAME-edited.npz and .png, edit.png and edit.json, with `paste` also NAME-pasted.png.

    What can be refused is refused first. `target`: the photo's face, where it was looked for before.
    """
    if not options.add and not options.remove:
        raise FaceganError("nothing to do: name an attribute with `add` or `remove`, such as `add=beard`")
    if not options.photo or Path(options.photo).is_dir():
        raise FaceganError(f"`photo` is {options.photo!r}: expected the file of one photo")
    shift = options.strength * direction_of(options, network, projector)
    critics = open_critics(options, network, projector.device)
    targets, problems = ([target], []) if target else find_photos([options.photo], projector.config.resolution, options.align)
    targets, others = projector.acceptable(targets[:1], out)
    if problems or others:
        raise FaceganError((problems + others)[0])
    projector.run(targets, out, batch=1)

    name = targets[0].name
    w, noise, before = projector.projected(out / f"{name}{SUFFIX}")
    [remote] = projector.flag_outliers([name], w)
    edited = w + shift.to(w.device)
    with torch.no_grad():
        after = projector.generator.synthesis(edited, noise=noise)
    photo = projector.images(targets)
    report = measured(projector, photo, before, after, critics)
    whole = upright(Path(options.photo))
    square: Square = targets[0].place or central(*whole.size)
    record = {"photo": targets[0].source, "square": square.to_json(), "add": list(options.add), "remove": list(options.remove),
              "strength": options.strength, "layers": options.layers or "all", "latent_distance": remote, **report}  # fmt: skip
    write_style(out / f"{name}-edited{SUFFIX}", edited[0])
    save_png(to_pil(after[0]), out / f"{name}-edited.png")
    titles = ["photo", "projection", "edited: " + " ".join([f"+{each}" for each in options.add] + [f"-{each}" for each in options.remove])]
    save_png(comparison(torch.stack([photo, before, after], dim=1), titles, [name]), out / "edit.png")
    # The change of the projection, not the projection: what the network does not know of this face and photo stays as it is.
    pasted = paste(whole, to_pil(before[0]), to_pil(after[0]), square) if options.paste else None
    if pasted:
        save_png(pasted, out / f"{name}-pasted.png")
    write_json(out / "edit.json", record)
    return Edited(out, edited[0].cpu(), torch.cat([photo, before, after]).cpu(), record, pasted)


def open_critics(options: EditOptions, network: str, device: torch.device) -> Critics | None:
    """Those of `critics`, by default of the network's own run; None, with a sentence, where that has none."""
    if options.critics:
        return Critics(options.critics, device=device)
    try:
        if is_run(network):
            return Critics(network, device=device)
        reason = f"{network} is no run of `facegan train`: name one with `critics=RUN`"
    except FaceganError as error:
        reason = str(error)
    log.warning("no critics say what the edit does, as %s", reason)
    return None


def direction_of(options: EditOptions, network: str, projector: Projector) -> Tensor:
    """[num_ws, w_dim]: what is added minus what is removed, in the layers asked for."""
    folders = [Path(options.styles)] * bool(options.styles) + [located(network) / "styles"]
    total = torch.zeros(projector.config.num_ws, projector.config.w_dim)
    for sign, names in ((1, options.add), (-1, options.remove)):
        for name in names:
            name, share = weighted(name)
            total += sign * share * find_direction(name, projector.generator, folders)
    if options.layers:
        kept = parse_layers(options.layers, projector.config)
        total[[layer for layer in range(len(total)) if layer not in kept]] = 0
    return total


def weighted(text: str) -> tuple[str, float]:
    """`beard:0.5` -> beard, 0.5; a name alone is all of it."""
    match = re.fullmatch(r"(.+):(-?\d+(?:\.\d+)?)", text, re.ASCII)
    return (match[1], float(match[2])) if match else (text, 1.0)


@torch.no_grad()
def measured(projector: Projector, photo: Tensor, before: Tensor, after: Tensor, critics: Critics | None) -> dict[str, Any]:
    """How far the projection is from the photo and the edit from the projection, and the critics' scores of all three."""
    features = [projector.perceptual.features(image) for image in (photo, before, after)]
    report: dict[str, Any] = {
        "perceptual": projector.perceptual.description,
        "projection_distance": distance(features[0], features[1]).item(),
        "identity_drift": distance(features[1], features[2]).item(),
    }
    if critics:
        scores = critics(torch.cat([photo, before, after]).cpu()).tolist()  # [K, 3]
        kinds = ("photo", "projection", "edited")
        report["critics"] = {name: dict(zip(kinds, row, strict=True)) for name, row in zip(critics.attributes, scores, strict=True)}
    return report
