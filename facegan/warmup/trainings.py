"""What a training's steps compute, network by network: on `meta` tensors the source of the list of kernels that it needs, on a GPU
what is measured.

Here is no data, no optimiser and no result: only the passes forward and backward that a stage makes, at the batch that one process
sees, in the arithmetic that its configuration asks for, on random numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from facegan.checkpoints.networks import open_networks
from facegan.methods.a.losses import discriminator_loss as lsgan_d
from facegan.methods.a.losses import generator_loss as lsgan_g
from facegan.methods.a.merge import MergedGenerator
from facegan.methods.b.forward import MixedFaces, Scores, full_precision, grouped
from facegan.methods.b.objective import discriminator_loss, generator_loss, path_length_loss
from facegan.methods.regularizers import r1_penalty
from facegan.models import conv_gan, stylegan2
from facegan.models.conv_gan import channels_last
from facegan.restore.network import Restorer, decoder_config
from facegan.training import ada
from facegan.training.config import CriticConfig, TrainConfig
from facegan.training.config_a import MethodAConfig
from facegan.training.config_b import MethodBConfig
from facegan.training.config_restore import RestoreConfig

M = TypeVar("M", bound=nn.Module)
META = torch.device("meta")
SAMPLES = 64  # faces of a stage's grid
Step = tuple[str, Callable[[], object]]


def steps(config: TrainConfig, processes: int = 1, attributes: int = 2, device: torch.device = META) -> Iterator[Step]:
    """(name, what runs it) of every kind of step of a training of so many processes."""
    rig = Rig(device, processes, attributes, config.mixed_precision == "bf16")
    if isinstance(config, MethodAConfig):
        yield from _method_a(config, rig)
    elif isinstance(config, MethodBConfig):
        yield from _method_b(config, rig)
    elif isinstance(config, RestoreConfig):
        yield from _restorer(config, rig)


@dataclasses.dataclass(frozen=True)
class Rig:
    """Where steps run, and how much of a batch."""

    device: torch.device
    processes: int
    attributes: int
    half: bool

    def drawn(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device)

    def made(self, network: Callable[[], M]) -> M:
        with self.device:
            return channels_last(network())

    def arithmetic(self, full: bool = False) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half and not full)


def _descend(loss: Tensor, *networks: nn.Module) -> None:
    """A backward pass into the weights of these networks, whose gradients are dropped."""
    torch.autograd.grad(loss, [p for network in networks for p in network.parameters() if p.requires_grad], allow_unused=True)


# --- Method B
def _method_b(config: MethodBConfig, rig: Rig) -> Iterator[Step]:
    if config.phase2_epochs:
        yield from _critic(config, rig)
    shape = stylegan2_config(config, rig.attributes)
    n = config.batch // rig.processes // config.accumulate
    generator, discriminator = rig.made(lambda: stylegan2.Generator(shape)), rig.made(lambda: stylegan2.Discriminator(shape))
    faces, scores = MixedFaces(generator), Scores(discriminator)
    c = rig.drawn(n, shape.c_dim) if shape.c_dim else None

    def drawn(count: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        crossover = torch.ones(count, dtype=torch.long, device=rig.device)
        return rig.drawn(count, 2, shape.z_dim), crossover, None if c is None else c[:count], rig.drawn(count, shape.num_noise)

    def seen(images: Tensor) -> Tensor:
        if config.augment == "none":
            return images
        return ada.augment(images, torch.full((), 0.5, device=rig.device), rig.drawn(len(images), ada.NUMBERS).sigmoid())

    def side(level: float | None) -> int:
        return shape.at_level(level)[0]

    def train_g(level: float | None) -> None:
        discriminator.requires_grad_(False)
        (judged,) = scores([(seen(faces(*drawn(n), level)[0]), c)], level)
        _descend(generator_loss(judged), generator)
        discriminator.requires_grad_(True)

    def train_d(level: float | None) -> None:
        with torch.no_grad():
            fake, _ = faces(*drawn(n), level)
        real = rig.drawn(n, 3, side(level), side(level))
        _descend(discriminator_loss(*scores([(seen(real), c), (seen(fake), c)], level)), discriminator)

    def even_paths(level: float | None) -> None:
        half = max(config.batch // 2 // (rig.processes * config.accumulate), 1)
        with full_precision(generator):
            lengths, _ = faces(*drawn(half), level, rig.drawn(half, 3, shape.resolution, shape.resolution))
        _descend(path_length_loss(lengths, rig.drawn()), generator)

    def r1(level: float | None) -> None:
        images = rig.drawn(n, 3, side(level), side(level)).requires_grad_()
        with full_precision(discriminator):
            (judged,) = scores([(images, c)], level)
        _descend(r1_penalty(judged, images, config.gamma), discriminator)

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


def stylegan2_config(config: MethodBConfig, attributes: int) -> stylegan2.StyleGAN2Config:
    latent, layers, base, most = config.sizes
    lower = config.mixed_precision == "bf16"
    return stylegan2.StyleGAN2Config(
        config.resolution, latent, latent, attributes if config.conditional else 0, layers, channel_base=base, channel_max=most,
        architecture=config.architecture, noise=config.noise, growing=config.growing > 0,
        half_sizes=4 if lower else 0, conv_clamp=256.0 if lower else None,
    )  # fmt: skip


# --- Method A, and the critics of both
def _critic(config: CriticConfig, rig: Rig) -> Iterator[Step]:
    shape = conv_gan.DiscriminatorConfig(config.resolution, config.resolution, config.width, deviation=False)
    critic, n = rig.made(lambda: conv_gan.Discriminator(shape)), config.batch // rig.processes

    def step(full: bool) -> None:
        images = rig.drawn(n, 3, config.resolution, config.resolution).requires_grad_(full)
        with rig.arithmetic(full):
            scores = critic(images).float()
        loss = (scores - 1).square().mean()
        _descend(loss + r1_penalty(scores, images, 1.0) if full else loss, critic)

    yield "critic", lambda: step(False)
    if config.critic_gradient_penalty:
        yield "critic's R1", lambda: step(True)


def _method_a(config: MethodAConfig, rig: Rig) -> Iterator[Step]:
    asked = rig.attributes if config.conditional else 0
    shape = conv_gan.GeneratorConfig(config.resolution, config.z_dims, config.width, asked, modulated=config.modulate)
    yield from _adversarial("phase 1", config, shape, rig)
    if not config.epochs:
        return
    if config.phase2_epochs:
        yield from _critic(config, rig)
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
            loss = lsgan_d(scores[:n].float(), scores[n:].float())
            _descend(loss + r1_penalty(scores[:n], real, 1.0) if full else loss, discriminator)
            discriminator.requires_grad_(False)
            _descend(lsgan_g(discriminator(fake, y).float()), generator.generator)
            discriminator.requires_grad_(True)

    def samples() -> None:
        with torch.no_grad():
            generator(rig.drawn(SAMPLES, *shape.z_shape), None if y is None else rig.drawn(SAMPLES, shape.num_attributes))

    yield name, lambda: step(False)
    if config.r1_gamma:
        yield f"{name}, R1", lambda: step(True)
    yield f"{name}, samples", samples


# --- restoration
def _restorer(config: RestoreConfig, rig: Rig) -> Iterator[Step]:
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
        _descend(generator_loss(judged) + sum(x.float().mean() for x in kept), restorer)
        discriminator.requires_grad_(True)
        _descend(discriminator_loss(*scores([(images(), None), (made.detach(), None)])), discriminator)
        with torch.no_grad():
            discriminator(images(), kept=[])
            restorer(images()[:1])

    def r1() -> None:
        faces = images().requires_grad_()
        with full_precision(discriminator):
            (judged,) = scores([(faces, None)])
        _descend(r1_penalty(judged, faces, config.gamma), discriminator)

    yield "restorer and D", train
    if config.gamma:
        yield "R1", r1
