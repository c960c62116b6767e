"""Method B's configuration: StyleGAN2-ADA (Karras et al. 2020a, 2020b), and the critics by which its styles are searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from facegan.config import CriticConfig, option
from facegan.errors import FaceganError


class Preset(NamedTuple):
    """Sizes of the two networks."""

    latent: int  # length of z and w
    mapping_layers: int
    channel_base: int  # channels of a size: min(channel_base / size, channel_max)
    channel_max: int


# "tiny", "small" and "narrow" learn on a CPU or from a few hundred photos, "narrow" with half of the maps of "small" at the largest sizes,
# which take most of the time; "paper" is Karras et al. 2020a, at half width up to 256 px as there.
# fmt: off
PRESETS: dict[str, dict[int, Preset]] = {
    "tiny": {
        16:   Preset(128, 4,   512,  64),
        32:   Preset(128, 4,   512,  64),
        64:   Preset(128, 4,  1024,  64),
        128:  Preset(128, 4,  1024,  64),
        256:  Preset(128, 4,  2048,  64),
        512:  Preset(256, 8,  4096, 128),
        1024: Preset(256, 8,  8192, 128),
    },
    "small": {
        16:   Preset(128, 4,  1024,  96),
        32:   Preset(128, 4,  1024,  96),
        64:   Preset(128, 4,  1024,  96),
        128:  Preset(128, 4,  2048,  96),
        256:  Preset(256, 8,  4096, 128),
        512:  Preset(512, 8,  8192, 256),
        1024: Preset(512, 8, 16384, 256),
    },
    "narrow": {
        16:   Preset(128, 4,   512,  96),
        32:   Preset(128, 4,   512,  96),
        64:   Preset(128, 4,   512,  96),
        128:  Preset(128, 4,  1024,  96),
        256:  Preset(128, 4,  2048,  96),
        512:  Preset(256, 8,  4096, 128),
        1024: Preset(256, 8,  8192, 128),
    },
    "paper": {
        16:   Preset(512, 8, 16384, 512),
        32:   Preset(512, 8, 16384, 512),
        64:   Preset(512, 8, 16384, 512),
        128:  Preset(512, 8, 16384, 512),
        256:  Preset(512, 8, 16384, 512),
        512:  Preset(512, 8, 32768, 512),
        1024: Preset(512, 8, 32768, 512),
    },
}
# fmt: on


# What a recipe changes of the defaults below. `paper`: nothing. `short`: for some hours of a CPU, after Method A's networks: half of
# the maps where most of the time goes, a plain discriminator, one set of fakes a step, a strong R1, and no noise: a network this young
# learns no detail, and draws specks along edges with the noise in its place (docs/results.md).
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "short": dict(
        preset="narrow",
        d_architecture="orig",
        noise="none",
        lr=5e-3,
        share_fakes=True,
        r1_gamma=5.0,
        r1_every=4,
        pl_every=8,
        augment="none",
    ),
}


@dataclass(frozen=True)
class MethodBConfig(CriticConfig):
    """See the module."""

    MAKES: ClassVar[str] = "stylegan2"
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = RECIPES

    method: str = option("b", "the method")
    recipe: str = option(
        "paper", "set of defaults below; any flag overrides its recipe. paper: Karras et al.; short: hours of a CPU", tuple(RECIPES)
    )
    # --- length
    kimg: float = option(1000.0, "length of the training in thousands of images shown to the discriminator", group="length")
    # --- networks
    preset: str = option("auto", "sizes of the networks; auto: small up to 128 px, paper beyond", ("auto", *PRESETS), group="networks")
    architecture: Literal["skip", "resnet", "stylegan1"] = option(
        "skip",
        "the generator: StyleGAN2 with skip or resnet outputs, or StyleGAN1 (AdaIN in place of modulated weights)",
        ("skip", "resnet", "stylegan1"),
        group="networks",
    )
    d_architecture: Literal["resnet", "orig"] = option(
        "resnet",
        "the discriminator: residual blocks, or two convolutions a size alone, which take two thirds of the time",
        ("resnet", "orig"),
        group="networks",
    )
    noise: Literal["add", "concat", "none"] = option(
        "add",
        "how noise enters a layer: added, concatenated as maps beside the features (the form of a restorer's prior, GPEN), or not at all",
        ("add", "concat", "none"),
        group="networks",
    )
    growing: int = option(
        0, "grow from this size (4 or 8), each next one faded in (Karras et al. 2018); 0: all sizes at once", group="networks"
    )
    grow_kimg: float = option(100.0, "`growing`: thousands of images a size takes, half of them fading in", group="networks")
    init_from: str = option(
        "", "start from this network: a run, a folder of `facegan convert`, a .pkl or .pt; its sizes replace the preset", group="networks"
    )
    freeze_d: int = option(0, "with `init_from`: the discriminator's first N layers stay as they are (Mo et al. 2020)", group="networks")
    # --- optimisation
    lr: float = option(2.5e-3, "Adam's learning rate (equalised layers)", group="optimisation")
    accumulate: int = option(1, "parts that a batch is computed in, one after the other, where memory is short", group="optimisation")
    share_fakes: bool = option(
        False, "show the discriminator the fakes that the generator has just learned from, in place of new ones", group="optimisation"
    )
    r1_gamma: float = option(-1.0, "weight of R1; -1: 0.0002 x resolution^2 / batch, 0: none", group="optimisation")
    r1_every: int = option(16, "steps between R1 penalties, each weighted by that number", group="optimisation")
    pl_weight: float = option(2.0, "weight of the path length penalty; 0: none", group="optimisation")
    pl_every: int = option(4, "steps between path length penalties, each weighted by that number", group="optimisation")
    pl_decay: float = option(0.01, "how fast the mean path length follows", group="optimisation")
    style_mixing: float = option(0.9, "share of the fakes that take a second style from a random layer on", group="optimisation")
    ema_kimg: float = option(
        10.0, "half-life of the averaged weights that are sampled, in thousands of images; 0: none", group="optimisation"
    )
    ema_rampup: float = option(
        0.05,
        "early on the half-life is at most this share of the images seen; not with `init_from`, whose average is kept",
        group="optimisation",
    )
    augment: str = option(
        "ada",
        "augmentation of what the discriminator sees (Karras et al. 2020b): adaptive, of a fixed strength, or none",
        ("ada", "fixed", "none"),
        group="optimisation",
    )
    augment_p: float = option(0.2, "`augment=fixed`: the probability of each augmentation", group="optimisation")
    ada_start: float = option(
        0.0, "`augment=ada`: the strength to begin with, such as the one that the run of `init_from` ended at", group="optimisation"
    )
    ada_target: float = option(0.6, "`augment=ada`: E[sign D(real)] that the strength is steered to", group="optimisation")
    ada_kimg: float = option(500.0, "`augment=ada`: thousands of images in which the strength can rise from 0 to 1", group="optimisation")
    # --- critics
    width: float = option(0.5, "width of the critics' networks (1: 128 maps at 8 px, 16 at 64 px)", group="critics")
    critics: str = option(
        "all",
        "critics, by which mixes of styles are searched and edits checked, for all attributes or all but the last",
        ("all", "previous"),
        group="critics",
    )
    critic_lr: float = option(2e-3, "the critics' learning rate; 0: that of `lr`", group="critics")

    @property
    def gamma(self) -> float:
        return 0.0002 * self.resolution**2 / self.batch if self.r1_gamma == -1 else self.r1_gamma

    @property
    def sizes(self) -> Preset:
        preset = ("small" if self.resolution <= 128 else "paper") if self.preset == "auto" else self.preset
        return PRESETS[preset][self.resolution]

    def check(self) -> None:
        super().check()
        self.at_least(1, "accumulate", "pl_every")
        if not self.ada_kimg > 0:
            raise FaceganError(f"`ada_kimg` is {self.ada_kimg}: expected more than 0")
        self.at_least(0, "kimg", "freeze_d", "pl_weight", "ema_kimg", "ema_rampup", "grow_kimg")
        self.fractions("pl_decay", "style_mixing", "augment_p", "ada_start", "ada_target")
        if self.r1_gamma != -1 and not self.r1_gamma >= 0:
            raise FaceganError(f"`r1_gamma` is {self.r1_gamma}: expected 0 or more, or -1 for 0.0002 x resolution^2 / batch")
        if self.growing not in (0, 4, 8):
            raise FaceganError(f"`growing` is {self.growing}: expected 4 or 8, the size to begin with, or 0")
        doublings = (self.resolution // self.growing).bit_length() - 1 if self.growing else 0
        if self.kimg < self.grow_kimg * doublings:
            raise FaceganError(
                f"`kimg` is {self.kimg:g}: growing to {self.resolution} px takes {doublings} x `grow_kimg` ({self.grow_kimg:g}) = "
                f"{self.grow_kimg * doublings:g}; give it more, or a smaller `grow_kimg`"
            )
        if self.growing and self.d_architecture != "resnet":
            raise FaceganError(f"`d_architecture` is {self.d_architecture!r}: growing takes residual blocks; omit it, or `growing`")
        if self.growing and self.init_from:
            raise FaceganError("`growing` and `init_from`: a finished network has all its sizes; omit one of the two")
        if self.freeze_d and not self.init_from:
            raise FaceganError(
                f"`freeze_d` is {self.freeze_d}: without `init_from` it would freeze random layers; name a network to start from"
            )
        if self.batch % self.accumulate:
            raise FaceganError(f"`accumulate` is {self.accumulate}: expected a divisor of `batch` ({self.batch})")
