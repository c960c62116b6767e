"""One adversarial training: a generator against one or more discriminators. Pre-training, phase 1, and the base of phase 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints import checkpoint
from facegan.checkpoints.merged import pack_generator
from facegan.methods.a.config import MethodAConfig
from facegan.methods.a.discriminators import Discriminators
from facegan.methods.a.losses import discriminator_loss, generator_loss
from facegan.methods.common.parts import frozen
from facegan.methods.common.regularizers import r1_penalty
from facegan.models.conv_gan import channels_last
from facegan.models.merged_generator import MergedGenerator
from facegan.pixels import to_float
from facegan.training.augment import DIFFAUGMENT_NUMBERS, diffaugment
from facegan.training.ema import Average
from facegan.training.optimizer import adam
from facegan.training.stage import Context, Stage

SAMPLES = 64


class Reals(NamedTuple):
    """What one discriminator takes for real: uint8 images [n, 3, R, R] and their labels y [n, K], or None.

    Arrays where they are drawn, tensors where they are used. Several sets of images are to be put together.
    """

    images: Sequence[Any]
    labels: Any = None


Source = Callable[[int, int], Reals]  # (step, global count) -> this process's share


class Batch(NamedTuple):
    """What one step is computed from: arrays as drawn, tensors on the device as used."""

    z: Any  # [n, *z_shape]
    y: Any  # what the fakes are asked for: [n, K], or None
    reals: list[Reals]  # of each discriminator
    numbers: dict[str, Any]  # uniform in [0, 1), by stream: one row [n, ...] an image
    penalised: bool  # by R1
    ema: Any = None  # how far the running average moves, where there is one
    strength: Any = None  # of the merge, while there is one
    chosen: Any = None  # which fakes must match H (int64), where some must
    own: Any = None  # numbers by which own samples are mixed in, where they are


class AdversarialStage(Stage[MethodAConfig]):
    """One step: fakes once, discriminators on (reals, fakes), generator on the same fakes through the updated discriminators."""

    alphas: Sequence[float] = (1.0, 1.0, 0.0)  # of L(D): the plain LSGAN, whatever `--alpha` gives phase 3
    discriminator_names: Sequence[str] = ("D",)  # what the metrics call each discriminator

    def __init__(
        self,
        context: Context[MethodAConfig],
        steps: int,
        used: np.ndarray,
        generator: MergedGenerator,
        discriminators: Discriminators,
        reals: list[Source],
        inherited_rate: float = 1.0,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(context, steps, used)
        self.origin = dict(origin or {})  # what its metadata say of where its networks come from
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

    # --- one step: its draw
    def draw(self, step: int) -> Batch:
        config, random = self.context.config, self.context.randomness
        numbers = {stream: random.uniform(f"{self.name}/{stream}", step, (config.batch, width)) for stream, width in self.streams().items()}
        return Batch(
            z=self.noise("z", step, config.batch),
            y=self.target_labels(step, config.batch),
            reals=[source(step, config.batch) for source in self.reals],
            numbers=numbers,
            penalised=config.r1_gamma > 0 and step % config.r1_every == 0,
            ema=self.average.weight(config.batch, (step + 1) * config.batch) if self.average else None,
        )

    def noise(self, stream: str, step: int, count: int) -> np.ndarray:
        return self.context.randomness.normal(f"{self.name}/{stream}", step, (count, *self.context.config.z_shape))

    def target_labels(self, step: int, count: int) -> np.ndarray | None:
        """The attribute vectors y [n, K] that the fakes are asked for: all attributes at once, where conditional."""
        if not self.context.config.conditional:
            return None
        share = count // self.context.accelerator.num_processes
        return np.ones((share, len(self.context.groups.attributes)), dtype=np.float32)

    def streams(self) -> dict[str, int]:
        """Names of random numbers that a step needs, and how many an image."""
        if self.context.config.augment == "none":
            return {}
        shown = [*(f"augment-real{j}" for j in range(len(self.reals))), "augment-fake", "augment-generator"]
        return dict.fromkeys(shown, DIFFAUGMENT_NUMBERS)

    # --- and its computation
    def compute(self, batch: Batch) -> dict[str, Tensor]:
        with self.arithmetic(full=batch.penalised):
            fake = self.first_order(self.wrapped_g)(batch.z, batch.y, batch.strength)
            terms = self._train_discriminators(batch, fake.detach())
            terms |= self._train_generator(batch, fake)
        if self.average:
            self.average.update(batch.ema)
        return terms

    def augment(self, images: Tensor, batch: Batch, stream: str) -> Tensor:
        """What a discriminator gets to see of `images`."""
        numbers = batch.numbers.get(stream)
        return images if numbers is None else diffaugment(images, numbers)

    def real_images(self, reals: Reals, batch: Batch) -> Tensor:
        """The images of a discriminator's reals: float32 [n, 3, R, R] in [-1, 1]."""
        (images,) = reals.images
        return to_float(images)

    def _train_discriminators(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        config, penalised = self.context.config, batch.penalised
        # R1 is taken at the augmented reals, as leaves: augmentation needs no second derivative.
        reals = [
            self.augment(self.real_images(drawn, batch), batch, f"augment-real{j}").detach().requires_grad_(penalised)
            for j, drawn in enumerate(batch.reals)
        ]
        shown = self.augment(fake, batch, "augment-fake")
        judge = self.wrapped_d if penalised else self.first_order(self.wrapped_d)
        scores = judge(reals, [shown] * len(reals), [drawn.labels for drawn in batch.reals], batch.y)
        target = self.critic_target(fake)
        losses = [discriminator_loss(real.float(), fake.float(), target, self.alphas) for real, fake in scores]
        total = torch.stack(losses).mean()
        terms = {"D/loss": total}
        for name, (on_real, on_fake) in zip(self.discriminator_names, scores, strict=True):
            terms |= {f"{name}/real": on_real.mean(), f"{name}/fake": on_fake.mean()}
        if penalised:
            penalty = torch.stack([r1_penalty(s[0], x, config.r1_gamma) for s, x in zip(scores, reals, strict=True)]).mean()
            terms["D/r1"] = penalty
            total = total + penalty * config.r1_every
        self.optimizer_d.zero_grad(set_to_none=True)
        self.context.accelerator.backward(total)
        self.optimizer_d.step()
        return {name: value.detach() for name, value in terms.items()}

    def _train_generator(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        # The unwrapped discriminators, frozen: this pass wants no gradient of theirs and no synchronisation.
        with frozen(self.discriminators):
            shown = self.augment(fake, batch, "augment-generator")
            scores = torch.stack([member(shown, batch.y).float() for member in self.discriminators.members])
            satisfied = self.critic_scores(batch, fake)
            loss = generator_loss(scores.flatten(), satisfied, self.context.config.g_loss_weights)
            terms = {"G/loss": loss, "G/score": scores.mean()}
            if satisfied is not None:
                terms["G/critics"] = satisfied.mean()
            extra = self.extra_loss(batch, fake)
            if extra is not None:
                loss, terms["G/replay"] = loss + extra, extra
            self.optimizer_g.zero_grad(set_to_none=True)
            self.context.accelerator.backward(loss)
            self.optimizer_g.step()
        with torch.no_grad():
            self.on_generator_step(fake.detach(), scores.detach())
        return {name: value.detach() for name, value in terms.items()}

    # --- what a subclass may add
    def critic_target(self, fake: Tensor) -> Tensor | None:
        """Scores [N] that the discriminators should stay close to, for the a3 term."""
        return None

    def critic_scores(self, batch: Batch, fake: Tensor) -> Tensor | None:
        """f(critics' scores) of the fakes [N], for the b2 term."""
        return None

    def extra_loss(self, batch: Batch, fake: Tensor) -> Tensor | None:
        """Further terms of the generator's loss."""
        return None

    def on_generator_step(self, fake: Tensor, scores: Tensor) -> None:
        """After the generator's update: fakes [N, 3, R, R] and their scores [discriminators, N]."""

    # --- results
    def sampled(self) -> MergedGenerator:
        """The generator that users get: around the running average where there is one."""
        return self.generator.with_generator(self.average.network) if self.average else self.generator

    @torch.no_grad()
    def samples(self) -> Tensor:
        config = self.context.config
        # One fixed z for all stages, unsharded: the pictures of a run can be laid over each other.
        fixed = np.random.default_rng(config.seed).standard_normal((SAMPLES, *config.z_shape), dtype=np.float32)
        z = torch.from_numpy(fixed).to(self.context.device)
        y = torch.ones(SAMPLES, len(self.context.groups.attributes), device=z.device) if config.conditional else None
        return self.sampled()(z, y).float()

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, metadata = pack_generator(self.sampled())
        first = self.discriminators.get_submodule("members.0.network")  # for a later stage to inherit
        return tensors | checkpoint.pack("discriminator", first.state_dict()), {**metadata, **self.origin}
