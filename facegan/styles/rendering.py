"""Styles, or mixtures of them, drawn by a generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from facegan.checkpoints.trained import random_noise
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.memory import give_back, out_of_memory
from facegan.models.regions import Regions
from facegan.models.stylegan2 import Generator, NoiseMode
from facegan.styles.recipe import Mixture, channel_gains

AT_ONCE, AT_ONCE_PIXELS = 8, 1 << 19  # faces of a batch where none is asked for, and their pixels: what they need grows with them
GIVES_BACK = 1 << 20  # pixels made, after which free memory is given back


class Renderer:
    """Styles [N, num_ws, w_dim], or mixtures -> images float32 [N, 3, R, R] on the CPU, by a generator where that is.

    With `batch` 1 a style is the same image to the last bit whatever stands beside it, on a CPU; random noise is the same for all then.
    """

    def __init__(self, generator: Generator, noise_mode: NoiseMode = "const", batch: int = 1, cuda_graphs: str = "auto") -> None:
        self.generator, self.noise_mode, self.batch = generator, noise_mode, batch
        self.w_avg, self.device = generator.mapping.w_avg.cpu(), generator.mapping.w_avg.device
        self._made = 0  # pixels since memory was given back
        self.graphed = Graphed(self._synthesis, self.device, cuda_graphs, name="the generator")

    def _synthesis(
        self, ws: Tensor, noise: Tensor | None, others: Tensor | None = None, mask: Tensor | None = None, gains: Tensor | None = None
    ) -> Tensor:
        synthesis = self.generator.synthesis
        if others is not None and gains is not None:  # exact where a gain is 0 or 1
            ws = synthesis.style_space(ws)
            others = torch.lerp(ws, synthesis.style_space(others), gains)
        if others is not None and mask is None:
            ws, others = others, None
        regions = None if others is None or mask is None else Regions(others[:, None], mask)
        image: Tensor = synthesis(ws, self.noise_mode, noise=noise, regions=regions)
        return image

    @torch.no_grad()
    def __call__(self, styles: Tensor | Mixture) -> Tensor:
        images = []
        for part in (Mixture(styles) if isinstance(styles, Tensor) else styles).split(self.batch):
            with self.fitting(len(part)):
                images.append(self.graphed(*self._drawn(part)).float().cpu())
            self._count(len(part))
        return torch.cat(images)

    def _count(self, faces: int) -> None:
        """A process that keeps what is freed grows by some MiB with each large face, and with each batch of another size."""
        self._made += faces * self.generator.config.resolution**2
        if self._made >= GIVES_BACK:
            give_back()
            self._made = 0

    def differentiable(self, part: Mixture) -> Tensor:
        """The images of one batch, on the generator's device, with a gradient for its styles."""
        self._count(len(part))
        ws, noise, others, mask, gains = self._drawn(part)
        on = [None if x is None else x.to(self.device) for x in (ws, noise, others, mask, gains)]
        return self._synthesis(*on).float()  # type: ignore[arg-type]

    def _drawn(self, part: Mixture) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        config = self.generator.config
        noise = random_noise(config, self.noise_mode, len(part), self.device, seed=0)
        return part.ws, noise, part.others, part.mask, channel_gains(part.channels, config) if part.channels else None

    @contextmanager
    def fitting(self, count: int) -> Iterator[None]:
        """Says what to do where so many faces at once do not fit into memory."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            advice = f"name a smaller one, such as `batch` {count // 2}" if count > 1 else "this network needs a larger machine"
            size = self.generator.config.resolution
            raise FaceganError(f"{count} faces of {size} px at once do not fit into memory: {advice}") from None


def batch_for(resolution: int) -> int:
    """Faces at once where nobody says: on two cores 8 of 64 px are four times as fast as one after the other."""
    return max(1, min(AT_ONCE, AT_ONCE_PIXELS // resolution**2))
