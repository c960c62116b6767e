"""What the steps of Method B compute, for the kernels that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from facegan.methods.b.config import MethodBConfig
from facegan.methods.b.start import network_config
from facegan.methods.common.regularizers import r1_penalty
from facegan.methods.common.steps import SAMPLES, Rig, Step, critic_steps, descend
from facegan.methods.common.stylegan2 import MixedFaces, Scores, full_precision
from facegan.methods.common.stylegan2_losses import discriminator_loss, generator_loss, path_length_loss
from facegan.models import stylegan2
from facegan.training import ada


def steps(config: MethodBConfig, rig: Rig) -> Iterator[Step]:
    if config.phase2_epochs:
        yield from critic_steps(config, rig)
    shape = network_config(config, rig.attributes)
    n = config.batch // rig.processes // config.accumulate
    generator, discriminator = rig.made(lambda: stylegan2.Generator(shape)), rig.made(lambda: stylegan2.Discriminator(shape))
    faces, scores = MixedFaces(generator), Scores(discriminator)
    c = rig.drawn(n, shape.c_dim) if shape.c_dim else None

    def drawn(count: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        crossover = torch.ones(count, dtype=torch.long, device=rig.device)
        noise = None if config.noise == "none" else rig.drawn(count, shape.num_noise)
        return rig.drawn(count, 2, shape.z_dim), crossover, None if c is None else c[:count], noise

    def seen(images: Tensor) -> Tensor:
        if config.augment == "none":
            return images
        return ada.augment(images, torch.full((), 0.5, device=rig.device), rig.drawn(len(images), ada.NUMBERS).sigmoid())

    def side(level: float | None) -> int:
        return shape.at_level(level)[0]

    def train_g(level: float | None) -> None:
        discriminator.requires_grad_(False)
        (judged,) = scores([(seen(faces(*drawn(n), level)[0]), c)], level)
        descend(generator_loss(judged), generator)
        discriminator.requires_grad_(True)

    def train_d(level: float | None) -> None:
        with torch.no_grad():
            fake, _ = faces(*drawn(n), level)
        real = rig.drawn(n, 3, side(level), side(level))
        descend(discriminator_loss(*scores([(seen(real), c), (seen(fake), c)], level)), discriminator)

    def even_paths(level: float | None) -> None:
        half = max(config.batch // 2 // (rig.processes * config.accumulate), 1)
        with full_precision(generator):
            lengths, _ = faces(*drawn(half), level, rig.drawn(half, 3, shape.resolution, shape.resolution))
        descend(path_length_loss(lengths, rig.drawn()), generator)

    def r1(level: float | None) -> None:
        images = rig.drawn(n, 3, side(level), side(level)).requires_grad_()
        with full_precision(discriminator):
            (judged,) = scores([(images, c)], level)
        descend(r1_penalty(judged, images, config.gamma), discriminator)

    def samples(level: float | None) -> None:
        label = None if c is None else rig.drawn(min(n, SAMPLES), shape.c_dim)
        with torch.no_grad():
            generator(rig.drawn(min(n, SAMPLES), shape.z_dim), label, noise_mode="const", level=level)

    kinds: list[tuple[str, Callable[[float | None], None]]] = [("G", train_g), ("D", train_d), ("samples", samples)]
    kinds += [("path length", even_paths)] if config.pl_weight else []
    kinds += [("R1", r1)] if config.gamma else []
    for level in _levels(config):
        yield from ((name, lambda run=run, level=level: run(level)) for name, run in kinds)


def _levels(config: MethodBConfig) -> Sequence[float | None]:
    """Of a network that grows: one between every two sizes, at which both are used, and its last."""
    if not config.growing:
        return [None]
    first, last = config.growing.bit_length() - 1, config.resolution.bit_length() - 1
    return [*(size + 0.5 for size in range(first, last)), float(last)]
