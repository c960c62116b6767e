"""Phase 3: from a generator of attribute 1 to one of all attributes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints import checkpoint
from facegan.checkpoints.critics import load_critic
from facegan.checkpoints.merged import unpack_generator
from facegan.methods.a.adversarial import AdversarialStage, Batch, Reals, Source
from facegan.methods.a.config import MethodAConfig
from facegan.methods.a.discriminators import Discriminators, RegionalDiscriminator
from facegan.methods.a.losses import f
from facegan.methods.a.phase1 import new_discriminator, new_generator, sharpness_bounds
from facegan.methods.a.selfaugment import OwnSamples
from facegan.methods.a.start import origin_of
from facegan.methods.common import critics as phase2
from facegan.models.conv_gan import Discriminator, Generator, grow
from facegan.models.merged_generator import MergedGenerator
from facegan.ops import adain
from facegan.pixels import to_float
from facegan.training import regions
from facegan.training.augment import VIEW_NUMBERS, view
from facegan.training.stage import Context


class Phase3(AdversarialStage):
    """The generator of stage `source` learns attribute k (0-based) beside attributes 0..k-1.

    With `--discriminators regional|both` it learns all K at once: one adversary each, under that attribute's mask.
    """

    grows_by = "epochs"

    def __init__(self, context: Context[MethodAConfig], name: str, k: int, source: str, critics: list[str]) -> None:
        config = context.config
        self.name, self.k = name, k
        self.title = f"phase 3 ({' + '.join(a.name for a in context.groups.attributes[: k + 1])})"
        self.critics = [load_critic(context.folder, critic).to(context.device) for critic in critics]
        self.alphas = config.d_loss_weights
        self.masks, shown = self._masks(context)
        # What each region gives to a composite.
        self.shares = None if self.masks is None else (self.masks / self.masks.sum(0, keepdim=True).clamp(min=1e-6)).to(context.device)
        self.total = context.steps(config.epochs)
        self.switch_step = context.steps(config.switch) if config.switch else self.total
        members, reals, used = self._adversaries(context)
        if len(members) > 1:
            names = [attribute.name for attribute in context.groups.attributes] + ["full"]
            self.discriminator_names = [f"D/{name}" for name in names[: len(members)]]
        if config.inherit_discriminator:
            weights = checkpoint.unpack("discriminator", context.folder.load_stage(source)[0])
            for member in members:
                member.inherit(weights)
        merged = self._generator(context, source)
        rate = config.inherit_lr if config.inherit_generator else 1.0
        inherits = config.inherit_generator or config.inherit_discriminator
        used, origin = np.union1d(used, shown), origin_of(context.folder.metadata(source)) if inherits else {}
        super().__init__(context, self.total, used, merged, Discriminators(members), reals, rate, origin)
        bounds = sharpness_bounds(context, context.attribute_set(k))
        self.own = OwnSamples(context, bounds) if config.self_augment else None

    # --- construction
    def _masks(self, context: Context[MethodAConfig]) -> tuple[Tensor | None, np.ndarray]:
        """[K, 1, R, R], where anything of this run is regional, and the rows of the images that they are learned from."""
        config, attributes = context.config, context.groups.attributes
        none = np.zeros(0, np.int64)
        if not config.regional:
            return None, none
        if config.masks == "halves":
            return regions.halves(attributes, config.resolution), none
        if config.masks == "regression":
            rows = regions.design_matrix(context.data, attributes, context.split.train)[1]
            return regions.regression(context.data, attributes, rows), rows
        critics = [load_critic(context.folder, phase2.stage_name(context, j)) for j in range(len(attributes))]
        shown = [context.attribute_set(j)[:256] for j in range(len(attributes))]
        images = [to_float(np.ascontiguousarray(context.data.images[index])) for index in shown]
        return regions.saliency(critics, images), np.concatenate(shown)

    def _generator(self, context: Context[MethodAConfig], source: str) -> MergedGenerator:
        config = context.config
        inherited = unpack_generator(*context.folder.load_stage(source)) if config.inherit_generator else new_generator(context)
        network = inherited.generator
        if config.grow and not network.config.grown:
            network = grow(network)
        network.train().requires_grad_(True)
        merges = config.merge != "none" and self.switch_step < self.total
        snapshot = Generator(network.config) if merges else None
        mask = self.masks[self.k : self.k + 1] if self.masks is not None and config.merge == "regional" else None
        return MergedGenerator(network, snapshot, config.merge if merges else "none", mask)

    def _adversaries(self, context: Context[MethodAConfig]) -> tuple[list[RegionalDiscriminator], list[Source], np.ndarray]:
        """Discriminators, what each takes for real, and the rows used."""
        config, count = context.config, len(context.groups.attributes)
        if config.discriminators == "full":
            index = [context.attribute_set(j) for j in range(self.k + 1)]
            batches = [context.reals(rows, f"{self.name}/reals{j}") for j, rows in enumerate(index)]

            def switching(step: int, size: int) -> list[np.ndarray]:
                """X_k up to the switch, then X_0 .. X_{k-1} in turn."""
                return [batches[self.k if step < self.switch_step else (step - self.switch_step) % self.k](step, size)]

            return [new_discriminator(context)], [self._labelled(switching)], np.concatenate(index)
        assert self.masks is not None
        index = [context.attribute_set(j) for j in range(count)]
        sources = [context.reals(rows, f"{self.name}/reals{j}") for j, rows in enumerate(index)]
        members = [new_discriminator(context, self.masks[j : j + 1]) for j in range(count)]
        reals = [self._labelled(lambda step, size, batches=batches: [batches(step, size)]) for batches in sources]
        if config.discriminators == "both":
            parts = [context.reals(rows, f"{self.name}/parts{j}") for j, rows in enumerate(index)]
            members.append(new_discriminator(context))
            reals.append(self._labelled(lambda step, size: [part(step, size) for part in parts]))
        return members, reals, np.concatenate(index)

    def _labelled(self, batches: Callable[..., list[np.ndarray]]) -> Source:
        """Reals with what the fakes are asked for as their label (conditional networks)."""
        return lambda step, size: Reals(batches(step, size), self.target_labels(step, size))

    def real_images(self, reals: Reals, batch: Batch) -> Tensor:
        """Several sets are put together into one face, and own samples are mixed in."""
        faces = [to_float(images) for images in reals.images]
        images = faces[0] if len(faces) == 1 else self._composites(faces)
        return images if self.own is None else self.own.mixed(images, batch.own)

    def _composites(self, faces: list[Tensor]) -> Tensor:
        """Faces put together from the regions of different people, in the first one's colours: coherent to the eye of a
        full-image discriminator, yet without the joint statistics."""
        assert self.shares is not None
        matched = [faces[0], *(adain(face, faces[0]).clamp(-1, 1) for face in faces[1:])]
        return torch.stack([mask * face for mask, face in zip(self.shares, matched, strict=True)]).sum(0)

    # --- training
    def draw(self, step: int) -> Batch:
        self._advance(step)
        merging = self.generator.merging
        return (
            super()
            .draw(step)
            ._replace(
                strength=np.array(self.generator.strength, dtype=np.float32) if merging else None,
                chosen=self._chosen() if merging and self.generator.mode == "regional" else None,
                own=self.own.draw(step, self.context.config.batch) if self.own else None,
            )
        )

    def streams(self) -> dict[str, int]:
        config = self.context.config
        views = range(config.critic_views if config.critic_views > 1 and self.critics and config.g_loss_weights[1] else 0)
        return super().streams() | {f"view{v}": VIEW_NUMBERS for v in views}

    def _chosen(self) -> np.ndarray | None:
        """Places in this process's share of the fakes that must match H; None where there are none in the whole batch."""
        # Spread evenly over the global batch, so that the same samples are chosen on any number of processes.
        places = np.floor(np.arange(self.context.config.batch + 1) * self.context.config.replay)
        chosen = places[1:] > places[:-1]
        return np.flatnonzero(self.context.randomness.shard.of(chosen)) if chosen.any() else None

    def _advance(self, step: int) -> None:
        """The state of the merge at a step: a function of the step alone, but for the snapshot's weights."""
        if self.generator.snapshot is None or step < self.switch_step:
            return
        if step == self.switch_step:
            self.generator.snapshot.load_state_dict(self.generator.generator.state_dict())
        ramp = max(1.0, self.context.config.merge_ramp * (self.steps - self.switch_step))
        self.generator.strength = self.context.config.merge_alpha * min(1.0, (step + 1 - self.switch_step) / ramp)

    def critic_target(self, fake: Tensor) -> Tensor | None:
        if not self.critics or not self.context.config.d_loss_weights[2]:
            return None
        with torch.no_grad():
            return torch.stack([critic(fake).float() for critic in self.critics]).amin(0)

    def critic_scores(self, batch: Batch, fake: Tensor) -> Tensor | None:
        config = self.context.config
        if not self.critics or not config.g_loss_weights[1]:
            return None
        return torch.cat([f(self._score(critic, batch, fake), config.critic_score_fn) for critic in self.critics])

    def _score(self, critic: Discriminator, batch: Batch, fake: Tensor) -> Tensor:
        """A critic's score [N], averaged over differentiable views where asked for."""
        views = self.context.config.critic_views
        if views == 1:
            return critic(fake).float()
        return torch.stack([critic(view(fake, batch.numbers[f"view{v}"])).float() for v in range(views)]).mean(0)

    def extra_loss(self, batch: Batch, fake: Tensor) -> Tensor | None:
        """Replay: some fakes must match H inside the mask, so that attribute k is not forgotten where H shows it."""
        generator, mine = self.generator, batch.chosen
        if mine is None or generator.snapshot is None or generator.mask is None:
            return None
        with torch.no_grad():
            kept = generator.snapshot(batch.z[mine], None if batch.y is None else batch.y[mine])
        difference = ((fake[mine] - kept).abs() * generator.mask).mean((1, 2, 3))
        everywhere = math.floor(self.context.config.batch * self.context.config.replay)  # chosen, on all processes
        return difference.sum() * self.context.accelerator.num_processes / everywhere

    def on_generator_step(self, fake: Tensor, scores: Tensor) -> None:
        if self.own:
            judged = [scores.amin(0), *(critic(fake).float() for critic in self.critics)]
            self.own.offer(fake, torch.stack(judged).amin(0))

    # --- state
    def changing(self) -> list[Tensor]:
        return super().changing() + ([self.own.ring, self.own.offered] if self.own else [])

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return (self.own.state() if self.own else {}), {"strength": self.generator.strength}

    def load_extra_state(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        self.generator.strength = metadata["strength"]
        if self.own:
            self.own.load_state(tensors)

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, metadata = super().export()
        return (tensors if self.masks is None else tensors | {"masks": self.masks}), metadata
