"""The configuration of a restorer's training: a GAN prior behind an encoder, on faces that are degraded on the way (GPEN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from facegan.config import TrainConfig, option
from facegan.errors import FaceganError
from facegan.methods.restore.ranges import Degradation


@dataclass(frozen=True)
class RestoreConfig(TrainConfig):
    """See the module."""

    MAKES: ClassVar[str] = "restorer"

    method: str = option("restore", "the method")
    prior: str = option(
        "", "StyleGAN2 network to build on: a run of `--method b` (best with `noise=concat`), a folder of `facegan convert`, a .pkl or .pt"
    )
    init_from: str = option(
        "",
        "restorer to start from in place of a prior, of this size or half of it: a run of `--method restore`, a folder of `facegan "
        "convert`, GPEN's .pth, or the name of one that comes with the package",
    )
    # --- length
    kimg: float = option(500.0, "length of the training in thousands of images", group="length")
    l1_kimg: float = option(
        0.0,
        "the first so many of them by L1 alone, without the discriminator: faster, and true to the face before it is sharp",
        group="length",
    )
    # --- losses
    adversarial_weight: float = option(1.0, "weight of the discriminator's verdict", group="losses")
    l1_weight: float = option(
        1.0, "weight of the distance to the unspoiled face, in mean pixels: more of it is truer, less of it sharper", group="losses"
    )
    feature_weight: float = option(0.02, "weight of the distance between the discriminator's features of both", group="losses")
    r1_gamma: float = option(-1.0, "weight of R1; -1: 0.0002 x resolution^2 / batch, 0: none", group="losses")
    # --- optimisation: encoder, decoder and discriminator learn at 100 : 10 : 1
    lr: float = option(
        2e-3, "Adam's learning rate of the encoder and of the skip connections' scales (equalised layers)", group="optimisation"
    )
    decoder_lr: float = option(0.1, "the decoder's learning rate, as a share of `lr`", group="optimisation")
    discriminator_lr: float = option(0.01, "the discriminator's learning rate, as a share of `lr`", group="optimisation")
    r1_every: int = option(16, "steps between R1 penalties, each weighted by that number", group="optimisation")
    accumulate: int = option(1, "parts that a batch is computed in, one after the other, where memory is short", group="optimisation")
    ema_kimg: float = option(10.0, "half-life of the averaged weights that restore, in thousands of images; 0: none", group="optimisation")
    ema_rampup: float = option(0.05, "early on the half-life is at most this share of the images seen", group="optimisation")
    # --- degradation: every face gets a value out of each range
    blur: tuple[float, float] = option((0.0, 3.0), "sigma of the blur in pixels", group="degradation")
    downsample: tuple[float, float] = option((0.8, 8.0), "how many times smaller the face becomes", group="degradation")
    noise: tuple[float, float] = option((0.0, 20.0), "sigma of the noise, of 255", group="degradation")
    jpeg: tuple[float, float] = option((60.0, 100.0), "quality of the JPEG", group="degradation")
    fade: tuple[float, float] = option((0.0, 0.2), "share of saturation that is lost, and of contrast", group="degradation")

    @property
    def gamma(self) -> float:
        return 0.0002 * self.resolution**2 / self.batch if self.r1_gamma == -1 else self.r1_gamma

    @property
    def degradation(self) -> Degradation:
        return Degradation(self.blur, self.downsample, self.noise, self.jpeg, self.fade)

    def check(self) -> None:
        super().check()
        if not self.prior and not self.init_from:
            raise FaceganError(
                f"`prior` is missing: train one by `facegan train --method b --noise concat --resolution {self.resolution} "
                "--out runs/prior` on the same `data`, then give `prior=runs/prior`; or start from a restorer by `init_from`"
            )
        if self.prior and self.init_from:
            raise FaceganError("`prior` and `init_from`: a restorer has a decoder of its own; omit one of the two")
        self.at_least(1, "accumulate")
        self.at_least(
            0, "kimg", "adversarial_weight", "l1_weight", "feature_weight", "decoder_lr", "discriminator_lr", "ema_kimg", "ema_rampup"
        )
        if self.r1_gamma != -1 and not self.r1_gamma >= 0:
            raise FaceganError(f"`r1_gamma` is {self.r1_gamma}: expected 0 or more, or -1 for 0.0002 x resolution^2 / batch")
        if not 0 <= self.l1_kimg <= self.kimg or self.l1_kimg and not self.l1_weight:
            raise FaceganError(f"`l1_kimg` is {self.l1_kimg:g}: expected 0 to `kimg` ({self.kimg:g}), with an `l1_weight` above 0")
        if not self.adversarial_weight + self.l1_weight + self.feature_weight > 0:
            raise FaceganError("`adversarial_weight`, `l1_weight` and `feature_weight` are all 0: nothing would be learned")
        if self.batch % self.accumulate:
            raise FaceganError(f"`accumulate` is {self.accumulate}: expected a divisor of `batch` ({self.batch})")
        _ = self.degradation  # its own refusals
