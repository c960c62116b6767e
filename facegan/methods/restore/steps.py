"""What the steps of a restorer's training compute, for the kernels that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from facegan.checkpoints.networks import open_networks
from facegan.methods.common.regularizers import r1_penalty
from facegan.methods.common.steps import Rig, Step, descend
from facegan.methods.common.stylegan2 import Scores, full_precision, grouped
from facegan.methods.common.stylegan2_losses import discriminator_loss, generator_loss
from facegan.methods.restore.config import RestoreConfig
from facegan.models import stylegan2
from facegan.models.restorer import Restorer, decoder_config


def steps(config: RestoreConfig, rig: Rig) -> Iterator[Step]:
    prior = open_networks(config.prior).config
    shape = dataclasses.replace(decoder_config(prior), half_sizes=4 if rig.half else 0)
    shape = dataclasses.replace(shape, conv_clamp=shape.conv_clamp or (256.0 if rig.half else None))
    n = config.batch // rig.processes // config.accumulate
    restorer, discriminator = rig.made(lambda: Restorer(shape)), rig.made(lambda: stylegan2.Discriminator(shape))
    scores = Scores(discriminator)

    def images() -> Tensor:
        return rig.drawn(n, 3, config.resolution, config.resolution)

    def train() -> None:
        discriminator.requires_grad_(False)
        made, kept = restorer(images()), []  # type: ignore[var-annotated]
        judged = discriminator(grouped(made, shape.group), kept=kept)
        descend(generator_loss(judged) + sum(x.float().mean() for x in kept), restorer)
        discriminator.requires_grad_(True)
        descend(discriminator_loss(*scores([(images(), None), (made.detach(), None)])), discriminator)
        with torch.no_grad():
            discriminator(images(), kept=[])
            restorer(images()[:1])

    def r1() -> None:
        faces = images().requires_grad_()
        with full_precision(discriminator):
            (judged,) = scores([(faces, None)])
        descend(r1_penalty(judged, faces, config.gamma), discriminator)

    yield "restorer and D", train
    if config.gamma:
        yield "R1", r1
