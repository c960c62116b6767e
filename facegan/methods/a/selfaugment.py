"""Self-augmentation: generated images that everything accepts join the real ones (the source's introduction)."""

from __future__ import annotations

import torch
from torch import Tensor

from facegan.training.augment import sharpness
from facegan.training.batches import to_float, to_uint8
from facegan.training.config_a import MethodAConfig
from facegan.training.randomness import generator
from facegan.training.stage import Context

ACCEPTED = 0.5  # a score nearer to "real" than to "fake"


class OwnSamples:
    """First in, first out; the same on every process. Kept as uint8, so that a resumed run holds the very same images."""

    def __init__(self, context: Context[MethodAConfig], bounds: tuple[float, float]) -> None:
        self.context, self.bounds = context, bounds
        size = context.config.resolution
        self.images = torch.zeros(0, 3, size, size, dtype=torch.uint8)

    @torch.no_grad()
    def offer(self, fakes: Tensor, scores: Tensor) -> None:
        """Add fakes [N, 3, R, R] whose worst score [N] and sharpness are acceptable."""
        measured = sharpness(fakes.float())
        accepted = (scores > ACCEPTED) & (measured > self.bounds[0]) & (measured < self.bounds[1])
        accepted = self.context.accelerator.gather(accepted)
        images = self.context.accelerator.gather(to_uint8(fakes).contiguous())[accepted].cpu()
        self.images = torch.cat([self.images, images.contiguous()])[-self.context.config.self_augment_buffer :]

    def mixed(self, reals: Tensor, step: int, count: int) -> Tensor:
        """`reals` with at most the allowed share replaced by own samples; fewer while the buffer is young."""
        config = self.context.config
        full = len(self.images) / config.self_augment_buffer
        chosen = generator(config.seed, "self-augment/places", step).random(count) < config.self_augment_share * full
        chosen &= chosen.cumsum() <= config.self_augment_share * count
        which = generator(config.seed, "self-augment/which", step).integers(max(1, len(self.images)), size=count)
        shard = self.context.randomness.shard
        places, picks = torch.from_numpy(shard.of(chosen)), torch.from_numpy(shard.of(which))
        if not places.any():
            return reals
        own = to_float(self.images[picks[places]], reals.device)
        return reals.index_put((places.to(reals.device).nonzero().flatten(),), own)

    def state(self) -> dict[str, Tensor]:
        return {"own": self.images}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.images = tensors["own"]
