"""A plain training step of StyleGAN2 (Karras et al. 2020, 2 and 3), with the parts that an image costs and nothing around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from facegan.methods.common.regularizers import path_lengths, r1_penalty
from facegan.methods.common.stylegan2 import Scores
from facegan.methods.common.stylegan2_losses import discriminator_loss, generator_loss, path_length_loss
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.training.optimizer import adam

GAMMA, LR = 1.0, 1e-5


class TrainingStep:
    """G, D, Adam for both, and a batch of `n` real images."""

    def __init__(self, config: StyleGAN2Config, n: int, device: str, networks: tuple[nn.Module, nn.Module] | None = None) -> None:
        """`networks`: others of the same signature in place of ours."""
        torch.manual_seed(0)
        self.n, self.device, self.z_dim = n, device, config.z_dim
        made = networks or tuple(network(config).to(memory_format=torch.channels_last) for network in (Generator, Discriminator))
        self.generator, self.discriminator = (network.to(device) for network in made)
        self.reals = torch.rand(n, 3, config.resolution, config.resolution, device=device) * 2 - 1
        self.optimizers = [adam(network.parameters(), LR, (0.0, 0.99), device) for network in (self.generator, self.discriminator)]
        self.mean_length = torch.zeros((), device=device)

    def step(self) -> tuple[()]:
        """Both networks by the non-saturating logistic loss."""
        self._descend(0, lambda: generator_loss(self.score(self.fakes())))
        with torch.no_grad():
            fakes = self.fakes()
        self._descend(1, lambda: discriminator_loss(*self.apart(self.reals, fakes)))
        return ()

    def r1(self) -> tuple[()]:
        """The discriminator by R1, which a training adds in every 16th step."""
        reals = self.reals.detach().requires_grad_()
        self._descend(1, lambda: r1_penalty(self.score(reals), reals, GAMMA))
        return ()

    def path_length(self) -> tuple[()]:
        """The generator by the path length of half a batch, which a training adds in every fourth step."""
        half = max(self.n // 2, 1)

        def loss() -> Tensor:
            ws = self.generator.mapping(self.z(half), None)
            images = self.generator.synthesis(ws)
            return path_length_loss(path_lengths(images, ws, torch.randn(images.shape, device=self.device)), self.mean_length)

        self._descend(0, loss)
        return ()

    def z(self, n: int) -> Tensor:
        return torch.randn(n, self.z_dim, device=self.device)

    def fakes(self) -> Tensor:
        images: Tensor = self.generator(self.z(self.n), None)
        return images

    def score(self, images: Tensor) -> Tensor:
        scores: Tensor = self.discriminator(images, None)
        return scores

    def apart(self, *batches: Tensor) -> Sequence[Tensor]:
        """The scores of batches that do not look at each other: in one pass, where the discriminator can."""
        if isinstance(self.discriminator, Discriminator):
            return Scores(self.discriminator)([(images, None) for images in batches])
        return [self.score(images) for images in batches]

    def _descend(self, trained: int, loss: Callable[[], Tensor]) -> None:
        optimizer = self.optimizers[trained]
        for index, network in enumerate((self.generator, self.discriminator)):
            network.requires_grad_(index == trained)
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    def gradients(self, kind: str) -> list[Tensor]:
        """Those of G and of D that one `kind` of step leaves, in a row, from the same numbers each time; nothing is learned."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            optimizer.param_groups[0]["lr"] = 0.0
        torch.manual_seed(1)
        getattr(self, kind)()
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = LR
        networks = (self.generator, self.discriminator)
        each = [[torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()] for network in networks]
        return [torch.cat([gradient.flatten() for gradient in found]) for found in each]
