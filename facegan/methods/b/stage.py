"""Method B's training: StyleGAN2 with adaptive augmentation on every face that is not, and could not be, a joint one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints.networks import STAGE, StyleGAN2Checkpoint
from facegan.methods.b.config import MethodBConfig
from facegan.methods.b.growth import drawn_level, level, seen_at
from facegan.methods.b.start import start as first_networks
from facegan.methods.common.parts import check_parts, frozen, pieces, update
from facegan.methods.common.regularizers import r1_penalty
from facegan.methods.common.stylegan2 import MixedFaces, Scores, full_precision
from facegan.methods.common.stylegan2_losses import discriminator_loss, generator_loss, lazy, path_length_loss
from facegan.models.conv_gan import channels_last
from facegan.models.stylegan2 import Discriminator, Generator
from facegan.models.stylegan2_config import Level
from facegan.pixels import to_float
from facegan.randomness import generator as numbers
from facegan.training import ada
from facegan.training.ema import Average
from facegan.training.optimizer import adam
from facegan.training.stage import Context, Stage

SAMPLES = 64
P = TypeVar("P", bound="Wanted | Real")


class Wanted(NamedTuple):
    """Faces to be generated, and how the discriminator is to see them; arrays as drawn, tensors as used."""

    z: Any  # [n, 2, z_dim]; None: the fakes that the generator has just learned from
    crossover: Any  # [n], int64
    c: Any  # [n, c_dim], or None
    noise: Any  # [n, num_noise], or None
    u: Any  # [n, NUMBERS], of the augmentation
    y: Any  # [n, 3, R, R], where path lengths are asked for, else None

    @property
    def faces(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return self.z, self.crossover, self.c, self.noise


class Real(NamedTuple):
    """Real faces, and how the discriminator is to see them."""

    images: Any  # drawn: uint8 [n, 3, R, R]; used: float32 at the level's side
    c: Any
    u: Any


class Batch(NamedTuple):
    """What one step is computed from."""

    level: Level | None  # of networks that grow
    for_g: Wanted
    for_d: Wanted
    reals: Real
    ema: Any  # how far the average moves
    path: Wanted | None  # in a step that evens path lengths
    penalised: bool  # by R1


class StyleGAN2Training(Stage[MethodBConfig]):
    """One step: G, every `pl_every` steps its path length; D, every `r1_every` steps R1; the average; the strength of ADA."""

    steps_unsaved = 1000
    grows_by = "kimg"

    def __init__(self, context: Context[MethodBConfig]) -> None:
        self.name, self.title = STAGE, "StyleGAN2-ADA"
        config = context.config
        super().__init__(context, context.kimg_steps(config.kimg), context.split.train)
        self.reals = context.reals(self.used, f"{STAGE}/reals")
        self.labels = multi_hot(context) if config.conditional else None
        start = first_networks(context)
        self.shape = start.config
        self.share = check_parts(config.batch, config.accumulate, context.accelerator.num_processes, self.shape.group)
        self.may_have_seen_joint_faces = start.may_have_seen_joint_faces
        self.generator, self.discriminator = Generator(self.shape), Discriminator(self.shape)
        self._load(start)
        rampup = math.inf if config.init_from else config.ema_rampup  # what it starts from is worth keeping
        self.average = Average(self.generator, 1000 * config.ema_kimg, rampup)
        if "G_ema" in start.states:
            self.average.network.load_state_dict(start.states["G_ema"])
            if config.noise == "none":
                without_noise(self.average.network)
        for network in (self.generator, self.discriminator, self.average.network):
            channels_last(network).to(context.device)
        if config.freeze_d:
            self.discriminator.freeze(config.freeze_d)
        self.trained_d = [p for p in self.discriminator.parameters() if p.requires_grad]
        self._prepare()
        fixed = {"fixed": config.augment_p, "none": 0.0}.get(config.augment)
        self.strength = ada.Strength(context.device, fixed=fixed, start=config.ada_start, target=config.ada_target, kimg=config.ada_kimg)
        self.mean_length = torch.zeros((), device=context.device)
        self.images_seen = 0

    # --- where it starts
    def _load(self, start: StyleGAN2Checkpoint) -> None:
        generator = start.states.get("G", start.states.get("G_ema"))
        if generator is not None:
            self.generator.load_state_dict(generator)
        if "D" in start.states:
            self.discriminator.load_state_dict(start.states["D"])
        if self.context.config.noise == "none":
            without_noise(self.generator)

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

    # --- one step: its draw, of this process's rows
    def draw(self, step: int) -> Batch:
        config = self.context.config
        evened = config.pl_weight > 0 and step % config.pl_every == 0
        return Batch(
            level=drawn_level(level(config, step * config.batch)),
            for_g=self._wanted("G", step, config.batch),
            for_d=self._shared(step) if config.share_fakes else self._wanted("D", step, config.batch),
            reals=self._reals(step),
            ema=self.average.weight(config.batch, (step + 1) * config.batch),
            path=self._wanted("path", step, self._path_images(), lengths=True) if evened else None,
            penalised=config.gamma > 0 and step % config.r1_every == 0,
        )

    def _path_images(self) -> int:
        """A smaller batch will do for path lengths."""
        parts = self.context.accelerator.num_processes * self.context.config.accumulate
        return max(self.context.config.batch // 2 // parts, 1) * parts

    def _wanted(self, stream: str, step: int, count: int, lengths: bool = False) -> Wanted:
        random, shape, config = self.context.randomness, self.shape, self.context.config
        c, stream = self._asked(stream, step, count), f"{STAGE}/{stream}"
        mixed, where = random.uniform(f"{stream}/mixing", step, (count, 2)).T
        crossover = np.where(mixed < config.style_mixing, 1 + (where * (shape.num_ws - 1)).astype(np.int64), shape.num_ws)
        return Wanted(
            z=random.normal(f"{stream}/z", step, (count, 2, shape.z_dim)),
            crossover=crossover,
            c=c,
            noise=None if config.noise == "none" else random.noise(f"{stream}/noise", step, (count, shape.num_noise)),
            u=random.uniform(f"{stream}/augment", step, (count, ada.NUMBERS)),
            y=random.noise(f"{stream}/y", step, (count, 3, shape.resolution, shape.resolution)) if lengths else None,
        )

    def _shared(self, step: int) -> Wanted:
        """The generator's own fakes, asked for the same labels and seen through an augmentation of the discriminator's."""
        random, config = self.context.randomness, self.context.config
        c = self._asked("G", step, config.batch)
        return Wanted(None, None, c, None, random.uniform(f"{STAGE}/D/augment", step, (config.batch, ada.NUMBERS)), None)

    def _asked(self, stream: str, step: int, count: int) -> np.ndarray | None:
        """The labels of fakes: those of real images, drawn anew."""
        random = self.context.randomness
        return self._labels(lambda: random.shard.of(numbers(random.seed, f"{STAGE}/{stream}/labels", step).choice(self.used, count)))

    def _reals(self, step: int) -> Real:
        config = self.context.config
        return Real(
            images=self.reals(step, config.batch),
            c=self._labels(lambda: self.reals.rows(step, config.batch)),
            u=self.context.randomness.uniform(f"{STAGE}/real/augment", step, (config.batch, ada.NUMBERS)),
        )

    def _labels(self, rows: Callable[[], np.ndarray]) -> np.ndarray | None:
        """Those of some images; none are asked for where the networks are unconditional."""
        return None if self.labels is None else self.labels[rows()]

    # --- and its computation, in `accumulate` parts
    def compute(self, batch: Batch) -> dict[str, Tensor]:
        terms, fakes = self._train_generator(batch)
        if batch.path is not None:
            terms |= self._even_paths(batch.path, batch.level)
        terms |= self._train_discriminator(batch, fakes)
        self.average.update(batch.ema)
        self.strength.adjust(self.context.accelerator.reduce)
        return terms | {"augment/p": self.strength.p.clone()}

    def _parts(self, whole: P) -> list[P]:
        """A batch of faces in parts."""
        columns = (pieces(x, self.context.config.accumulate) for x in whole)
        return [type(whole)(*part) for part in zip(*columns, strict=True)]

    def _train_generator(self, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The terms of its loss, and the fakes [n, 3, R, R] of each part."""
        followed, fakes = [], []
        generator, scored = self.first_order(self.wrapped_g), self.first_order(self.scores)

        def loss(part: Wanted) -> Tensor:
            images, ws = generator(*part.faces, batch.level)
            fakes.append(images.detach())
            followed.append(ws[:, 0].detach().mean(0))  # the first layer's style is never the second one
            (scores,) = scored([(self._seen(images, part.u), part.c)], batch.level)
            return generator_loss(scores)

        with frozen(self.discriminator):  # the unwrapped one: this pass wants no gradient of it and no synchronisation
            total = update(self.context.accelerator, self.wrapped_g, self.optimizer_g, loss, self._parts(batch.for_g))
        self.generator.mapping.track(self._over_processes(torch.stack(followed).mean(0, keepdim=True)))
        return {"G/loss": total}, fakes

    def _even_paths(self, wanted: Wanted, level: Level | None) -> dict[str, Tensor]:
        config, found = self.context.config, []

        def loss(part: Wanted) -> Tensor:
            with full_precision(self.generator):
                lengths, _ = self.wrapped_g(*part.faces, level, part.y)
            found.append(lengths.detach().mean())
            return config.pl_weight * config.pl_every * path_length_loss(lengths, self.mean_length)

        total = update(self.context.accelerator, self.wrapped_g, self.optimizer_g, loss, self._parts(wanted))
        mean = self._over_processes(torch.stack(found).mean())
        self.mean_length.lerp_(mean, config.pl_decay)
        return {"G/path": total / config.pl_every, "G/length": mean}

    def _train_discriminator(self, batch: Batch, fakes: list[Tensor]) -> dict[str, Tensor]:
        config, signs = self.context.config, []
        reals = self._parts(batch.reals._replace(images=seen_at(to_float(batch.reals.images), batch.level)))
        faces, judge = self.first_order(self.faces), self.first_order(self.wrapped_d)

        def loss(part: tuple[Real, Wanted, Tensor]) -> Tensor:
            real, wanted, fake = part
            if wanted.z is not None:
                with torch.no_grad():
                    fake, _ = faces(*wanted.faces, batch.level)
            shown = [(self._seen(real.images, real.u), real.c), (self._seen(fake, wanted.u), wanted.c)]
            on_real, on_fake = judge(shown, batch.level)
            signs.append(on_real.detach())
            return discriminator_loss(on_real, on_fake)

        def steepness(real: Real) -> Tensor:
            """R1 at the augmented reals, as leaves: augmentation needs no second derivative."""
            images = self._seen(real.images, real.u).detach().requires_grad_()
            with full_precision(self.discriminator):
                (scores,) = self.wrapped_d([(images, real.c)], batch.level)
            return config.r1_every * r1_penalty(scores, images, config.gamma) + 0 * scores.sum()

        parts = list(zip(reals, self._parts(batch.for_d), fakes, strict=True))
        terms = {"D/loss": update(self.context.accelerator, self.wrapped_d, self.optimizer_d, loss, parts)}
        on_real = torch.cat(signs)
        self.strength.update(on_real.sign().sum(), len(on_real))
        if batch.penalised:
            terms["D/r1"] = update(self.context.accelerator, self.wrapped_d, self.optimizer_d, steepness, reals) / config.r1_every
        return terms | {"D/real": on_real.mean(), "D/sign": on_real.sign().mean()}

    def _seen(self, images: Tensor, u: Tensor) -> Tensor:
        """What the discriminator gets to see of them."""
        return images if self.strength.fixed == 0 else ada.augment(images, self.strength.p, u)

    def _over_processes(self, values: Tensor) -> Tensor:
        return self.context.accelerator.reduce(values, reduction="mean")

    def changing(self) -> list[Tensor]:
        return [*super().changing(), self.mean_length, *self.strength.tensors]

    # --- results
    @torch.no_grad()
    def samples(self) -> Tensor:
        fixed = np.random.default_rng(self.context.config.seed).standard_normal((SAMPLES, self.shape.z_dim), dtype=np.float32)
        c = self._labels(lambda: self.used[np.arange(SAMPLES) * len(self.used) // SAMPLES])
        sent = (None if x is None else torch.from_numpy(x).to(self.context.device) for x in (fixed, c))
        parts = zip(*(pieces(x, -(-SAMPLES // self.share)) for x in sent), strict=True)
        grown = level(self.context.config, self.images_seen)
        return torch.cat([self.average.network(z, label, noise_mode="const", level=grown).float().cpu() for z, label in parts])

    def after_step(self, step: int) -> bool:
        self.images_seen = step * self.context.config.batch
        return False

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        metadata = {**self._about(), "strength": self.strength.state(), "images_seen": self.images_seen}
        return {"mean_length": self.mean_length}, metadata

    def _about(self) -> dict[str, Any]:
        """What `open_networks` needs to know."""
        grown = level(self.context.config, self.images_seen)
        side = self.shape.resolution if grown is None else 2 ** math.floor(grown)
        return {"network": self.shape.to_json(), "grown_to": side, "may_have_seen_joint_faces": self.may_have_seen_joint_faces}

    def load_extra_state(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        self.mean_length.copy_(tensors["mean_length"])
        self.strength.load_state(metadata["strength"])
        self.images_seen = metadata["images_seen"]

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.weights(), {"extra": self._about()}

    def summary(self) -> str:
        return f"augmentation ended at p = {float(self.strength.p):.3f}" if self.context.config.augment == "ada" else ""


@torch.no_grad()
def without_noise(generator: Generator) -> None:
    """No layer's noise counts any more."""
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.zero_()


def multi_hot(context: Context[MethodBConfig]) -> np.ndarray:
    """float32 [images, K]: 1 for each attribute that counts as present; unknown is 0."""
    table = context.data.table
    return np.stack([table.select(attribute.present) for attribute in context.groups.attributes], 1).astype(np.float32)
