"""One adversarial training: a generator against one or more discriminators. Pre-training, phase 1, and the base of phase 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facegan.methods.a.discriminators import Discriminators
from facegan.methods.a.losses import discriminator_loss, generator_loss
from facegan.methods.a.merge import MergedGenerator, pack_generator
from facegan.methods.regularizers import r1_penalty
from facegan.models.conv_gan import channels_last
from facegan.training import checkpoint
from facegan.training.augment import DIFFAUGMENT_NUMBERS, diffaugment
from facegan.training.config_a import MethodAConfig
from facegan.training.ema import Average
from facegan.training.optimizer import adam
from facegan.training.stage import Context, Stage

Reals = Callable[[int, int], tuple[Tensor, Tensor | None]]  # (step, global count) -> images, labels y or None
SAMPLES = 64


class AdversarialStage(Stage[MethodAConfig]):
    """One step: fakes once, discriminators on (reals, fakes), generator on the same fakes through the updated discriminators."""

    alphas: Sequence[float] = (1.0, 1.0, 0.0)  # of L(D): the plain LSGAN, whatever `--alpha` gives phase 3
    rated: Sequence[str] = ("D",)  # what the metrics call each discriminator

    def __init__(
        self,
        context: Context[MethodAConfig],
        steps: int,
        used: np.ndarray,
        generator: MergedGenerator,
        discriminators: Discriminators,
        reals: list[Reals],
        inherited_rate: float = 1.0,
    ) -> None:
        super().__init__(context, steps, used)
        config, accelerator = context.config, context.accelerator
        self.generator = channels_last(generator).to(context.device)
        self.discriminators = channels_last(discriminators).to(context.device)
        self.reals = reals
        betas = (config.beta1, config.beta2)
        optimizer_g = adam(self._groups(inherited_rate), config.lr, betas, context.device)
        optimizer_d = adam(self.discriminators.parameters(), config.lr, betas, context.device)
        self.average = Average(self.generator.generator, config.ema_images) if config.ema_images else None
        self.networks = {"G": self.generator, "D": self.discriminators}
        if self.average:
            self.networks["G_ema"] = self.average.network
        # G and D are wrapped apart; the average never is.
        self.wrapped_g, self.wrapped_d, self.optimizer_g, self.optimizer_d = accelerator.prepare(
            self.generator, self.discriminators, optimizer_g, optimizer_d
        )
        self.optimizers = {"G": self.optimizer_g, "D": self.optimizer_d}

    def _groups(self, inherited_rate: float) -> list[dict[str, Any]]:
        """New layers at the full rate, inherited ones at `inherited_rate` times it."""
        network = self.generator.generator
        extra = network.extra_parameters()
        new = {id(parameter) for parameter in extra}
        old = [parameter for parameter in network.parameters() if id(parameter) not in new]
        lr = self.context.config.lr
        return [{"params": old, "lr": lr * inherited_rate}] + ([{"params": extra, "lr": lr}] if extra else [])

    # --- one step
    def step(self, step: int) -> dict[str, Tensor]:
        config = self.context.config
        z, y = self.noise("z", step, config.batch), self.asked(step, config.batch)
        penalised = config.r1_gamma > 0 and step % config.r1_every == 0
        with self.arithmetic(full=penalised):
            fake = self.wrapped_g(z, y)
            terms = self._train_discriminators(step, fake.detach(), y, penalised)
            terms |= self._train_generator(step, fake, z, y)
        if self.average:
            self.average.update(config.batch, (step + 1) * config.batch)
        return terms

    def noise(self, stream: str, step: int, count: int) -> Tensor:
        return self.context.randomness.normal(f"{self.name}/{stream}", step, (count, *self.context.config.z_dims))

    def asked(self, step: int, count: int) -> Tensor | None:
        """The attribute vectors y [n, K] that the fakes are asked for: all attributes at once, where conditional."""
        if not self.context.config.conditional:
            return None
        share = count // self.context.accelerator.num_processes
        return torch.ones(share, len(self.context.groups.attributes), device=self.context.device)

    def seen(self, images: Tensor, stream: str, step: int) -> Tensor:
        """What a discriminator gets to see of `images`."""
        if self.context.config.augment == "none":
            return images
        numbers = self.context.randomness.uniform(
            f"{self.name}/{stream}", step, (self.context.config.batch, DIFFAUGMENT_NUMBERS)
        )
        return diffaugment(images, numbers)

    def _train_discriminators(self, step: int, fake: Tensor, y: Tensor | None, penalised: bool) -> dict[str, Tensor]:
        config, reals, labels = self.context.config, [], []
        for j, source in enumerate(self.reals):
            images, label = source(step, config.batch)
            # R1 is taken at the augmented reals, as leaves: augmentation needs no second derivative.
            reals.append(self.seen(images, f"augment-real{j}", step).detach().requires_grad_(penalised))
            labels.append(label)
        shown = self.seen(fake, "augment-fake", step)
        scores = self.wrapped_d(reals, [shown] * len(reals), labels, y)
        target = self.critic_target(fake)
        losses = [discriminator_loss(real.float(), fake.float(), target, self.alphas) for real, fake in scores]
        total = torch.stack(losses).mean()
        terms = {"D/loss": total.detach()}
        for name, (on_real, on_fake) in zip(self.rated, scores, strict=True):
            terms |= {f"{name}/real": on_real.mean(), f"{name}/fake": on_fake.mean()}
        if penalised:
            penalty = torch.stack([r1_penalty(s[0], x, config.r1_gamma) for s, x in zip(scores, reals, strict=True)]).mean()
            terms["D/r1"] = penalty.detach()
            total = total + penalty * config.r1_every
        self.optimizer_d.zero_grad(set_to_none=True)
        self.context.accelerator.backward(total)
        self.optimizer_d.step()
        return terms

    def _train_generator(self, step: int, fake: Tensor, z: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        # The unwrapped discriminators, frozen: this pass wants no gradient of theirs and no synchronisation.
        self.discriminators.requires_grad_(False)
        shown = self.seen(fake, "augment-generator", step)
        scores = torch.stack([member(shown, y).float() for member in self.discriminators.members])
        satisfied = self.satisfaction(step, fake)
        loss = generator_loss(scores.flatten(), satisfied, self.context.config.betas)
        terms = {"G/loss": loss.detach(), "G/score": scores.detach().mean()}
        if satisfied is not None:
            terms["G/critics"] = satisfied.detach().mean()
        extra = self.extra_loss(fake, z, y)
        if extra is not None:
            loss, terms["G/replay"] = loss + extra, extra.detach()
        self.optimizer_g.zero_grad(set_to_none=True)
        self.context.accelerator.backward(loss)
        self.optimizer_g.step()
        self.discriminators.requires_grad_(True)
        self.observe(step, fake.detach(), scores.detach())
        return terms

    # --- what phase 3 adds
    def critic_target(self, fake: Tensor) -> Tensor | None:
        """The frozen critics' score [N] that a3 pulls the discriminator towards."""
        return None

    def satisfaction(self, step: int, fake: Tensor) -> Tensor | None:
        """f(critics' scores) of the fakes [N], for the b2 term."""
        return None

    def extra_loss(self, fake: Tensor, z: Tensor, y: Tensor | None) -> Tensor | None:
        """Further terms of the generator's loss."""
        return None

    def observe(self, step: int, fake: Tensor, scores: Tensor) -> None:
        """After the generator's update: fakes [N, 3, R, R] and their scores [discriminators, N]."""

    # --- results
    def sampled(self) -> MergedGenerator:
        """The generator that users get: around the running average where there is one."""
        return self.generator.with_generator(self.average.network) if self.average else self.generator

    @torch.no_grad()
    def samples(self) -> Tensor:
        config = self.context.config
        # One fixed z for all stages, unsharded: the pictures of a run can be laid over each other.
        fixed = np.random.default_rng(config.seed).standard_normal((SAMPLES, *config.z_dims), dtype=np.float32)
        z = torch.from_numpy(fixed).to(self.context.device)
        y = torch.ones(SAMPLES, len(self.context.groups.attributes), device=z.device) if config.conditional else None
        return self.sampled()(z, y).float()

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = pack_generator(self.sampled())
        first = self.discriminators.get_submodule("members.0.network")  # for a later stage to inherit
        return tensors | checkpoint.pack("discriminator", first.state_dict()), facts
