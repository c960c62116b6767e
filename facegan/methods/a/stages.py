"""Method A: three phases of convolutional GANs and an AdaIN merge (the source's "generation method A").

    pretrain? -> phase1 -> [phase2-<k-1> -> phase3-<k>] for k = 2..K         one full-image discriminator (recipe thesis)
    pretrain? -> phase1 -> phase2-<k> for every k -> phase3-<all>            regional discriminators (recipe best)

With one full-image discriminator and K >= 3, each next phase 3 inherits G alone, without its merge with H. Saliency masks need
all critics, which then come before the first phase 3.
"""

from __future__ import annotations

from collections.abc import Callable

from facegan.checkpoints.run import RunFolder, shown
from facegan.errors import FaceganError
from facegan.methods import config_of
from facegan.methods.a.config import MethodAConfig
from facegan.methods.a.phase1 import Phase1, Pretraining
from facegan.methods.a.phase3 import Phase3
from facegan.methods.a.start import check_start
from facegan.methods.common import critics as phase2
from facegan.training import regions
from facegan.training.stage import Context, Stage, Stages


def stages(context: Context[MethodAConfig]) -> Stages:
    """The stages of a run in order, each as (name, builder): a builder reads what the earlier ones left. An attribute without a
    region is refused here, before anything is written."""
    config = context.config
    if config.epochs and config.regional and config.masks == "halves":
        regions.halves(context.groups.attributes, config.resolution)
    if config.epochs:
        context.extend(f"phase3-{context.groups.attributes[-1].name}", "epochs", context.steps(config.epochs))
    check_start(context)
    return _stages(context, adoptable(context))


def _stages(context: Context[MethodAConfig], other: RunFolder | None) -> Stages:
    config, attributes = context.config, context.groups.attributes
    if other is not None:
        adopt(context, other)
    pretrained = "pretrain" if config.pretrain_epochs else None
    if pretrained:
        yield pretrained, lambda: Pretraining(context)
    yield "phase1", lambda: Phase1(context, pretrained)
    if not config.epochs:
        return
    last = len(attributes) - 1
    critics = [k for k in range(last + 1) if needs_critic(context, k)]
    first = config.discriminators != "full" or config.by_saliency
    if first:
        yield from (critic_stage(context, k) for k in critics)
    if config.discriminators != "full":
        yield phase3_stage(context, last, "phase1", [phase2.stage_name(context, k) for k in critics])
        return
    source = "phase1"
    for k in range(1, last + 1):
        if not first:
            yield from (critic_stage(context, j) for j in critics if j == k - 1 or j == k == last)
        name, builder = phase3_stage(context, k, source, [phase2.stage_name(context, j) for j in critics if j < k])
        yield name, builder
        source = name


def needs_critic(context: Context[MethodAConfig], k: int) -> bool:
    """Whether this run trains a critic for attribute k: for a loss, for a mask, or to choose samples by."""
    config = context.config
    if not config.phase2_epochs:
        return False
    last = k == len(context.groups.attributes) - 1
    in_loss = config.d_loss_weights[2] > 0 or config.g_loss_weights[1] > 0 or config.self_augment
    return config.critics == "all" or config.by_saliency or (in_loss and not last)


def critic_stage(context: Context[MethodAConfig], k: int) -> tuple[str, Callable[[], Stage]]:
    return phase2.stage_name(context, k), lambda: phase2.Phase2(context, k)


def phase3_stage(context: Context[MethodAConfig], k: int, source: str, critics: list[str]) -> tuple[str, Callable[[], Stage]]:
    name = f"phase3-{context.groups.attributes[k].name}"
    return name, lambda: Phase3(context, name, k, source, critics)


def adoptable(context: Context[MethodAConfig]) -> RunFolder | None:
    """The run of --phase1-from; FaceganError unless it is of the same data and networks, and has finished its phase 1."""
    ours = context.config
    if not ours.phase1_from or context.folder.finished("phase1"):
        return None
    other = RunFolder(ours.phase1_from)
    theirs = config_of(other)
    if not other.finished("phase1"):
        raise FaceganError(f"`phase1_from={other.root}` has not finished its phase 1: let it end first, or omit it")
    for name in ("attributes", "resolution", "width", "z_shape", "conditional", "seed", "num"):
        if getattr(theirs, name, None) != getattr(ours, name):
            values = f"{shown(getattr(theirs, name, None))}, this run {shown(getattr(ours, name))}"
            raise FaceganError(f"`phase1_from={other.root}` has `{name}` {values}: they must agree")
    if other.record()["data_fingerprint"] != context.data.fingerprint:
        raise FaceganError(f"`phase1_from={other.root}` learned from other images or labels than `data` now holds: train phase 1 again")
    return other


def adopt(context: Context, other: RunFolder) -> None:
    """Take over the finished phase 1 of another run."""
    for stage in ("pretrain", "phase1"):
        if other.finished(stage) and not context.folder.finished(stage) and context.accelerator.is_main_process:
            tensors, metadata = other.load_stage(stage)
            context.folder.write_ids(stage, other.ids(stage))
            context.folder.finish(stage, tensors, {**metadata, "taken_from": str(other.root)})
    context.shared.share()
