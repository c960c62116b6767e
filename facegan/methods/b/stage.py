"""Method B's training: StyleGAN2 with adaptive augmentation on every face that is not, and could not be, a joint one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints.networks import STAGE, Networks, open_networks
from facegan.errors import FaceganError
from facegan.methods.b.forward import MixedFaces, Scores, full_precision
from facegan.methods.b.growth import level, seen_at
from facegan.methods.b.objective import discriminator_loss, generator_loss, lazy, path_length_loss
from facegan.methods.parts import check_parts, pieces, update
from facegan.methods.provenance import without_joint_faces
from facegan.methods.regularizers import r1_penalty
from facegan.models.conv_gan import channels_last
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.training import ada
from facegan.training.config_b import MethodBConfig
from facegan.training.ema import Average
from facegan.training.optimizer import adam
from facegan.training.randomness import generator as numbers
from facegan.training.randomness import sent
from facegan.training.stage import Context, Stage

SAMPLES = 64
log = logging.getLogger("facegan.train")


class Wanted(NamedTuple):
    """Faces to be generated, and how the discriminator is to see them."""

    z: Tensor  # [n, 2, z_dim]
    crossover: Tensor  # [n]
    c: Tensor | None  # [n, c_dim]
    noise: Tensor  # [n, num_noise]
    u: Tensor  # [n, NUMBERS], of the augmentation
    y: Tensor | None  # [n, 3, R, R], where path lengths are asked for

    @property
    def faces(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        return self.z, self.crossover, self.c, self.noise


class Real(NamedTuple):
    """Real faces, and how the discriminator is to see them."""

    images: Tensor  # [n, 3, R, R]
    c: Tensor | None
    u: Tensor


def network_config(context: Context[MethodBConfig]) -> StyleGAN2Config:
    config = context.config
    latent, layers, base, most = config.sizes
    lower = config.mixed_precision == "bf16"
    return StyleGAN2Config(
        config.resolution, latent, latent, len(context.groups.attributes) if config.conditional else 0, layers,
        channel_base=base, channel_max=most, architecture=config.architecture, noise=config.noise, growing=config.growing > 0,
        half_sizes=4 if lower else 0, conv_clamp=256.0 if lower else None,
    )  # fmt: skip


class StyleGAN2Training(Stage[MethodBConfig]):
    """One step: G, every `pl_every` steps its path length; D, every `r1_every` steps R1; the average; the strength of ADA."""

    steps_unsaved = 1000

    def __init__(self, context: Context[MethodBConfig]) -> None:
        self.name, self.title = STAGE, "StyleGAN2-ADA"
        config = context.config
        super().__init__(context, round(1000 * config.kimg / config.batch), context.split.train)
        self.reals = context.reals(self.used, f"{STAGE}/reals")
        self.labels = multi_hot(context) if config.conditional else None
        start = self._start()
        self.shape = start.config
        self.share = check_parts(config.batch, config.accumulate, context.accelerator.num_processes, self.shape.group)
        self.may_have_seen_joint_faces = bool(config.init_from) and start.may_have_seen_joint_faces
        self.generator, self.discriminator = Generator(self.shape), Discriminator(self.shape)
        self._load(start)
        rampup = math.inf if config.init_from else config.ema_rampup  # what it starts from is worth keeping
        self.average = Average(self.generator, 1000 * config.ema_kimg, rampup)
        if "G_ema" in start.states:
            self.average.network.load_state_dict(start.states["G_ema"])
        for network in (self.generator, self.discriminator, self.average.network):
            channels_last(network).to(context.device)
        if config.freeze_d:
            self.discriminator.freeze(config.freeze_d)
        self.trained_d = [p for p in self.discriminator.parameters() if p.requires_grad]
        self._prepare()
        fixed = {"fixed": config.augment_p, "none": 0.0}.get(config.augment)
        self.strength = ada.Strength(context.device, fixed=fixed, target=config.ada_target, kimg=config.ada_kimg)
        self.mean_length = torch.zeros((), device=context.device)
        self.images_seen, self.level = 0, level(config, 0)

    # --- where it starts
    def _start(self) -> Networks:
        context, config = self.context, self.context.config
        wanted = network_config(context)
        if not config.init_from:
            return Networks(wanted, {})
        found = open_networks(config.init_from)
        clean = not found.may_have_seen_joint_faces and without_joint_faces(context, config.init_from, "--init-from")
        theirs = found.config
        if theirs.resolution != config.resolution or theirs.c_dim != wanted.c_dim:
            raise FaceganError(
                f"--init-from {config.init_from} makes {theirs.resolution} px faces with {theirs.c_dim} label(s), this run "
                f"{config.resolution} px with {wanted.c_dim}: they must agree, so change --resolution or --conditional"
            )
        if not clean:
            log.warning("%s may have seen faces with all attributes in its training, and so this run is marked", config.init_from)
        if (theirs.architecture, theirs.noise) != (config.architecture, config.noise) or config.preset != "auto":
            log.warning("--init-from: its networks (%s, noise: %s) stand, whatever --architecture, --noise and --preset say",
                        theirs.architecture, theirs.noise)  # fmt: skip
        shape = replace(theirs, half_sizes=wanted.half_sizes, conv_clamp=theirs.conv_clamp or wanted.conv_clamp)
        return Networks(shape, found.states, may_have_seen_joint_faces=not clean)

    def _load(self, start: Networks) -> None:
        generator = start.states.get("G", start.states.get("G_ema"))
        if generator is not None:
            self.generator.load_state_dict(generator)
        if "D" in start.states:
            self.discriminator.load_state_dict(start.states["D"])
        elif self.context.config.freeze_d:
            raise FaceganError(f"--freeze-d: {self.context.config.init_from} holds no discriminator to freeze; leave the flag away")

    def _prepare(self) -> None:
        config = self.context.config
        betas = (config.beta1, config.beta2)
        rate_g, betas_g = lazy(config.lr, betas, config.pl_every if config.pl_weight else 0)
        rate_d, betas_d = lazy(config.lr, betas, config.r1_every if config.gamma else 0)
        adam_g = adam(self.generator.parameters(), rate_g, betas_g, self.context.device)
        adam_d = adam(self.trained_d, rate_d, betas_d, self.context.device)
        self.networks = {"G": self.generator, "D": self.discriminator, "G_ema": self.average.network}
        self.faces, self.scores = MixedFaces(self.generator), Scores(self.discriminator)
        self.wrapped_g, self.wrapped_d, self.optimizer_g, self.optimizer_d = self.context.accelerator.prepare(
            self.faces, self.scores, adam_g, adam_d
        )
        self.optimizers = {"G": self.optimizer_g, "D": self.optimizer_d}

    # --- one step
    def step(self, step: int) -> dict[str, Tensor]:
        config = self.context.config
        self.level = level(config, step * config.batch)
        terms = self._train_generator(step)
        if config.pl_weight and step % config.pl_every == 0:
            terms |= self._even_paths(step)
        terms |= self._train_discriminator(step)
        self.average.update(config.batch, (step + 1) * config.batch)
        self.strength.adjust(self.context.accelerator.reduce)
        return terms | {"augment/p": self.strength.p}

    def _train_generator(self, step: int) -> dict[str, Tensor]:
        followed = []

        def loss(part: Wanted) -> Tensor:
            images, ws = self.wrapped_g(*part.faces, self.level)
            followed.append(ws[:, 0].detach().mean(0))  # the first layer's style is never the second one
            (scores,) = self.scores([(self._seen(images, part.u), part.c)], self.level)
            return generator_loss(scores)

        self.discriminator.requires_grad_(False)  # the unwrapped one: this pass wants no gradient of it and no synchronisation
        total = update(self.context.accelerator, self.wrapped_g, self.optimizer_g, loss, self._wanted("G", step, self.context.config.batch))
        for parameter in self.trained_d:
            parameter.requires_grad_(True)
        self.generator.mapping.track(self._over_processes(torch.stack(followed).mean(0, keepdim=True)))
        return {"G/loss": total}

    def _even_paths(self, step: int) -> dict[str, Tensor]:
        config, found = self.context.config, []
        parts = self.context.accelerator.num_processes * config.accumulate
        count = max(config.batch // 2 // parts, 1) * parts  # a smaller batch will do

        def loss(part: Wanted) -> Tensor:
            with full_precision(self.generator):
                lengths, _ = self.wrapped_g(*part.faces, self.level, part.y)
            found.append(lengths.detach().mean())
            return config.pl_weight * config.pl_every * path_length_loss(lengths, self.mean_length)

        total = update(self.context.accelerator, self.wrapped_g, self.optimizer_g, loss, self._wanted("path", step, count, lengths=True))
        mean = self._over_processes(torch.stack(found).mean())
        self.mean_length.lerp_(mean, config.pl_decay)
        return {"G/path": total / config.pl_every, "G/length": mean}

    def _train_discriminator(self, step: int) -> dict[str, Tensor]:
        config = self.context.config
        reals, signs = self._reals(step), []

        def loss(part: tuple[Real, Wanted]) -> Tensor:
            real, wanted = part
            with torch.no_grad():
                fake, _ = self.faces(*wanted.faces, self.level)
            shown = [(self._seen(real.images, real.u), real.c), (self._seen(fake, wanted.u), wanted.c)]
            on_real, on_fake = self.wrapped_d(shown, self.level)
            signs.append(on_real.detach())
            return discriminator_loss(on_real, on_fake)

        parts = list(zip(reals, self._wanted("D", step, config.batch), strict=True))
        terms = {"D/loss": update(self.context.accelerator, self.wrapped_d, self.optimizer_d, loss, parts)}
        on_real = torch.cat(signs)
        self.strength.update(on_real.sign().sum(), len(on_real))
        if config.gamma and step % config.r1_every == 0:
            terms["D/r1"] = update(self.context.accelerator, self.wrapped_d, self.optimizer_d, self._steepness, reals) / config.r1_every
        return terms | {"D/real": on_real.mean(), "D/sign": on_real.sign().mean()}

    def _steepness(self, real: Real) -> Tensor:
        """R1 at the augmented reals, as leaves: augmentation needs no second derivative."""
        config = self.context.config
        images = self._seen(real.images, real.u).detach().requires_grad_()
        with full_precision(self.discriminator):
            (scores,) = self.wrapped_d([(images, real.c)], self.level)
        return config.r1_every * r1_penalty(scores, images, config.gamma) + 0 * scores.sum()

    # --- what a step is made of: this process's rows of the batch, in `accumulate` parts
    def _wanted(self, stream: str, step: int, count: int, lengths: bool = False) -> list[Wanted]:
        random, shape, config = self.context.randomness, self.shape, self.context.config
        stream = f"{STAGE}/{stream}"
        z = random.normal(f"{stream}/z", step, (count, 2, shape.z_dim))
        mixed, where = random.uniform(f"{stream}/mixing", step, (count, 2)).unbind(1)
        crossover = torch.where(mixed < config.style_mixing, 1 + (where * (shape.num_ws - 1)).long(), shape.num_ws)
        noise = random.noise(f"{stream}/noise", step, (count, shape.num_noise))
        y = random.noise(f"{stream}/y", step, (count, 3, shape.resolution, shape.resolution)) if lengths else None
        u = random.uniform(f"{stream}/augment", step, (count, ada.NUMBERS))
        c = self._labels(lambda: random.shard.of(numbers(random.seed, f"{stream}/labels", step).choice(self.used, count)))
        return [Wanted(*part) for part in zip(*(pieces(x, config.accumulate) for x in (z, crossover, c, noise, u, y)), strict=True)]

    def _reals(self, step: int) -> list[Real]:
        config = self.context.config
        images = seen_at(self.reals(step, config.batch), self.level)
        c = self._labels(lambda: self.reals.rows(step, config.batch))
        u = self.context.randomness.uniform(f"{STAGE}/real/augment", step, (config.batch, ada.NUMBERS))
        return [Real(*part) for part in zip(*(pieces(x, config.accumulate) for x in (images, c, u)), strict=True)]

    def _labels(self, rows: Callable[[], np.ndarray]) -> Tensor | None:
        """Those of some images; none are asked for where the networks are unconditional."""
        return None if self.labels is None else sent(self.labels[rows()], self.context.device)

    def _seen(self, images: Tensor, u: Tensor) -> Tensor:
        """What the discriminator gets to see of them."""
        return images if self.strength.fixed == 0 else ada.augment(images, self.strength.p, u)

    def _over_processes(self, values: Tensor) -> Tensor:
        return self.context.accelerator.reduce(values, reduction="mean")

    # --- results
    @torch.no_grad()
    def samples(self) -> Tensor:
        fixed = np.random.default_rng(self.context.config.seed).standard_normal((SAMPLES, self.shape.z_dim), dtype=np.float32)
        c = self._labels(lambda: self.used[np.arange(SAMPLES) * len(self.used) // SAMPLES])
        parts = zip(*(pieces(x, -(-SAMPLES // self.share)) for x in (sent(fixed, self.context.device), c)), strict=True)
        grown = level(self.context.config, self.images_seen)
        return torch.cat([self.average.network(z, label, noise_mode="const", level=grown).float().cpu() for z, label in parts])

    def after_step(self, step: int) -> bool:
        self.images_seen = step * self.context.config.batch
        return False

    def extra(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        facts = {**self._about(), "strength": self.strength.state(), "images_seen": self.images_seen}
        return {"mean_length": self.mean_length}, facts

    def _about(self) -> dict[str, Any]:
        """What `open_networks` needs to know."""
        grown = level(self.context.config, self.images_seen)
        side = self.shape.resolution if grown is None else 2 ** math.floor(grown)
        return {"network": self.shape.to_json(), "grown_to": side, "may_have_seen_joint_faces": self.may_have_seen_joint_faces}

    def load_extra(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.mean_length.copy_(tensors["mean_length"])
        self.strength.load_state(facts["strength"])
        self.images_seen = facts["images_seen"]

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.weights(), {"extra": self._about()}

    def closing(self) -> str:
        return f"augmentation ended at p = {float(self.strength.p):.3f}" if self.context.config.augment == "ada" else ""


def multi_hot(context: Context[MethodBConfig]) -> np.ndarray:
    """float32 [images, K]: 1 for each attribute that counts as present; unknown is 0."""
    table = context.data.table
    return np.stack([table.select(attribute.present) for attribute in context.groups.attributes], 1).astype(np.float32)
