"""Restoration's training: faces are degraded, the restorer mends them, the discriminator compares."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from facegan.checkpoints.restorers import STAGE
from facegan.methods.common.parts import frozen, pieces, update
from facegan.methods.common.regularizers import r1_penalty
from facegan.methods.common.stylegan2 import Scores, full_precision, grouped
from facegan.methods.common.stylegan2_losses import discriminator_loss, lazy
from facegan.methods.restore.config import RestoreConfig
from facegan.methods.restore.degradation import NUMBERS, degrade
from facegan.methods.restore.objective import losses
from facegan.methods.restore.start import may_have_seen_joint_faces, start
from facegan.models.conv_gan import channels_last
from facegan.models.stylegan2 import Discriminator
from facegan.pixels import to_float
from facegan.randomness import Randomness, Shard
from facegan.training.ema import Average
from facegan.training.optimizer import adam
from facegan.training.stage import Context, Stage

SHOWN = 12  # faces of the picture, each degraded, restored and as it was


class Pair(NamedTuple):
    faces: Tensor  # [n, 3, R, R]
    degraded: Tensor


class Batch(NamedTuple):
    """What one step is computed from: arrays as drawn (noise is drawn on the device), tensors there as used."""

    faces: Any  # uint8 [n, 3, R, R]
    u: Any  # [n, NUMBERS] in [0, 1), of the degradation
    noise: Any
    ema: Any  # how far the average moves
    by_l1: bool  # alone, without the discriminator
    penalised: bool  # by R1


class RestorerTraining(Stage[RestoreConfig]):
    """One step: the restorer; the discriminator, every `r1_every` steps with R1; the average. At first by L1 alone, without it."""

    steps_unsaved = 1000
    grows_by = "kimg"

    def __init__(self, context: Context[RestoreConfig]) -> None:
        self.name, self.title = STAGE, "restorer"
        config = context.config
        super().__init__(context, context.kimg_steps(config.kimg), context.split.train)
        self.degradation = config.degradation
        self.reals = context.reals(self.used, f"{STAGE}/reals")
        found = start(config)
        self.shape, self.may_have_seen_joint_faces = found.shape, may_have_seen_joint_faces(context, found)
        self.restorer, self.discriminator = found.restorer(), Discriminator(self.shape)
        if found.discriminator is not None:  # one that has grown has entries at smaller sizes too
            expected = self.discriminator.state_dict()
            self.discriminator.load_state_dict({name: value for name, value in found.discriminator.items() if name in expected})
        self.average = Average(self.restorer, 1000 * config.ema_kimg, config.ema_rampup)
        for network in (self.restorer, self.discriminator, self.average.network):
            channels_last(network).to(context.device)
        self._prepare()

    def _prepare(self) -> None:
        config = self.context.config
        betas = (config.beta1, config.beta2)
        scales = list(self.restorer.scales())
        decoder = [p for p in self.restorer.generator.parameters() if all(p is not scale for scale in scales)]
        encoder = [*self.restorer.encoder.parameters(), *self.restorer.bottleneck.parameters(), *scales]
        groups = [{"params": encoder, "lr": config.lr}, {"params": decoder, "lr": config.lr * config.decoder_lr}]
        rate, betas_d = lazy(config.lr * config.discriminator_lr, betas, config.r1_every if config.gamma else 0)
        adam_g = adam(groups, config.lr, betas, self.context.device)
        adam_d = adam(self.discriminator.parameters(), rate, betas_d, self.context.device)
        self.networks = {"restorer": self.restorer, "D": self.discriminator, "restorer_ema": self.average.network}
        self.scores = Scores(self.discriminator)
        self.wrapped_g, self.wrapped_d, self.optimizer_g, self.optimizer_d = self.context.accelerator.prepare(
            self.restorer, self.scores, adam_g, adam_d
        )
        self.optimizers = {"restorer": self.optimizer_g, "D": self.optimizer_d}

    # --- one step: its draw
    def draw(self, step: int) -> Batch:
        config, random = self.context.config, self.context.randomness
        return Batch(
            faces=self.reals(step, config.batch),
            u=random.uniform(f"{STAGE}/values", step, (config.batch, NUMBERS)),
            noise=random.noise(f"{STAGE}/noise", step, (config.batch, *self.degradation.noise_shape(config.resolution))),
            ema=self.average.weight(config.batch, (step + 1) * config.batch),
            by_l1=step * config.batch < 1000 * config.l1_kimg,
            penalised=config.gamma > 0 and step % config.r1_every == 0,
        )

    # --- and its computation
    def compute(self, batch: Batch) -> dict[str, Tensor]:
        pairs = self._pairs(batch)
        if batch.by_l1:
            terms = self._train_by_l1(pairs)
        else:
            terms, restored = self._train_restorer(pairs)
            terms |= self._train_discriminator(pairs, restored, batch.penalised)
        self.average.update(batch.ema)
        return terms

    def _pairs(self, batch: Batch) -> list[Pair]:
        faces = to_float(batch.faces)
        degraded = degrade(faces, self.degradation, batch.u, batch.noise)
        return [Pair(*part) for part in zip(*(pieces(x, self.context.config.accumulate) for x in (faces, degraded)), strict=True)]

    def _train_by_l1(self, pairs: list[Pair]) -> dict[str, Tensor]:
        weight, restorer = self.context.config.l1_weight, self.first_order(self.wrapped_g)

        def loss(pair: Pair) -> Tensor:
            return weight * l1_loss(restorer(pair.degraded), pair.faces)

        total = update(self.context.accelerator, self.wrapped_g, self.optimizer_g, loss, pairs)
        return {"G/loss": total, "G/l1": total / weight}

    def _train_restorer(self, pairs: list[Pair]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The terms, and the restored faces of each part, from which the discriminator learns."""
        config, made, found = self.context.config, [], []
        weights = (config.adversarial_weight, config.l1_weight, config.feature_weight)
        restorer = self.first_order(self.wrapped_g)

        def loss(pair: Pair) -> Tensor:
            restored = restorer(pair.degraded)
            made.append(restored.detach())
            scores, features = self._judged(restored)
            with torch.no_grad():
                _, wanted = self._judged(pair.faces) if config.feature_weight else (None, [])
            terms = losses(restored, pair.faces, scores, features, wanted)
            found.append(torch.stack(terms).detach())
            return torch.stack([weight * term for weight, term in zip(weights, terms, strict=True)]).sum()

        with frozen(self.discriminator):  # the unwrapped one: this pass wants no gradient of it and no synchronisation
            total = update(self.context.accelerator, self.wrapped_g, self.optimizer_g, loss, pairs)
        adversarial, l1, features = torch.stack(found).mean(0)
        return {"G/loss": total, "G/adversarial": adversarial, "G/l1": l1, "G/features": features}, made

    def _judged(self, faces: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The discriminator's scores, and its features where they are wanted, both in the order of its groups."""
        features: list[Tensor] = []
        kept = features if self.context.config.feature_weight else None
        return self.discriminator(grouped(faces, self.shape.group), kept=kept), features

    def _train_discriminator(self, pairs: list[Pair], restored: list[Tensor], penalised: bool) -> dict[str, Tensor]:
        config, accelerator = self.context.config, self.context.accelerator
        judge = self.first_order(self.wrapped_d)

        def loss(part: tuple[Pair, Tensor]) -> Tensor:
            pair, restored = part
            return discriminator_loss(*judge([(pair.faces, None), (restored, None)]))

        def steepness(pair: Pair) -> Tensor:
            faces = pair.faces.detach().requires_grad_()
            with full_precision(self.discriminator):
                (scores,) = self.wrapped_d([(faces, None)])
            return config.r1_every * r1_penalty(scores, faces, config.gamma) + 0 * scores.sum()

        terms = {"D/loss": update(accelerator, self.wrapped_d, self.optimizer_d, loss, list(zip(pairs, restored, strict=True)))}
        if penalised:
            terms["D/r1"] = update(accelerator, self.wrapped_d, self.optimizer_d, steepness, pairs) / config.r1_every
        return terms

    # --- results
    @torch.no_grad()
    def samples(self) -> Tensor:
        """Rows of degraded, restored and original faces."""
        chosen = self.used[np.linspace(0, len(self.used) - 1, SHOWN).astype(int)]
        faces = to_float(self.context.data.images[chosen], self.context.device)
        alone = Randomness(self.context.config.seed, Shard(), self.context.device)
        u = torch.from_numpy(alone.uniform(f"{STAGE}/shown", 0, (SHOWN, NUMBERS))).to(self.context.device)
        noise = alone.noise(f"{STAGE}/shown", 0, (SHOWN, *self.degradation.noise_shape(self.shape.resolution)))
        degraded = degrade(faces, self.degradation, u, noise)
        restored = torch.cat([self.average.network(part) for part in degraded.split(4)])
        return torch.stack([degraded, restored, faces], dim=1).flatten(0, 1).cpu()

    def _about(self) -> dict[str, Any]:
        """What `open_restorer` needs to know."""
        return {"network": self.shape.to_json(), "may_have_seen_joint_faces": self.may_have_seen_joint_faces}

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, self._about()

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.weights(), {"extra": self._about()}
