"""What a restorer's training begins with: a prior of faces behind a new encoder, or a restorer of this size or of half of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from torch import Tensor

from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.restorers import KIND, STAGE, open_restorer
from facegan.errors import FaceganError
from facegan.methods.common.parts import check_parts
from facegan.methods.common.provenance import without_joint_faces
from facegan.methods.restore.config import RestoreConfig
from facegan.models.restorer import Restorer, decoder_config, embed, enlarged
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.training.stage import Context

log = logging.getLogger("facegan.train")


@dataclass(frozen=True)
class Start:
    """A prior or a restorer, as it was read."""

    shape: StyleGAN2Config  # of the decoder to be trained
    theirs: StyleGAN2Config
    state: dict[str, Tensor]  # of the prior's generator, or of the whole restorer
    is_prior: bool
    discriminator: dict[str, Tensor] | None = None
    clean: bool = False  # whether it is known to have seen no joint face, by its own record

    def restorer(self) -> Restorer:
        """A new one, with the weights that there are."""
        restorer = Restorer(self.shape)
        if self.is_prior:
            embed(restorer, self.theirs, self.state)
        else:
            restorer.load_state_dict(self.state if self.theirs.resolution == self.shape.resolution else enlarged(restorer, self.state))
        return restorer


def start(config: RestoreConfig) -> Start:
    """What `prior` or `init_from` names; FaceganError where it does not suit the run."""
    found = _restorer(config) if config.init_from else _prior(config)
    lower = config.mixed_precision == "bf16"
    clamp = found.shape.conv_clamp or (256.0 if lower else None)
    return replace(found, shape=replace(found.shape, half_sizes=4 if lower else 0, conv_clamp=clamp))


def _prior(config: RestoreConfig) -> Start:
    prior = open_networks(config.prior)
    if prior.config.resolution != config.resolution:
        raise FaceganError(
            f"`prior={config.prior}` makes {prior.config.resolution} px faces, this run {config.resolution} px: change `resolution`"
        )
    try:
        shape = decoder_config(prior.config)
    except FaceganError as error:
        raise FaceganError(f"`prior={config.prior}`: {error}") from None
    state = prior.states["G_ema" if "G_ema" in prior.states else "G"]
    return Start(shape, prior.config, state, True, prior.states.get("D"), not prior.may_have_seen_joint_faces)


def _restorer(config: RestoreConfig) -> Start:
    found = open_restorer(config.init_from)
    theirs = found.config.resolution
    if config.resolution not in (theirs, 2 * theirs):
        raise FaceganError(
            f"`init_from={config.init_from}` restores to {theirs} px, this run to {config.resolution} px: expected `resolution` "
            f"{theirs} or {2 * theirs}"
        )
    try:
        shape = replace(found.config, resolution=config.resolution)
    except FaceganError as error:
        raise FaceganError(f"`init_from={config.init_from}`: {error}") from None
    return Start(shape, found.config, found.state, False, None, not found.may_have_seen_joint_faces)


def may_have_seen_joint_faces(context: Context[RestoreConfig], found: Start) -> bool:
    """Whether what it starts from may have; refuses what is known to have seen joint faces of this run."""
    config = context.config
    if found.is_prior:
        known = without_joint_faces(context, config.prior, "prior")
    else:
        known = without_joint_faces(context, config.init_from, "init_from", makes=KIND, stage=STAGE)
    return not (known and found.clean)


def check_start(context: Context[RestoreConfig]) -> None:
    """Refuses, before anything is trained or written, whatever the stage would refuse; warns of what may surprise."""
    config, found = context.config, start(context.config)
    check_parts(config.batch, config.accumulate, context.accelerator.num_processes, found.shape.group)
    if not found.is_prior and found.theirs.resolution < config.resolution:
        enlarged(Restorer(found.shape), found.state)
    option = "prior" if found.is_prior else "init_from"
    name = getattr(config, option)
    if may_have_seen_joint_faces(context, found):
        log.warning("%s may have seen faces with all attributes in its training, and so this run is marked", name)
    if found.discriminator is None and config.l1_kimg < config.kimg:
        why = "holds no discriminator" if found.is_prior else "gives its restorer alone"
        log.warning("`%s=%s` %s: a new discriminator has much to learn, so give it more than `discriminator_lr=%g`",
                    option, name, why, config.discriminator_lr)  # fmt: skip
