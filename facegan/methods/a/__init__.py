"""Method A: three phases of convolutional GANs and an AdaIN merge (the source's "generation method A").

    pretrain? -> phase1 -> [phase2-<k-1> -> phase3-<k>] for k = 2..K         one full-image discriminator (recipe seed)
    pretrain? -> phase1 -> phase2-<k> for every k -> phase3-<all>            regional discriminators (recipe best)

With one full-image discriminator and K >= 3, each next phase 3 inherits G alone, without its merge with H. Saliency masks need
all critics, which then come before the first phase 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from facegan.methods.a import phase2, regions
from facegan.methods.a.phase1 import Phase1, Pretraining
from facegan.methods.a.phase3 import Phase3
from facegan.training.config_a import MethodAConfig
from facegan.training.stage import Context, Stage


def plan(context: Context[MethodAConfig]) -> Iterator[tuple[str, Callable[[], Stage]]]:
    """The stages of a run in order, each as (name, builder): a builder reads what the earlier ones left. An attribute without a
    region is refused here, before anything is written."""
    config = context.config
    if config.epochs and config.regional and config.masks == "halves":
        regions.halves(context.groups.attributes, config.resolution)
    if config.epochs and "epochs" in config.may_grow:
        context.folder.extend(f"phase3-{context.groups.attributes[-1].name}", context.steps(config.epochs))
    return _stages(context)


def _stages(context: Context[MethodAConfig]) -> Iterator[tuple[str, Callable[[], Stage]]]:
    config, attributes = context.config, context.groups.attributes
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
    in_loss = config.alphas[2] > 0 or config.betas[1] > 0 or config.self_augment
    return config.critics == "all" or config.by_saliency or (in_loss and not last)


def critic_stage(context: Context[MethodAConfig], k: int) -> tuple[str, Callable[[], Stage]]:
    return phase2.stage_name(context, k), lambda: phase2.Phase2(context, k)


def phase3_stage(context: Context[MethodAConfig], k: int, source: str, critics: list[str]) -> tuple[str, Callable[[], Stage]]:
    name = f"phase3-{context.groups.attributes[k].name}"
    return name, lambda: Phase3(context, name, k, source, critics)
