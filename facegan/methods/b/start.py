"""The networks that a training of Method B begins with: new ones, or those of --init-from."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, refuse_other_colours
from facegan.errors import FaceganError
from facegan.methods.b.config import MethodBConfig
from facegan.methods.common.parts import check_parts
from facegan.methods.common.provenance import without_joint_faces
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.training.stage import Context

log = logging.getLogger("facegan.train")


def network_config(config: MethodBConfig, attributes: int) -> StyleGAN2Config:
    """Of the networks that a training begins with where it has no `init_from`."""
    latent, layers, base, most = config.sizes
    lower = config.mixed_precision == "bf16"
    return StyleGAN2Config(
        config.resolution, latent, latent, attributes if config.conditional else 0, layers,
        channel_base=base, channel_max=most, architecture=config.architecture, noise="concat" if config.noise == "concat" else "add",
        growing=config.growing > 0, d_architecture=config.d_architecture,
        half_sizes=4 if lower else 0, conv_clamp=256.0 if lower else None,
    )  # fmt: skip


def check_start(context: Context[MethodBConfig]) -> None:
    """Refuses, before anything is trained or written, whatever `start` and the stage would refuse; warns of what may surprise."""
    config, found = context.config, start(context)
    check_parts(config.batch, config.accumulate, context.accelerator.num_processes, found.config.group)
    if config.freeze_d:
        with torch.device("meta"):
            Discriminator(found.config).freeze(config.freeze_d)
    if not config.init_from:
        return
    if found.may_have_seen_joint_faces:
        log.warning("%s may have seen faces with all attributes in its training, and so this run is marked", config.init_from)
    theirs = found.config
    asked = network_config(config, 0)
    alike = all(getattr(theirs, name) == getattr(asked, name) for name in ("architecture", "noise", "d_architecture"))
    if not alike or config.preset != "auto":
        log.warning(
            "`init_from`: its networks (%s, noise: %s, discriminator: %s) stand, whatever `architecture`, `noise`, `d_architecture` and "
            "`preset` say", theirs.architecture, theirs.noise, theirs.d_architecture,
        )  # fmt: skip


def start(context: Context[MethodBConfig]) -> StyleGAN2Checkpoint:
    """The configuration, and the weights where there are some to start from."""
    config = context.config
    wanted = network_config(config, len(context.groups.attributes))
    if not config.init_from:
        return StyleGAN2Checkpoint(wanted, {}, may_have_seen_joint_faces=False)
    found = open_networks(config.init_from)
    refuse_other_colours(found, config.init_from, "trained on")
    clean = not found.may_have_seen_joint_faces and without_joint_faces(context, config.init_from, "init_from")
    theirs = found.config
    if theirs.resolution != config.resolution or theirs.c_dim not in (0, wanted.c_dim):
        raise FaceganError(
            f"`init_from={config.init_from}` makes {theirs.resolution} px faces with {theirs.c_dim} label(s), this run "
            f"{config.resolution} px with {wanted.c_dim}: they must agree (but for a start without labels), so change `resolution` "
            "or `conditional`"
        )
    if config.freeze_d and "D" not in found.states:
        raise FaceganError(f"`freeze_d`: {config.init_from} holds no discriminator to freeze; omit it")
    shape = replace(theirs, half_sizes=wanted.half_sizes, conv_clamp=theirs.conv_clamp or wanted.conv_clamp)
    states = found.states
    if theirs.c_dim != wanted.c_dim:
        shape = replace(shape, c_dim=wanted.c_dim)
        states = labelled(found.states, shape)
    return StyleGAN2Checkpoint(shape, states, may_have_seen_joint_faces=not clean)


def labelled(states: dict[str, dict[str, Tensor]], shape: StyleGAN2Config) -> dict[str, dict[str, Tensor]]:
    """The weights of networks without labels as weights of `shape`, which has some.

    At first the generator makes the same faces whatever it is asked for: the mapping's first layer looks at the label with weights of
    zero, and is equalised by the inputs that it now has. The discriminator keeps what it sees, and its last layer and the embedding
    of labels are new.
    """
    fresh: dict[str, nn.Module] = {"G": Generator(shape), "D": Discriminator(shape)}
    found = {}
    for name, state in states.items():
        ours = dict(fresh["D" if name == "D" else "G"].state_dict())
        for key, value in state.items():
            if ours[key].shape == value.shape:
                ours[key] = value
            elif name != "D":  # mapping.fc0.weight [w_dim, z_dim]
                wider = torch.zeros_like(ours[key])
                wider[:, : value.shape[1]] = value * math.sqrt(wider.shape[1] / value.shape[1])
                ours[key] = wider
        found[name] = ours
    return found
