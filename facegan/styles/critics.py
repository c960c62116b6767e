"""The critics of a run as one function of images: what a search of styles goes by, and never the judge."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.data.attributes import names
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.methods.a.phase2 import load_critic
from facegan.training.folder import RunFolder

log = logging.getLogger("facegan.styles")


def is_run(path: str | Path) -> bool:
    """Whether this is a folder of `facegan train`, which may have critics."""
    try:
        RunFolder(path).record()
    except FaceganError:
        return False
    return True


class Critics:
    """One frozen critic per attribute, on a device; images [N, 3, R, R] in [-1, 1] -> scores [K, N] on the CPU, about 1 where the
    attribute is there."""

    @torch.random.fork_rng(devices=[])  # the layers' first weights are drawn, and replaced
    def __init__(self, run: str | Path, attributes: Sequence[str] = (), device: torch.device | str = AUTO) -> None:
        """`attributes`: their names, by default all that the run was trained for."""
        folder = RunFolder(run)
        self.attributes = list(attributes) or names(folder.config().attributes)
        prefix = "phase2-"
        known = [stage.removeprefix(prefix) for stage in folder.finished_stages() if stage.startswith(prefix)]
        missing = [name for name in self.attributes if name not in known]
        if missing:
            raise FaceganError(
                f"{run} has no critic for {', '.join(missing)} (it has: {', '.join(known) or 'none'}): "
                "train it with --critics all, or name another run with --critics"
            )
        self.device = resolve_device(device)
        self.nets = [load_critic(folder, prefix + name).to(self.device) for name in self.attributes]
        self.resolution = self.nets[0].config.height

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        images = resized(images.to(self.device), self.resolution, "the critics")
        return torch.stack([net(images).float() for net in self.nets]).cpu()


_told: set[tuple[int, int, str]] = set()


def resized(images: Tensor, size: int, reader: str) -> Tensor:
    """[N, 3, size, size] by area averaging; said once, as it may change what `reader` sees."""
    held = images.shape[-1]
    if held == size:
        return images
    if (held, size, reader) not in _told:
        _told.add((held, size, reader))
        log.info("faces of %d px are resized to %d px, which %s know", held, size, reader)
    return F.interpolate(images, size=(size, size), mode="area")
