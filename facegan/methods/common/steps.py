"""Where the steps of a training are rehearsed: on `meta` tensors the source of the list of kernels that it needs, on a GPU what is
measured.

Here is no data, no optimiser and no result: only the passes forward and backward that a stage makes, at the batch that one process
sees, in the arithmetic that its configuration asks for, on random numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from facegan.config import CriticConfig
from facegan.methods.common.regularizers import r1_penalty
from facegan.models import conv_gan
from facegan.models.conv_gan import channels_last

M = TypeVar("M", bound=nn.Module)
SAMPLES = 64  # faces of a stage's grid
Step = tuple[str, Callable[[], object]]


@dataclasses.dataclass(frozen=True)
class Rig:
    """Where steps run, and how much of a batch."""

    device: torch.device
    processes: int
    attributes: int
    half: bool

    def drawn(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device)

    def made(self, network: Callable[[], M]) -> M:
        with self.device:
            return channels_last(network())

    def arithmetic(self, full: bool = False) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half and not full)


def descend(loss: Tensor, *networks: nn.Module) -> None:
    """A backward pass into the weights of these networks, whose gradients are dropped."""
    torch.autograd.grad(loss, [p for network in networks for p in network.parameters() if p.requires_grad], allow_unused=True)


def critic_steps(config: CriticConfig, rig: Rig) -> Iterator[Step]:
    shape = conv_gan.DiscriminatorConfig(config.resolution, config.resolution, config.width, deviation=False)
    critic, n = rig.made(lambda: conv_gan.Discriminator(shape)), config.batch // rig.processes

    def step(full: bool) -> None:
        images = rig.drawn(n, 3, config.resolution, config.resolution).requires_grad_(full)
        with rig.arithmetic(full):
            scores = critic(images).float()
        loss = (scores - 1).square().mean()
        descend(loss + r1_penalty(scores, images, 1.0) if full else loss, critic)

    yield "critic", lambda: step(False)
    if config.critic_gradient_penalty:
        yield "critic's R1", lambda: step(True)
