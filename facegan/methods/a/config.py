"""Method A's configuration: the three phases, their losses, the merge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from facegan.config import CriticConfig, option
from facegan.errors import FaceganError
from facegan.files import quoted

# What a recipe changes of the defaults below. `thesis`: nothing, they are the source's values where it names them.
# `best`: what docs/results.md shows to work.
# `plain`: the baseline, a GAN fine-tuned on attribute 2. `conditional`: Mirza & Osindero asked for the unseen combination.
ADVERSARIAL = dict(d_loss_weights=(1.0, 1.0, 0.0), g_loss_weights=(1.0, 0.0), merge="none")  # no critics, no merge
TRICKS = dict(augment="color,translation", inherit_discriminator=True)
RECIPES: dict[str, dict[str, Any]] = {
    "thesis": {},
    "best": dict(
        **TRICKS, epochs=400, discriminators="regional", masks="regression", inherit_lr=1.0, **ADVERSARIAL, switch_epoch=0, critics="all"
    ),
    "plain": dict(**TRICKS, epochs=400, inherit_lr=1.0, **ADVERSARIAL, switch_epoch=0, grow=False),
    "conditional": dict(**TRICKS, conditional=True, epochs=0, phase2_epochs=0, **ADVERSARIAL),
}


@dataclass(frozen=True)
class MethodAConfig(CriticConfig):
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = RECIPES

    method: str = option("a", "the method")
    recipe: str = option("best", "set of defaults below; any flag overrides its recipe", tuple(RECIPES))
    phase1_from: str = option("", "take phase 1 (and pre-training) from this finished run instead of training it")
    pretrain_from: str = option(
        "",
        "start pre-training, or phase 1 where there is none, from these networks, of whatever faces and attributes: a run of this method, "
        "a folder of `facegan convert`, or a name that comes with the package",
    )
    # --- length
    pretrain_epochs: int = option(0, "epochs on all faces that do not carry the attributes together, before phase 1", group="length")
    phase1_epochs: int = option(400, "phase 1: epochs of the generator for attribute 1", group="length")
    epochs: int = option(1000, "phase 3: epochs", group="length")
    switch_epoch: int = option(
        -1,
        "phase 3: epoch at which H is saved, the reals change to attribute 1 and the merge begins; -1: half of `epochs`, 0: never",
        group="length",
    )
    # --- networks
    z_shape: tuple[int, ...] = option((128,), "shape of the noise: C, or C,H,W for a noise image", group="networks")
    modulate: bool = option(
        True, "let z scale and shift the generator's maps at every size: more variety, slower to sharpen", group="networks"
    )
    minibatch_deviation: bool = option(
        True, "show the discriminators how much the images of a batch differ, against collapse", group="networks"
    )
    grow: bool = option(True, "phase 3: add zero-initialised residual blocks to the generator", group="networks")
    # --- optimisation
    inherit_lr: float = option(0.1, "phase 3: factor on the learning rate of layers inherited from phase 1", group="optimisation")
    inherit_generator: bool = option(
        True, "phase 3: start the generator from phase 1's; no: from scratch, a GAN that never knew attribute 1", group="optimisation"
    )
    inherit_discriminator: bool = option(
        False, "phase 3: start the discriminators from phase 1's, as the generator does", group="optimisation"
    )
    ema_images: float = option(
        2_000.0, "half-life, in images, of the running average of the weights that is sampled; 0: none", group="optimisation"
    )
    r1_gamma: float = option(5.0, "weight of the R1 penalty (Mescheder et al. 2018); 0: none", group="optimisation")
    augment: str = option(
        "none",
        "differentiable augmentation of what discriminators see (Zhao et al. 2020)",
        ("none", "color,translation"),
        group="optimisation",
    )
    # --- phase 3: the losses
    discriminators: str = option(
        "full",
        "full: one on whole images of X_k; regional: one per attribute, under its mask; both: and a full one on composites",
        ("full", "regional", "both"),
        group="losses",
    )
    masks: str = option(
        "regression",
        "regions of the attributes: learned by per-pixel regression on the labels, from the critics' gradients, or fixed halves",
        ("regression", "saliency", "halves"),
        group="losses",
    )
    d_loss_weights: tuple[float, float, float] = option(
        (1.0, 1.0, 0.1), "weights of the discriminator's terms: real, fake, and what the critics accept", group="losses"
    )
    g_loss_weights: tuple[float, float] = option(
        (2.0, 30.0), "weights of the generator's terms: the discriminator, and the frozen critics (0 drops them)", group="losses"
    )
    critic_score_fn: str = option(
        "min", "f in (f(D2) - 1)^2, the critics' term of the generator", ("min", "identity", "clamp", "sigmoid"), group="losses"
    )
    # --- phases 1 and 2: harvest and critics
    harvest_every: int = option(4, "epochs between harvests", group="critics")
    # --- merge
    merge: str = option(
        "feature", "AdaIN merge with the snapshot H after the switch", ("none", "image", "feature", "regional"), group="merge"
    )
    merge_alpha: float = option(0.5, "strength that the merge reaches", group="merge")
    merge_ramp: float = option(0.2, "share of the epochs after the switch over which it rises from 0", group="merge")
    replay: float = option(0.25, "`merge=regional`: share of the fakes that must match H inside the mask", group="merge")
    # --- self-augmentation
    self_augment: bool = option(False, "add accepted samples of the generator to the real images", group="self-augmentation")
    self_augment_share: float = option(0.25, "most of a batch that own samples may take", group="self-augmentation")
    self_augment_buffer: int = option(512, "own samples kept (first in, first out)", group="self-augmentation")

    @property
    def switch(self) -> int:
        return self.epochs // 2 if self.switch_epoch < 0 else self.switch_epoch

    @property
    def may_grow(self) -> frozenset[str]:
        """`epochs`, where phase 3 is one stage in which nothing happens at a share of its length."""
        from facegan.data.attributes import names

        single = self.discriminators != "full" or len(names(self.attributes)) == 2
        by_length = self.merge != "none" or self.switch_epoch < 0 or self.lr_decay
        return frozenset({"epochs"} if single and not by_length else ())

    @property
    def regional(self) -> bool:
        """Whether anything of phase 3 looks through the attributes' masks."""
        return self.discriminators != "full" or self.merge == "regional"

    @property
    def by_saliency(self) -> bool:
        """Whether those masks come from the critics, so that phase 3 needs all of them."""
        return self.regional and self.masks == "saliency"

    def check(self) -> None:
        super().check()
        if self.resolution > 512:
            raise FaceganError(f"`resolution` is {self.resolution}: expected at most 512 for Method A")
        if self.phase1_from and self.pretrain_from:
            raise FaceganError("`phase1_from` and `pretrain_from`: a finished phase 1 has nothing left to start from; omit one of the two")
        self.at_least(1, "harvest_every", "self_augment_buffer")
        self.at_least(0, "epochs", "phase1_epochs", "pretrain_epochs", "inherit_lr", "r1_gamma", "ema_images")
        self.fractions("merge_alpha", "replay", "self_augment_share", "merge_ramp")
        if self.self_augment_share > 0.25:
            raise FaceganError(
                f"`self_augment_share` is {self.self_augment_share}: the real share never falls below 0.75, so expected at most 0.25"
            )
        if min(self.z_shape) < 1 or math.prod(self.z_shape) > 1 << 20:
            raise FaceganError(f"`z_shape` is {quoted(self.z_shape)!r}: expected sizes of at least 1, and at most a million numbers")
        self._check_phase3()

    def _check_phase3(self) -> None:
        for name in ("d_loss_weights", "g_loss_weights"):
            weights = getattr(self, name)
            if not min(weights) >= 0 or not 0 < sum(weights) < math.inf:
                raise FaceganError(f"`{name}` is {weights}: expected weights of 0 or more, and not all of them 0")
        if not sum(self.d_loss_weights[:2]) > 0:
            raise FaceganError(
                f"`d_loss_weights` is {self.d_loss_weights}: expected real or fake above 0, all that a discriminator without critics has"
            )
        if self.epochs and not 0 <= self.switch <= self.epochs:
            raise FaceganError(f"`switch_epoch` is {self.switch}: expected 0 to `epochs` ({self.epochs})")
        if self.epochs and self.merge != "none" and not 0 < self.switch < self.epochs:
            raise FaceganError(
                f"`merge` is {self.merge!r}, but would never begin with the switch at epoch {self.switch} of {self.epochs}: "
                "add `switch_epoch=-1` (and `epochs` of more than 1), or `merge=none`"
            )
        if self.epochs and self.by_saliency and not self.phase2_epochs:
            raise FaceganError(
                "`masks` is 'saliency', which needs critics, but `phase2_epochs` is 0: give it epochs, or `masks=regression`"
            )
