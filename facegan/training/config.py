"""The configuration of a run: one frozen dataclass, one line per field, recipes as differences from it.

The command line is made from the fields, so that a flag, its default and its help cannot drift apart.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from facegan.errors import FaceganError


def option(default: Any, help: str, choices: tuple[str, ...] | None = None, group: str = "run") -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "group": group})


@dataclass(frozen=True)
class TrainConfig:
    # --- run
    out: str = option("", "folder of the run; the same command again resumes it")
    data: str = option("synthetic", "folder or .zip of labelled faces (see `facegan data inspect`), or 'synthetic'")
    attributes: str = option("bald,beard", "attributes the faces shall carry together, in order; built-in names, columns, or name=SELECTOR/SELECTOR")
    resolution: int = option(64, "image size in pixels: 16, 32, 64, 128, 256 or 512")
    method: str = option("a", "a: three-phase GAN with AdaIN merge", ("a",))
    recipe: str = option("best", "set of defaults below; any flag overrides its recipe", ("best", "seed", "plain", "conditional"))
    seed: int = option(0, "every random number of the run is a function of it")
    num: int = option(8000, "faces to render when --data is 'synthetic'")
    batch: int = option(32, "images a step, over all processes together")
    minimum_images: int = option(16, "fewest images of each attribute that training accepts")
    mixed_precision: str = option("no", "arithmetic of the networks; R1 stays in fp32", ("no", "bf16"))
    cpu: bool = option(False, "train on the CPU even where there is a GPU")
    snapshot_every: int = option(0, "steps between sample grids and checkpoints; 0: twenty a stage, at least every 200 steps")
    log_every: int = option(20, "steps between rows of metrics.jsonl")
    keep_checkpoints: int = option(2, "checkpoints kept, newest first")
    phase1_from: str = option("", "take phase 1 (and pre-training) from this finished run instead of training it")
    # --- length: an epoch is --images-per-epoch images
    images_per_epoch: int = option(0, "images in an epoch; 0: the size of the smallest attribute's set", group="length")
    pretrain_epochs: int = option(0, "epochs on all faces that do not carry the attributes together, before phase 1", group="length")
    phase1_epochs: int = option(400, "phase 1: epochs of the generator for attribute 1", group="length")
    phase2_epochs: int = option(60, "phase 2: most epochs of a critic (it stops early)", group="length")
    epochs: int = option(1000, "phase 3: epochs", group="length")
    switch_epoch: int = option(-1, "phase 3: epoch at which H is saved, the reals change to attribute 1 and the merge begins; -1: half of --epochs, 0: never", group="length")
    # --- networks
    width: float = option(1.0, "width of generator and discriminators (1: 128 maps at 8 px, 16 at 64 px)", group="networks")
    z_shape: str = option("128", "shape of the noise: C, or C,H,W for a noise image", group="networks")
    modulate: bool = option(True, "let z scale and shift the generator's maps at every size: more variety, slower to sharpen", group="networks")
    minibatch_deviation: bool = option(True, "show the discriminators how much the images of a batch differ, against collapse", group="networks")
    conditional: bool = option(False, "feed the attribute vector y to generator and discriminators", group="networks")
    grow: bool = option(True, "phase 3: add zero-initialised residual blocks to the generator", group="networks")
    # --- optimisation
    lr: float = option(4e-3, "Adam's learning rate (equalised layers)", group="optimisation")
    beta1: float = option(0.0, "Adam's beta 1", group="optimisation")
    beta2: float = option(0.99, "Adam's beta 2", group="optimisation")
    inherit_lr: float = option(0.1, "phase 3: factor on the learning rate of layers inherited from phase 1", group="optimisation")
    inherit_discriminator: bool = option(False, "phase 3: start the discriminators from phase 1's, as the generator does", group="optimisation")
    ema_images: float = option(2_000.0, "half-life, in images, of the running average of the weights that is sampled; 0: none", group="optimisation")
    r1_gamma: float = option(5.0, "weight of the R1 penalty (Mescheder et al. 2018); 0: none", group="optimisation")
    r1_every: int = option(4, "steps between R1 penalties, each weighted by that number", group="optimisation")
    augment: str = option("none", "differentiable augmentation of what discriminators see (Zhao et al. 2020)", ("none", "color,translation"), group="optimisation")
    # --- phase 3: the losses
    discriminators: str = option("full", "full: one on whole images of X_k; regional: one per attribute, under its mask; both: and a full one on composites", ("full", "regional", "both"), group="losses")
    masks: str = option("regression", "regions of the attributes: learned by per-pixel regression on the labels, from the critics' gradients, or fixed halves", ("regression", "saliency", "halves"), group="losses")
    alpha: str = option("1,1,0.1", "a1,a2,a3 of L(D3)", group="losses")
    beta: str = option("2,30", "b1,b2 of L(G3); b2 = 0 drops the frozen critics", group="losses")
    f: str = option("min", "f in (f(D2) - 1)^2", ("min", "identity", "clamp", "sigmoid"), group="losses")
    critic_views: int = option(1, "differentiable views over which a critic's score is averaged before f", group="losses")
    # --- phases 1 and 2: harvest and critics
    blurry_negatives: bool = option(True, "harvest blurry and noisy samples in phase 1 and show them to the critics as negatives", group="critics")
    harvest_every: int = option(4, "epochs between harvests", group="critics")
    critics: str = option("previous", "critics for attributes 1..K-1 (as the source) or for all", ("previous", "all"), group="critics")
    critic_gradient_penalty: float = option(0.0, "R1 penalty on the critics, which makes them harder to fool", group="critics")
    patience: int = option(8, "validations without a better balanced accuracy before a critic stops", group="critics")
    # --- merge
    merge: str = option("feature", "AdaIN merge with the snapshot H after the switch", ("none", "image", "feature", "regional"), group="merge")
    merge_alpha: float = option(0.5, "strength that the merge reaches", group="merge")
    merge_ramp: float = option(0.2, "share of the epochs after the switch over which it rises from 0", group="merge")
    replay: float = option(0.25, "--merge regional: share of the fakes that must match H inside the mask", group="merge")
    # --- self-augmentation
    self_augment: bool = option(False, "add accepted samples of the generator to the real images", group="self-augmentation")
    self_augment_share: float = option(0.25, "most of a batch that own samples may take", group="self-augmentation")
    self_augment_buffer: int = option(512, "own samples kept (first in, first out)", group="self-augmentation")

    @property
    def z_dims(self) -> tuple[int, ...]:
        return tuple(numbers(self.z_shape, "z_shape", int))

    @property
    def alphas(self) -> tuple[float, ...]:
        return tuple(numbers(self.alpha, "alpha", float, 3))

    @property
    def betas(self) -> tuple[float, ...]:
        return tuple(numbers(self.beta, "beta", float, 2))

    @property
    def switch(self) -> int:
        return self.epochs // 2 if self.switch_epoch < 0 else self.switch_epoch

    @property
    def regional(self) -> bool:
        """Whether anything of phase 3 looks through the attributes' masks."""
        return self.discriminators != "full" or self.merge == "regional"

    @property
    def by_saliency(self) -> bool:
        """Whether those masks come from the critics, so that phase 3 needs all of them."""
        return self.regional and self.masks == "saliency"

    def to_json(self) -> dict:
        return asdict(self)


# What a recipe changes. `seed`: every value of the source; what that leaves open (R1, the average, modulation) is as above.
# `best`: what docs/results.md shows to work.
# `plain`: the baseline, a GAN fine-tuned on attribute 2. `conditional`: Mirza & Osindero asked for the unseen combination.
TRICKS = dict(augment="color,translation", inherit_discriminator=True)
RECIPES: dict[str, dict[str, Any]] = {
    "seed": {},
    "best": dict(
        **TRICKS, epochs=400, discriminators="regional", masks="regression", inherit_lr=1.0, alpha="1,1,0", beta="1,0",
        merge="none", switch_epoch=0, critics="all",
    ),
    "plain": dict(**TRICKS, epochs=400, inherit_lr=1.0, alpha="1,1,0", beta="1,0", merge="none", switch_epoch=0, grow=False),
    "conditional": dict(**TRICKS, conditional=True, epochs=0, phase2_epochs=0, alpha="1,1,0", beta="1,0", merge="none"),
}  # fmt: skip


def numbers(text: str, name: str, kind: type, count: int | None = None) -> list:
    """`"1,1,0.1"` -> [1.0, 1.0, 0.1]."""
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        raise FaceganError(f"--{name.replace('_', '-')} is {text!r}: expected {kind.__name__}s joined by commas") from None
    if count is not None and len(values) != count:
        raise FaceganError(f"--{name.replace('_', '-')} is {text!r}: expected {count} numbers, got {len(values)}")
    return values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per field, in the fields' groups; absent flags stay absent, so that a recipe can tell."""
    groups: dict[str, Any] = {}
    for item in fields(TrainConfig):
        name = item.metadata["group"]
        group = groups.setdefault(name, None) or parser.add_argument_group(name)
        groups[name] = group
        flag, text = "--" + item.name.replace("_", "-"), item.metadata["help"].replace("%", "%%")
        text += "" if item.default == "" else f" (default: {item.default}{recipe_notes(item.name)})"
        common = dict(dest=item.name, default=argparse.SUPPRESS, help=text)
        if isinstance(item.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        else:
            kind = type(item.default)
            metavar = None if item.metadata["choices"] else kind.__name__.upper().replace("STR", "TEXT")
            group.add_argument(flag, type=kind, choices=item.metadata["choices"], metavar=metavar, **common)


def recipe_notes(name: str) -> str:
    notes = [f"{recipe}: {values[name]}" for recipe, values in RECIPES.items() if name in values]
    return "; " + ", ".join(notes) if notes else ""


def from_arguments(values: dict[str, Any]) -> TrainConfig:
    """Defaults, then the recipe, then what the user typed; checked."""
    recipe = values.get("recipe", TrainConfig.recipe)
    config = replace(TrainConfig(), **{**RECIPES[recipe], **values, "recipe": recipe})
    return validated(config)


def validated(config: TrainConfig) -> TrainConfig:
    if not config.out:
        raise FaceganError("--out is missing: name the folder of the run, e.g. --out runs/first")
    if config.resolution not in (16, 32, 64, 128, 256, 512):
        raise FaceganError(f"--resolution is {config.resolution}: expected 16, 32, 64, 128, 256 or 512")
    for name in ("batch", "log_every", "r1_every", "keep_checkpoints", "critic_views", "harvest_every", "minimum_images",
                 "patience", "self_augment_buffer"):  # fmt: skip
        if not getattr(config, name) >= 1:
            raise FaceganError(f"--{name.replace('_', '-')} is {getattr(config, name)}: expected at least 1")
    for name in ("epochs", "phase1_epochs", "phase2_epochs", "pretrain_epochs", "images_per_epoch", "snapshot_every", "seed",
                 "num", "lr", "inherit_lr", "r1_gamma", "critic_gradient_penalty", "ema_images", "width"):  # fmt: skip
        if not getattr(config, name) >= 0:  # so that NaN is refused too
            raise FaceganError(f"--{name.replace('_', '-')} is {getattr(config, name)}: expected 0 or more")
    if config.epochs and not 0 <= config.switch <= config.epochs:
        raise FaceganError(f"--switch-epoch is {config.switch}: expected 0 to --epochs ({config.epochs})")
    if config.epochs and config.merge != "none" and not 0 < config.switch < config.epochs:
        raise FaceganError(
            f"--merge is {config.merge!r}, but would never begin with the switch at epoch {config.switch} of {config.epochs}: "
            "add --switch-epoch -1 (and --epochs of more than 1), or --merge none"
        )
    if config.epochs and config.by_saliency and not config.phase2_epochs:
        raise FaceganError("--masks is 'saliency', which needs critics, but --phase2-epochs is 0: give it epochs, or --masks regression")
    for name in ("merge_alpha", "replay", "self_augment_share", "merge_ramp"):
        if not 0 <= getattr(config, name) <= 1:
            raise FaceganError(f"--{name.replace('_', '-')} is {getattr(config, name)}: expected 0 to 1")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(config, name) < 1:
            raise FaceganError(f"--{name} is {getattr(config, name)}: expected 0 to below 1")
    if config.self_augment_share > 0.25:
        raise FaceganError(f"--self-augment-share is {config.self_augment_share}: the real share never falls below 0.75, so expected at most 0.25")
    for name, weights in (("alpha", config.alphas), ("beta", config.betas)):
        if min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise FaceganError(f"--{name} is {getattr(config, name)!r}: expected weights of 0 or more, and not all of them 0")
    if not sum(config.alphas[:2]) > 0:
        raise FaceganError(f"--alpha is {config.alpha!r}: expected a1 + a2 above 0, as a discriminator without critics has only these")
    if min(config.z_dims) < 1:
        raise FaceganError(f"--z-shape is {config.z_shape!r}: expected sizes of at least 1")
    return config
