"""What one step asks of each network, behind one `forward`: only that of a prepared module synchronises gradients over processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from facegan.methods.common.regularizers import path_lengths
from facegan.models.stylegan2 import Discriminator, Generator
from facegan.models.stylegan2_config import Level


class MixedFaces(nn.Module):
    """Faces of one style up to a layer of their own and of another from there on (style mixing; Karras et al. 2019, 3.1)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self, z: Tensor, crossover: Tensor, c: Tensor | None, noise: Tensor | None, level: Level | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """z [N, 2, z_dim], crossover [N]: the first layer of the second style -> images [N, 3, H, W], ws [N, num_ws, w_dim].

        Without `noise` there is none. With `y` [N, 3, R, R], of which the images' part is used: path lengths [N] in place of the images.
        """
        both = self.generator.mapping(z.flatten(0, 1), None if c is None else c.repeat_interleave(2, 0))
        first, second = both.unflatten(0, (-1, 2)).unbind(1)
        layers = torch.arange(first.shape[1], device=z.device)
        ws = torch.where((layers < crossover[:, None])[:, :, None], first, second)
        images = self.generator.synthesis(ws, "none", noise=noise, level=level)
        if y is None:
            return images, ws
        # Here, as ws may leave a prepared module as a copy. Zero times the images: every weight then has a gradient, which the
        # synchronisation of processes counts on.
        lengths = path_lengths(images, ws, y[:, :, : images.shape[2], : images.shape[3]])
        return lengths + 0 * images.flatten(1).sum(1), ws


class Scores(nn.Module):
    """The discriminator's scores of several batches, each looked at by itself; those of one size in one pass."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, batches: Sequence[tuple[Tensor, Tensor | None]], level: Level | None = None) -> list[Tensor]:
        """(images, labels or None) of each batch -> its scores [N], in an order of their own."""
        group = self.discriminator.config.group
        shown = [(grouped(x, group), None if c is None else grouped(c, group)) for x, c in batches]
        if len({len(x) for x, _ in shown}) > 1:
            return [self.discriminator(x, c, level=level) for x, c in shown]
        labels = [c for _, c in shown if c is not None]
        images, c = torch.cat([x for x, _ in shown]), torch.cat(labels) if labels else None
        return list(self.discriminator(images, c, level=level, batches=len(shown)).chunk(len(shown)))


def grouped(x: Tensor, group: int) -> Tensor:
    """Rows in the order in which the minibatch deviation groups consecutive ones: a part of a batch, on another process or
    in another pass, then holds the groups that it holds in the whole."""
    return x if len(x) % group else x.unflatten(0, (-1, group)).transpose(0, 1).flatten(0, 1)


@contextmanager
def full_precision(network: nn.Module) -> Iterator[None]:
    """All sizes in float32 for a while: second derivatives in bfloat16 are noise."""
    lower = [module for module in network.modules() if getattr(module, "dtype", None) == torch.bfloat16]
    for module in lower:
        module.dtype = torch.float32  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in lower:
            module.dtype = torch.bfloat16  # type: ignore[assignment]
