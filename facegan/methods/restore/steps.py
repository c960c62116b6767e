"""What the steps of a restorer's training compute, for the kernels that they need."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from facegan.methods.common.regularizers import r1_penalty
from facegan.methods.common.steps import Rig, Step, descend
from facegan.methods.common.stylegan2 import Scores, full_precision, grouped
from facegan.methods.common.stylegan2_losses import discriminator_loss, generator_loss
from facegan.methods.restore.config import RestoreConfig
from facegan.methods.restore.start import start
from facegan.models import stylegan2
from facegan.models.restorer import Restorer


def steps(config: RestoreConfig, rig: Rig) -> Iterator[Step]:
    shape = start(config).shape
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
