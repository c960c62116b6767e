"""What the steps of Method A compute, for the kernels that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch

from facegan.methods.a.config import MethodAConfig
from facegan.methods.a.losses import discriminator_loss, generator_loss
from facegan.methods.common.regularizers import r1_penalty
from facegan.methods.common.steps import SAMPLES, Rig, Step, critic_steps, descend
from facegan.models import conv_gan
from facegan.models.merged_generator import MergedGenerator


def steps(config: MethodAConfig, rig: Rig) -> Iterator[Step]:
    asked = rig.attributes if config.conditional else 0
    shape = conv_gan.GeneratorConfig(config.resolution, config.z_shape, config.width, asked, modulated=config.modulate)
    yield from _adversarial("phase 1", config, shape, rig)
    if not config.epochs:
        return
    if config.phase2_epochs:
        yield from critic_steps(config, rig)
    grown = dataclasses.replace(shape, grown=config.grow)
    yield from _adversarial("phase 3", config, grown, rig, merge=config.merge if config.switch else "none")


def _adversarial(name: str, config: MethodAConfig, shape: conv_gan.GeneratorConfig, rig: Rig, merge: str = "none") -> Iterator[Step]:
    resolution, n = config.resolution, config.batch // rig.processes
    judge = conv_gan.DiscriminatorConfig(resolution, resolution, config.width, shape.num_attributes, config.minibatch_deviation)
    snapshot = None if merge == "none" else rig.made(lambda: conv_gan.Generator(shape))
    mask = rig.drawn(1, 1, resolution, resolution) if merge == "regional" else None
    generator = MergedGenerator(rig.made(lambda: conv_gan.Generator(shape)), snapshot, merge, mask)
    generator.strength = config.merge_alpha
    discriminator = rig.made(lambda: conv_gan.Discriminator(judge))
    y = rig.drawn(n, shape.num_attributes) if shape.num_attributes else None

    def step(full: bool) -> None:
        with rig.arithmetic(full):
            fake = generator(rig.drawn(n, *shape.z_shape), y)
            real = rig.drawn(n, 3, resolution, resolution).requires_grad_(full)
            both = None if y is None else torch.cat([y, y])
            scores = discriminator(torch.cat([real, fake.detach()]), both)
            loss = discriminator_loss(scores[:n].float(), scores[n:].float())
            descend(loss + r1_penalty(scores[:n], real, 1.0) if full else loss, discriminator)
            discriminator.requires_grad_(False)
            descend(generator_loss(discriminator(fake, y).float()), generator.generator)
            discriminator.requires_grad_(True)

    def samples() -> None:
        with torch.no_grad():
            generator(rig.drawn(SAMPLES, *shape.z_shape), None if y is None else rig.drawn(SAMPLES, shape.num_attributes))

    yield name, lambda: step(False)
    if config.r1_gamma:
        yield f"{name}, R1", lambda: step(True)
    yield f"{name}, samples", samples
