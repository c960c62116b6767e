"""What the networks of a run begin as where they are not new: those of the run's own pre-training, or those of --pretrain-from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from facegan.checkpoints import checkpoint
from facegan.checkpoints.merged import unpack_generator
from facegan.checkpoints.run import RunFolder
from facegan.checkpoints.starts import ORIGIN, RUN, SEEN, Start, open_start
from facegan.errors import FaceganError
from facegan.files import quoted
from facegan.methods.a.config import MethodAConfig
from facegan.methods.common.provenance import without_joint_faces
from facegan.models.merged_generator import MergedGenerator
from facegan.training.stage import Context

log = logging.getLogger("facegan.train")


@dataclass(frozen=True)
class Begun:
    """What a first stage goes on with."""

    networks: tuple[MergedGenerator, dict[str, Tensor]] | None = None  # and the state of a full-image discriminator; None: new ones
    used: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # rows of this run's data that they learned from elsewhere
    origin: dict[str, Any] = field(default_factory=dict)  # for the metadata of stages, see `origin_of`


def begun(context: Context[MethodAConfig], pretrained: str | None) -> Begun:
    """The networks of the run's own stage `pretrained`, or of `pretrain_from`, or new ones."""
    if pretrained:
        tensors, metadata = context.folder.load_stage(pretrained)
        networks = unpack_generator(tensors, metadata), checkpoint.unpack("discriminator", tensors)
        return Begun(networks, origin=origin_of(metadata))
    if not context.config.pretrain_from:
        return Begun()
    start, used, marked = checked_start(context)
    about = {"network": context.config.pretrain_from, "stage": start.stage, "images": start.images, "attributes": list(start.attributes)}
    networks = MergedGenerator(start.generator), dict(start.discriminator.state_dict())
    return Begun(networks, used, {ORIGIN: about, SEEN: marked})


def origin_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """What a stage's metadata say of where its networks come from, for a later stage to say too: nothing where they were new."""
    return {name: metadata[name] for name in (ORIGIN, SEEN) if name in metadata}


def check_start(context: Context[MethodAConfig]) -> None:
    """Refuses, before anything is trained or written, a `pretrain_from` that cannot be; says what it is, and what may surprise."""
    config = context.config
    if not config.pretrain_from or context.folder.finished("pretrain" if config.pretrain_epochs else "phase1"):
        return
    start, _, marked = checked_start(context)
    log.info("`pretrain_from=%s`: %s", config.pretrain_from, start.describe())
    if marked:
        log.warning("%s may have seen faces with all attributes in its training, and so this run is marked", config.pretrain_from)


def checked_start(context: Context[MethodAConfig]) -> tuple[Start, np.ndarray, bool]:
    """The networks, the rows of this run's data that they are known to have learned from, and whether joint faces may be among what
    they saw; FaceganError where they are of another shape, or saw what nothing in this run may."""
    config = context.config
    option = f"`pretrain_from={config.pretrain_from}`"
    try:
        start = open_start(config.pretrain_from)
    except FaceganError as error:
        raise FaceganError(f"{option}: {error}") from None
    refuse_other_networks(start, config, len(context.groups.attributes))
    used = np.zeros(0, np.int64)
    known = False
    if start.run and without_joint_faces(context, str(start.run), "pretrain_from", RUN, start.stage):
        known = not start.begun_elsewhere
        used = rows_seen(context, start)
    elif not start.run and start.data == context.data.fingerprint:
        if {*start.attributes} != {*config.attributes}:
            raise FaceganError(
                f"{option} learned from the images of `data`, divided for {quoted(', '.join(start.attributes))}, and so from some that "
                "nothing in this run may have seen: start from networks of other images, or train them again for these `attributes`"
            )
        used = context.split.train  # what the same images are divided into for the same attributes
    # Who has seen no face with all of some attributes has seen none with all of these and more.
    clean = not start.may_have_seen_joint_faces and (known or {*start.attributes} <= {*config.attributes})
    return start, used, not clean


def rows_seen(context: Context[MethodAConfig], start: Start) -> np.ndarray:
    """The rows of the run's data that a run of the same data learned from; FaceganError where the judge is to learn from some too."""
    assert start.run is not None
    ids = np.asarray(context.data.table.ids)
    rows = np.flatnonzero(np.isin(ids, RunFolder(start.run).ids(start.stage)))
    judged = np.intersect1d(rows, context.split.judge)
    if len(judged):
        raise FaceganError(
            f"`pretrain_from={context.config.pretrain_from}` learned from {len(judged)} images that this run keeps for its judge, such as "
            f"{ids[judged[0]]}: give the `attributes` of that run, which divide them alike, or start from another network"
        )
    return rows


def refuse_other_networks(start: Start, config: MethodAConfig, attributes: int) -> None:
    """FaceganError, which names every option that tells the shapes apart, unless networks of `config` have the shape of these."""
    shape = start.shape
    theirs = {
        "resolution": shape.resolution,
        "width": shape.width,
        "z_shape": shape.z_shape,
        "modulate": shape.modulated,
        "minibatch_deviation": start.discriminator.config.deviation,
        "conditional": shape.num_attributes > 0,
    }
    others = {name: value for name, value in theirs.items() if getattr(config, name) != value}
    differences = [f"`{name}` {_word(value)}, this run {_word(getattr(config, name))}" for name, value in others.items()]
    advice = [f"`{name}={value if isinstance(value, bool) else _word(value)}`" for name, value in others.items()]
    if config.conditional and shape.num_attributes not in (0, attributes):
        differences.append(f"{shape.num_attributes} `attributes`, this run {attributes}")
        advice.append(f"{shape.num_attributes} `attributes`")
    if differences:
        raise FaceganError(
            f"`pretrain_from={config.pretrain_from}` has networks of another shape ({'; '.join(differences)}): add {' '.join(advice)}, "
            "or start from another network"
        )


def _word(value: Any) -> str:
    """A value, for a message, as it is typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
