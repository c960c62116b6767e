"""Phase 3: from a generator of attribute 1 to one of all attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from facegan.methods.a import phase2, regions
from facegan.methods.a.adversarial import AdversarialStage, Reals
from facegan.methods.a.discriminators import Discriminators, RegionalDiscriminator
from facegan.methods.a.losses import f
from facegan.methods.a.merge import MergedGenerator, unpack_generator
from facegan.methods.a.phase1 import new_discriminator, new_generator, sharpness_bounds
from facegan.methods.a.selfaugment import OwnSamples
from facegan.models.conv_gan import Discriminator, Generator, grow
from facegan.ops import adain
from facegan.training import checkpoint
from facegan.training.augment import VIEW_NUMBERS, view
from facegan.training.batches import to_float
from facegan.training.config_a import MethodAConfig
from facegan.training.stage import Context


class Phase3(AdversarialStage):
    """The generator of stage `source` learns attribute k (0-based) beside attributes 0..k-1.

    With `--discriminators regional|both` it learns all K at once: one adversary each, under that attribute's mask.
    """

    def __init__(self, context: Context[MethodAConfig], name: str, k: int, source: str, critics: list[str]) -> None:
        config = context.config
        self.name, self.k = name, k
        self.title = f"phase 3 ({' + '.join(a.name for a in context.groups.attributes[: k + 1])})"
        self.critics = [phase2.load_critic(context.folder, critic).to(context.device) for critic in critics]
        self.alphas = config.alphas
        self.masks, shown = self._masks(context)
        self.total = context.steps(config.epochs)
        self.switch_step = context.steps(config.switch) if config.switch else self.total
        members, reals, used = self._adversaries(context)
        if len(members) > 1:
            names = [attribute.name for attribute in context.groups.attributes] + ["full"]
            self.rated = [f"D/{name}" for name in names[: len(members)]]
        if config.inherit_discriminator:
            weights = checkpoint.unpack("discriminator", context.folder.load_stage(source)[0])
            for member in members:
                member.inherit(weights)
        merged = self._generator(context, source)
        rate = config.inherit_lr if config.inherit_generator else 1.0
        super().__init__(context, self.total, np.union1d(used, shown), merged, Discriminators(members), reals, rate)
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
        critics = [phase2.load_critic(context.folder, phase2.stage_name(context, j)) for j in range(len(attributes))]
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

    def _adversaries(self, context: Context[MethodAConfig]) -> tuple[list[RegionalDiscriminator], list[Reals], np.ndarray]:
        """Discriminators, what each takes for real, and the rows used."""
        config, count = context.config, len(context.groups.attributes)
        if config.discriminators == "full":
            index = [context.attribute_set(j) for j in range(self.k + 1)]
            batches = [context.reals(rows, f"{self.name}/reals{j}") for j, rows in enumerate(index)]

            def switching(step: int, size: int) -> Tensor:
                """X_k up to the switch, then X_0 .. X_{k-1} in turn."""
                return batches[self.k if step < self.switch_step else (step - self.switch_step) % self.k](step, size)

            return [new_discriminator(context)], [self._labelled(switching)], np.concatenate(index)
        assert self.masks is not None
        index = [context.attribute_set(j) for j in range(count)]
        sources = [context.reals(rows, f"{self.name}/reals{j}") for j, rows in enumerate(index)]
        members = [new_discriminator(context, self.masks[j : j + 1]) for j in range(count)]
        reals = [self._labelled(batches) for batches in sources]
        if config.discriminators == "both":
            parts = [context.reals(rows, f"{self.name}/parts{j}") for j, rows in enumerate(index)]
            members.append(new_discriminator(context))
            reals.append(self._labelled(lambda step, size: self._composites([part(step, size) for part in parts])))
        return members, reals, np.concatenate(index)

    def _labelled(self, batches: Any) -> Reals:
        """Reals with what the fakes are asked for as their label (conditional networks), and own samples mixed in."""

        def reals(step: int, size: int) -> tuple[Tensor, Tensor | None]:
            images = batches(step, size)
            if self.own:
                images = self.own.mixed(images, step, size)
            return images, self.asked(step, size)

        return reals

    def _composites(self, faces: list[Tensor]) -> Tensor:
        """Faces put together from the regions of different people, in the first one's colours: coherent to the eye of a
        full-image discriminator, yet without the joint statistics."""
        assert self.masks is not None
        masks = (self.masks / self.masks.sum(0, keepdim=True).clamp(min=1e-6)).to(faces[0].device)
        matched = [faces[0], *(adain(face, faces[0]).clamp(-1, 1) for face in faces[1:])]
        return torch.stack([mask * face for mask, face in zip(masks, matched, strict=True)]).sum(0)

    # --- training
    def step(self, step: int) -> dict[str, Tensor]:
        self._advance(step)
        return super().step(step)

    def _advance(self, step: int) -> None:
        """The state of the merge at a step: a function of the step alone, but for the snapshot's weights."""
        if self.generator.snapshot is None or step < self.switch_step:
            return
        if step == self.switch_step:
            self.generator.snapshot.load_state_dict(self.generator.generator.state_dict())
        ramp = max(1.0, self.context.config.merge_ramp * (self.steps - self.switch_step))
        self.generator.strength = self.context.config.merge_alpha * min(1.0, (step + 1 - self.switch_step) / ramp)

    def critic_target(self, fake: Tensor) -> Tensor | None:
        if not self.critics or not self.context.config.alphas[2]:
            return None
        with torch.no_grad():
            return torch.stack([critic(fake).float() for critic in self.critics]).amin(0)

    def satisfaction(self, step: int, fake: Tensor) -> Tensor | None:
        config = self.context.config
        if not self.critics or not config.betas[1]:
            return None
        return torch.cat([f(self._score(critic, step, fake), config.f) for critic in self.critics])

    def _score(self, critic: Discriminator, step: int, fake: Tensor) -> Tensor:
        """A critic's score [N], averaged over differentiable views where asked for."""
        views = self.context.config.critic_views
        if views == 1:
            return critic(fake).float()
        shape = (self.context.config.batch, VIEW_NUMBERS)
        numbers = [self.context.randomness.uniform(f"{self.name}/view{v}", step, shape) for v in range(views)]
        return torch.stack([critic(view(fake, u)).float() for u in numbers]).mean(0)

    def extra_loss(self, fake: Tensor, z: Tensor, y: Tensor | None) -> Tensor | None:
        """Replay: some fakes must match H inside the mask, so that attribute k is not forgotten where H shows it."""
        generator, config = self.generator, self.context.config
        if generator.mode != "regional" or not generator.merging:
            return None
        # Spread evenly over the global batch, so that the same samples are chosen on any number of processes.
        places = np.floor(np.arange(config.batch + 1) * config.replay)
        chosen = places[1:] > places[:-1]
        mine = torch.from_numpy(self.context.randomness.shard.of(chosen)).to(z.device)
        if not chosen.any() or generator.snapshot is None or generator.mask is None:
            return None
        with torch.no_grad():
            kept = generator.snapshot(z[mine], None if y is None else y[mine])
        difference = ((fake[mine] - kept).abs() * generator.mask).mean((1, 2, 3))
        return difference.sum() * self.context.accelerator.num_processes / int(chosen.sum())

    def observe(self, step: int, fake: Tensor, scores: Tensor) -> None:
        if self.own:
            judged = [scores.amin(0), *(critic(fake).float() for critic in self.critics)]
            self.own.offer(fake, torch.stack(judged).amin(0))

    # --- state
    def extra(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return (self.own.state() if self.own else {}), {"strength": self.generator.strength}

    def load_extra(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.generator.strength = facts["strength"]
        if self.own:
            self.own.load_state(tensors)

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = super().export()
        return (tensors if self.masks is None else tensors | {"masks": self.masks}), facts
