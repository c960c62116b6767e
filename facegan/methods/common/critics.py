"""Phase 2: a critic, "does this image have attribute k?", that is hard to deceive by blur."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from facegan.checkpoints import checkpoint
from facegan.checkpoints.run import RunFolder
from facegan.config import CriticConfig
from facegan.data.splits import holdout
from facegan.errors import FaceganError
from facegan.methods.common.regularizers import r1_penalty
from facegan.models.conv_gan import Discriminator, DiscriminatorConfig, channels_last
from facegan.pixels import to_float
from facegan.randomness import generator
from facegan.schema import checked
from facegan.tensors import refuse_other_shapes
from facegan.training.augment import VIEW_NUMBERS, degrade, view
from facegan.training.optimizer import adam
from facegan.training.stage import Context, Stage

VALIDATION_SHARE, VALIDATION_MOST = 0.15, 512
VALIDATE_TIMES = 20  # validations in the longest phase


def stage_name(context: Context[CriticConfig], k: int) -> str:
    return f"phase2-{context.groups.attributes[k].name}"


class _Course(TypedDict):
    balanced_accuracy: float
    blurry_accuracy: float
    best_step: int
    worse: int


def load_harvest(folder: RunFolder, resolution: int) -> np.ndarray:
    """uint8 [n, 3, R, R]: the badly generated faces that phase 1 left."""
    harvest, shape = folder.load_stage("phase1")[0].get("harvest"), (3, resolution, resolution)
    if harvest is None or harvest.dtype != torch.uint8 or harvest.shape[1:] != shape:
        found = "absent" if harvest is None else f"{harvest.dtype} {list(harvest.shape)}"
        raise FaceganError(f"{folder.stages / 'phase1'}: harvest is {found}; expected uint8 [n, 3, {resolution}, {resolution}]")
    return harvest.numpy()


class Part(NamedTuple):
    """A part of a batch: arrays as drawn (noise is drawn on the device), tensors there as used."""

    images: Any  # uint8 [n, 3, R, R]
    degradation: Any = None  # [n, 2] in [0, 1), where the images are degraded
    grain: Any = None  # [n, 3, R, R], standard normal
    view: Any = None  # [n, VIEW_NUMBERS] in [0, 1), where a view of each is shown


class Lesson(NamedTuple):
    parts: list[Part]  # half of the images positives, half negatives, in this order
    penalised: bool  # by R1


def shown(part: Part) -> Tensor:
    """What the critic gets to see of a part: float32 [n, 3, R, R]."""
    images = to_float(part.images)
    if part.degradation is not None:
        images = degrade(images, part.degradation, part.grain)
    return images if part.view is None else view(images, part.view)


class Phase2(Stage[CriticConfig]):
    """L(D2) = mean (D2(x) - 1)^2 + mean D2(y)^2; x: X_k, y: faces without it, harvested and degraded ones."""

    decays = False  # it ends by its validation

    def __init__(self, context: Context[CriticConfig], k: int) -> None:
        self.name, self.title = stage_name(context, k), f"phase 2 (critic for {context.groups.attributes[k].name})"
        config, accelerator = context.config, context.accelerator
        table, identities = context.data.table, context.data.identities
        lacking = np.flatnonzero(table.select(context.groups.attributes[k].negative))
        others = np.unique(np.concatenate([context.attribute_set(j) for j in range(len(context.groups.attributes)) if j != k]))
        negatives = np.intersect1d(lacking, context.split.train)
        positives = context.attribute_set(k)
        super().__init__(context, context.steps(config.phase2_epochs), np.concatenate([positives, negatives]))
        parts = {"positives": positives, "others": others, "negatives": negatives}
        # Held out together: the parts overlap, and an image or person of one must not come back by another.
        everyone = np.unique(np.concatenate(list(parts.values())))
        rest, held_out = holdout(identities, everyone, VALIDATION_SHARE, config.seed, "critic-validation", strata=[positives, others])
        generated = config.blurry_negatives and context.folder.finished("phase1")  # Method B has no phase 1
        harvest = load_harvest(context.folder, config.resolution) if generated else None
        self.sources = self._sources({part: np.intersect1d(index, rest) for part, index in parts.items()}, harvest)
        self.validation = self._validation_set({part: np.intersect1d(index, held_out) for part, index in parts.items()}, harvest)

        size = config.resolution
        shape = DiscriminatorConfig(size, size, config.width, deviation=False)
        self.critic = channels_last(Discriminator(shape)).to(context.device)
        optimizer = adam(self.critic.parameters(), config.critic_lr or config.lr, (0.9, 0.99), context.device)
        self.wrapped, self.optimizer = accelerator.prepare(self.critic, optimizer)
        self.networks, self.optimizers = {"critic": self.critic}, {"critic": self.optimizer}
        self.best = {name: tensor.clone() for name, tensor in self.critic.state_dict().items()}
        self.metadata: dict[str, Any] = {"balanced_accuracy": 0.0, "blurry_accuracy": 0.0, "best_step": 0, "worse": 0}
        self.validate_every = max(10, self.steps // VALIDATE_TIMES)

    # --- data
    def _sources(self, index: dict[str, np.ndarray], harvest: np.ndarray | None) -> dict[str, Any]:
        context = self.context
        sources = {part: context.reals(rows, f"{self.name}/{part}") for part, rows in index.items()}
        # Degraded images are half positives: blur itself must mean "no".
        mixed = np.concatenate([index["negatives"], np.resize(index["positives"], len(index["negatives"]))])
        sources["degraded"] = context.reals(mixed, f"{self.name}/degraded")
        if harvest is not None and len(harvest) >= 8:
            kept = np.flatnonzero(np.arange(len(harvest)) % 5 > 0)  # every fifth validates
            sources["harvest"] = type(sources["degraded"])(harvest, kept, f"{self.name}/harvest", context.randomness, context.clock)
        return sources

    def _negative_parts(self, step: int, count: int) -> list[Part]:
        """A quarter each: harvested, degraded, carrying another attribute, any without attribute k."""
        quarter = count // 4
        blurry = self.sources.get("harvest")
        parts = [Part(self.sources["others"](step, quarter)), Part(self.sources["negatives"](step, count - 3 * quarter))]
        if not self.context.config.blurry_negatives:
            return [*parts, Part(self.sources["negatives"](step + self.steps, 2 * quarter))]
        degraded = quarter if blurry else 2 * quarter
        random, size = self.context.randomness, self.context.config.resolution
        parts.append(Part(
            self.sources["degraded"](step, degraded),
            random.uniform(f"{self.name}/degradation", step, (degraded, 2)),
            random.noise(f"{self.name}/grain", step, (degraded, 3, size, size)),
        ))  # fmt: skip
        if blurry:
            parts.append(Part(blurry(step, quarter)))
        return parts

    def _validation_set(self, index: dict[str, np.ndarray], harvest: np.ndarray | None) -> dict[str, Tensor]:
        """Images the critic never trains on, the same on every process: positives, negatives, blurry."""
        images = self.context.data.images

        def take(rows: np.ndarray) -> Tensor:
            spread = rows[:: max(1, math.ceil(len(rows) / VALIDATION_MOST))]
            return to_float(np.ascontiguousarray(images[spread]))

        positives = take(index["positives"])
        negatives = torch.cat([take(index["others"]), take(index["negatives"])])
        numbers = generator(self.context.config.seed, f"{self.name}/validation")
        u = torch.from_numpy(numbers.random((len(positives), 2), dtype=np.float32))
        grain = torch.from_numpy(numbers.standard_normal(tuple(positives.shape), dtype=np.float32))
        blurry = [degrade(positives, u, grain)] if len(positives) else []
        if harvest is not None and len(harvest) >= 8:
            blurry.append(to_float(np.ascontiguousarray(harvest[::5])))
        return {"positives": positives, "negatives": negatives, "blurry": torch.cat(blurry) if blurry else negatives[:0]}

    # --- training
    def draw(self, step: int) -> Lesson:
        config, half = self.context.config, self.context.config.batch // 2
        parts = [Part(self.sources["positives"](step, half)), *self._negative_parts(step, half)]
        if config.critic_views > 1:  # trained on the views it will be averaged over
            parts = [part._replace(view=self._view(part, f"{self.name}/views{i}", step)) for i, part in enumerate(parts)]
        return Lesson(parts, penalised=config.critic_gradient_penalty > 0 and step % config.r1_every == 0)

    def _view(self, part: Part, stream: str, step: int) -> np.ndarray:
        """Numbers of one random view of each image; drawn per part of the batch, as every process holds a slice of every part."""
        count = len(part.images) * self.context.accelerator.num_processes
        return self.context.randomness.uniform(stream, step, (count, VIEW_NUMBERS))

    def compute(self, lesson: Lesson) -> dict[str, Tensor]:
        config, penalised = self.context.config, lesson.penalised
        images = torch.cat([shown(part) for part in lesson.parts]).detach().requires_grad_(penalised)
        critic = self.wrapped if penalised else self.first_order(self.wrapped)
        with self.arithmetic(full=penalised):
            scores = critic(images).float()
        yes, no = scores[: len(scores) // 2], scores[len(scores) // 2 :]
        loss = (yes - 1).square().mean() + no.square().mean()
        terms = {"D2/loss": loss, "D2/yes": yes.mean(), "D2/no": no.mean()}
        if penalised:
            penalty = r1_penalty(scores, images, config.critic_gradient_penalty)
            terms["D2/r1"] = penalty
            loss = loss + config.r1_every * penalty
        self.optimizer.zero_grad(set_to_none=True)
        self.context.accelerator.backward(loss)
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    @torch.no_grad()
    def after_step(self, step: int) -> bool:
        if step % self.validate_every and step != self.steps:
            return False
        rates = {name: self._share_yes(images) for name, images in self.validation.items()}
        balanced = (rates["positives"] + 1.0 - rates["negatives"]) / 2
        if balanced > self.metadata["balanced_accuracy"]:
            self.metadata |= {"balanced_accuracy": balanced, "blurry_accuracy": 1.0 - rates["blurry"], "best_step": step, "worse": 0}
            self.best = {name: tensor.clone() for name, tensor in self.critic.state_dict().items()}
        else:
            self.metadata["worse"] += 1
        return self.metadata["worse"] >= self.context.config.patience

    def _share_yes(self, images: Tensor) -> float:
        """Share of images scored nearer to 1 than to 0."""
        if len(images) == 0:
            return 0.5
        return float(torch.cat([self.critic(part.to(self.context.device)) for part in images.split(256)]).gt(0.5).float().mean())

    def summary(self) -> str:
        return "balanced accuracy {balanced_accuracy:.3f}, accuracy on blurry negatives {blurry_accuracy:.3f}".format(**self.metadata)

    # --- state
    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return checkpoint.pack("best", self.best), dict(self.metadata)

    def load_extra_state(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        self.best = checkpoint.unpack("best", tensors)
        refuse_other_shapes("the best critic so far", "", self.best, self.critic.state_dict())
        self.metadata = checked(metadata, _Course, "its state", "extra")

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        from dataclasses import asdict

        return checkpoint.pack("critic", self.best), {"critic": asdict(self.critic.config), **self.metadata}
