"""Phase 1: an ordinary LSGAN on X_1 that also keeps its own failures, for phase 2's critics to learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from facegan.errors import FaceganError
from facegan.methods.a.adversarial import AdversarialStage, Reals, Source
from facegan.methods.a.config import MethodAConfig
from facegan.methods.a.discriminators import Discriminators, RegionalDiscriminator
from facegan.methods.a.start import Begun, begun
from facegan.models.conv_gan import Generator, GeneratorConfig
from facegan.models.merged_generator import MergedGenerator
from facegan.pixels import to_float, to_uint8
from facegan.randomness import generator
from facegan.training.augment import sharpness
from facegan.training.batches import Fetcher, flipped
from facegan.training.stage import Context

HARVEST_BATCH, HARVEST_CAPACITY = 64, 2048
UNTRAINED = 0.1  # share of the phase from which every sample is kept


def new_generator(context: Context[MethodAConfig]) -> MergedGenerator:
    config = context.config
    asked = len(context.groups.attributes) if config.conditional else 0
    shape = GeneratorConfig(config.resolution, config.z_shape, config.width, asked, modulated=config.modulate)
    return MergedGenerator(Generator(shape))


def new_discriminator(context: Context[MethodAConfig], mask: Tensor | None = None) -> RegionalDiscriminator:
    config = context.config
    asked = len(context.groups.attributes) if config.conditional else 0
    return RegionalDiscriminator(mask, config.resolution, config.width, asked, config.minibatch_deviation)


def first_networks(context: Context[MethodAConfig], start: Begun) -> tuple[MergedGenerator, RegionalDiscriminator]:
    """New ones, or those that a stage goes on with: both, as a new discriminator stayed at 0.5 (docs/results.md)."""
    merged, discriminator = new_generator(context), new_discriminator(context)
    if start.networks is not None:
        merged, weights = start.networks
        discriminator.inherit(weights)
    merged.requires_grad_(True)
    return merged, discriminator


class Phase1(AdversarialStage):
    """G1 against D1 on X_1; with `--conditional`, on all single attributes and none, each with its y."""

    def __init__(self, context: Context[MethodAConfig], pretrained: str | None) -> None:
        self.name, self.title = "phase1", f"phase 1 ({context.groups.attributes[0].name})"
        start = begun(context, pretrained)
        merged, discriminator = first_networks(context, start)
        if context.config.conditional:
            sets = labelled_sets(context)
            used, reals = np.concatenate(sets), conditional_reals(context, sets)
            self.kinds = len(sets)
        else:
            used = context.attribute_set(0)
            reals = plain_reals(context, used, self.name)
        steps, bounds = context.steps(context.config.phase1_epochs), sharpness_bounds(context, used)
        used = np.union1d(used, start.used)
        super().__init__(context, steps, used, merged, Discriminators([discriminator]), [reals], origin=start.origin)
        size = context.config.resolution
        self.harvest = torch.zeros(0, 3, size, size, dtype=torch.uint8)
        self.harvest_steps = max(1, context.steps(context.config.harvest_every))
        self.bounds = bounds

    def target_labels(self, step: int, count: int) -> np.ndarray | None:
        if not self.context.config.conditional:
            return None
        return conditional_labels(self.context, f"{self.name}/asked", step, count, self.kinds)

    @torch.no_grad()
    def after_step(self, step: int) -> bool:
        if self.context.config.blurry_negatives and step % self.harvest_steps == 0:
            self._harvest(step)
        return False

    def _harvest(self, step: int) -> None:
        """Keep samples softer than the reals' 10th or sharper than their 99th percentile, and all of the untrained ones."""
        shape = (HARVEST_BATCH, *self.context.config.z_shape)
        # Unsharded: every process harvests the same images and need not share them.
        z = generator(self.context.config.seed, f"{self.name}/harvest", step).standard_normal(shape, dtype=np.float32)
        y = torch.zeros(HARVEST_BATCH, len(self.context.groups.attributes), device=self.context.device)
        images = self.generator(torch.from_numpy(z).to(self.context.device), y).float()
        measured = sharpness(images)
        kept = (measured < self.bounds[0]) | (measured > self.bounds[1]) | (step <= UNTRAINED * self.steps)
        harvest = torch.cat([self.harvest, to_uint8(images[kept]).cpu().contiguous()])
        if len(harvest) > HARVEST_CAPACITY:  # thinned evenly, so that every part of the phase stays represented
            harvest = harvest[::2]
        self.harvest = harvest

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"harvest": self.harvest}, {}

    def load_extra_state(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        harvest = tensors["harvest"]
        if harvest.dtype != self.harvest.dtype or harvest.shape[1:] != self.harvest.shape[1:]:
            sides = ", ".join(map(str, self.harvest.shape[1:]))
            raise FaceganError(f"harvest is {harvest.dtype} {list(harvest.shape)}; expected uint8 [n, {sides}]")
        self.harvest = harvest

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, metadata = super().export()
        return tensors | {"harvest": self.harvest}, metadata


class Pretraining(AdversarialStage):
    """The same LSGAN on every face that does not carry the attributes together: sharpness for small X_1."""

    def __init__(self, context: Context[MethodAConfig]) -> None:
        self.name, self.title = "pretrain", "pre-training (all non-joint faces)"
        used = context.split.train
        reals = plain_reals(context, used, self.name)
        steps = context.steps(context.config.pretrain_epochs)
        start = begun(context, None)
        merged, discriminator = first_networks(context, start)
        used = np.union1d(used, start.used)
        super().__init__(context, steps, used, merged, Discriminators([discriminator]), [reals], origin=start.origin)

    def target_labels(self, step: int, count: int) -> np.ndarray | None:
        labels = super().target_labels(step, count)
        return None if labels is None else np.zeros_like(labels)


def plain_reals(context: Context[MethodAConfig], index: np.ndarray, stream: str) -> Source:
    """Reals of one set; where the networks are conditional they carry the label that the fakes are asked for."""
    batches, conditional = context.reals(index, f"{stream}/reals"), context.config.conditional

    def reals(step: int, count: int) -> Reals:
        images = batches(step, count)
        asked = 0.0 if stream == "pretrain" else 1.0
        label = np.full((len(images), len(context.groups.attributes)), asked, dtype=np.float32)
        return Reals([images], label if conditional else None)

    return reals


def labelled_sets(context: Context[MethodAConfig]) -> list[np.ndarray]:
    """X_1 .. X_K and the faces with none of the attributes (if any): `conditional_labels` names them (1, 0), (0, 1), (0, 0)."""
    sets = [context.attribute_set(k) for k in range(len(context.groups.attributes))]
    without = [context.data.table.select(attribute.negative) for attribute in context.groups.attributes]
    none = np.intersect1d(np.flatnonzero(np.logical_and.reduce(without)), context.split.train)
    return [*sets, none] if len(none) else sets


def conditional_labels(context: Context[MethodAConfig], stream: str, step: int, count: int, kinds: int) -> np.ndarray:
    """y of a batch: the first `kinds` of (1, 0), (0, 1), ... (0, 0), each equally often, never all ones."""
    table = np.eye(kinds, len(context.groups.attributes), dtype=np.float32)
    drawn = generator(context.config.seed, stream, step).integers(kinds, size=count)
    return context.randomness.shard.of(table[drawn])


def conditional_reals(context: Context[MethodAConfig], sets: list[np.ndarray]) -> Source:
    """Reals of every set with their y; each image's set is drawn like the fakes' labels."""
    sources = [context.reals(index, f"phase1/reals{k}") for k, index in enumerate(sets)]

    def labels(step: int, count: int) -> np.ndarray:
        return conditional_labels(context, "phase1/real-labels", step, count, len(sets))

    def places(step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        of = labels(step, count)
        kinds = np.where(of.any(1), of.argmax(1), len(sets) - 1)
        return kinds, np.arange(len(kinds))

    def rows(step: int, count: int) -> np.ndarray:
        return np.stack([source.rows(step, count) for source in sources])[places(step, count)]

    fetch = Fetcher(context.data.images, rows, np.concatenate(sets))

    def reals(step: int, count: int) -> Reals:
        flips = np.stack([source.flips(step, count) for source in sources])[places(step, count)]
        with context.clock:
            return Reals([flipped(fetch(step, count), flips)], labels(step, count))

    return reals


def sharpness_bounds(context: Context[MethodAConfig], index: np.ndarray) -> tuple[float, float]:
    """10th and 99th percentile of the sharpness of (at most 2048 of) the reals."""
    measured = sharpness(to_float(np.ascontiguousarray(context.data.images[index[:2048]])))
    low, high = torch.quantile(measured, torch.tensor([0.10, 0.99])).tolist()
    return low, high
