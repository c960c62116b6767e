"""The critics of a run as one function of images: what guides a search of styles; never the judge."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from facegan.checkpoints import checkpoint
from facegan.checkpoints.run import RunFolder
from facegan.data.attributes import names
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.models.conv_gan import Discriminator, DiscriminatorConfig, channels_last
from facegan.schema import checked
from facegan.tensors import rebuilt

log = logging.getLogger("facegan.styles")


class CriticMetadata(TypedDict):
    """Of a finished critic's state.json."""

    critic: DiscriminatorConfig
    balanced_accuracy: float
    blurry_accuracy: float


def load_critic(folder: RunFolder, name: str) -> Discriminator:
    """A finished critic, frozen."""
    tensors, metadata = folder.load_stage(name)
    config = checked(metadata, CriticMetadata, folder.stages / name)["critic"]
    critic = rebuilt(lambda: Discriminator(config), checkpoint.unpack("critic", tensors), folder.stages / name)
    return channels_last(critic).eval().requires_grad_(False)


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
                "train it with `critics=all`, or name another run with `critics`"
            )
        self.device = resolve_device(device)
        self.nets = [load_critic(folder, prefix + name).to(self.device) for name in self.attributes]
        self.resolution = self.nets[0].config.height

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return self.scores(images).cpu()

    def scores(self, images: Tensor) -> Tensor:
        """[K, N] on the critics' device, with a gradient for the images."""
        images = resized(images.to(self.device), self.resolution, "the critics")
        return torch.stack([net(images).float() for net in self.nets])


_warned: set[tuple[int, int, str]] = set()


def resized(images: Tensor, size: int, reader: str) -> Tensor:
    """[N, 3, size, size] by area averaging; said once, as it may change what `reader` sees."""
    held = images.shape[-1]
    if held == size:
        return images
    if (held, size, reader) not in _warned:
        _warned.add((held, size, reader))
        log.info("faces of %d px are resized to %d px, which %s know", held, size, reader)
    return F.interpolate(images, size=(size, size), mode="area")
