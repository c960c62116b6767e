"""Self-augmentation: generated images that everything accepts join the real ones (the source's introduction)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from facegan.errors import FaceganError
from facegan.methods.a.config import MethodAConfig
from facegan.pixels import to_float, to_uint8
from facegan.randomness import generator
from facegan.training.augment import sharpness
from facegan.training.stage import Context

ACCEPTED = 0.5  # a score nearer to "real" than to "fake"


class Numbers(NamedTuple):
    """Uniform in [0, 1), for every image of the batch of all processes: arrays as drawn, tensors as used."""

    places: Any  # [batch]: which reals give way
    which: Any  # [batch]: for which own sample


class OwnSamples:
    """First in, first out; the same on every process. Kept as uint8, so that a resumed run holds the very same images.

    A ring on the device: of `offered` samples in all, the last ones are there, number i in slot i modulo the ring's size.
    """

    def __init__(self, context: Context[MethodAConfig], bounds: tuple[float, float]) -> None:
        self.context, self.bounds = context, bounds
        self.size, side = context.config.self_augment_buffer, context.config.resolution
        # One slot more, where all goes that is not wanted.
        self.ring = torch.zeros(self.size + 1, 3, side, side, dtype=torch.uint8, device=context.device)
        self.offered = torch.zeros((), dtype=torch.int64, device=context.device)

    @torch.no_grad()
    def offer(self, fakes: Tensor, scores: Tensor) -> None:
        """Add fakes [N, 3, R, R] whose worst score [N] and sharpness are acceptable."""
        measured = sharpness(fakes.float())
        accepted = (scores > ACCEPTED) & (measured > self.bounds[0]) & (measured < self.bounds[1])
        accepted = self.context.accelerator.gather(accepted)
        images = self.context.accelerator.gather(to_uint8(fakes).contiguous())
        number = accepted.cumsum(0) - 1  # among the accepted ones
        count = accepted.sum()
        kept = accepted & (number >= count - self.size)  # a slot takes one image only
        slots = torch.where(kept, (self.offered + number) % self.size, self.size)
        self.ring.index_copy_(0, slots, images)
        self.offered += count

    def draw(self, step: int, count: int) -> Numbers:
        seed = self.context.config.seed
        return Numbers(*(generator(seed, f"self-augment/{stream}", step).random(count) for stream in ("places", "which")))

    def mixed(self, reals: Tensor, numbers: Numbers) -> Tensor:
        """`reals` with at most the allowed share replaced by own samples; fewer while the buffer is young."""
        config, count = self.context.config, len(numbers.places)
        held = self.offered.clamp(max=self.size)
        chosen = numbers.places < config.self_augment_share * (held / self.size).double()
        chosen = chosen & (chosen.cumsum(0) <= config.self_augment_share * count)
        age = torch.minimum((numbers.which * held).long(), (held - 1).clamp(min=0))  # 0 is the oldest
        slots = (self.offered - held + age) % self.size
        first, last = self.context.randomness.shard.span(count)
        own = to_float(self.ring[slots[first:last]])
        return torch.where(chosen[first:last, None, None, None], own, reals)

    @property
    def images(self) -> Tensor:
        """Those held, the oldest first: uint8 [n, 3, R, R] on the CPU."""
        offered = int(self.offered)
        held = min(offered, self.size)
        return self.ring[(torch.arange(offered - held, offered) % self.size).to(self.ring.device)].cpu()

    def state(self) -> dict[str, Tensor]:
        return {"own": self.images}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        own = tensors["own"]
        if own.dtype != self.ring.dtype or own.shape[1:] != self.ring.shape[1:] or len(own) > self.size:
            raise FaceganError(f"own is {own.dtype} {list(own.shape)}; expected uint8 {[self.size, *self.ring.shape[1:]]}, or fewer images")
        self.ring[: len(own)].copy_(own)
        self.offered.fill_(len(own))
