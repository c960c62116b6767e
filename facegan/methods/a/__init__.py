"""Method A: three phases of convolutional GANs and an AdaIN merge (the source's "generation method A").

    pretrain? -> phase1 -> [phase2-<k-1> -> phase3-<k>] for k = 2..K         one full-image discriminator (recipe seed)
    pretrain? -> phase1 -> phase2-<k> for every k -> phase3-<all>            regional discriminators (recipe best)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from facegan.methods.a import phase2
from facegan.methods.a.phase1 import Phase1, Pretraining
from facegan.methods.a.phase3 import Phase3
from facegan.training.stage import Context, Stage


def plan(context: Context) -> Iterator[tuple[str, Callable[[], Stage]]]:
    """The stages of a run in order, each as (name, builder): a builder reads what the earlier ones left."""
    config, attributes = context.config, context.groups.attributes
    pretrained = "pretrain" if config.pretrain_epochs else None
    if pretrained:
        yield pretrained, lambda: Pretraining(context)
    yield "phase1", lambda: Phase1(context, pretrained)
    if not config.epochs:
        return
    last = len(attributes) - 1
    if config.discriminators != "full":
        critics = [k for k in range(last + 1) if needs_critic(context, k)]
        yield from (critic_stage(context, k) for k in critics)
        yield phase3_stage(context, last, "phase1", [phase2.stage_name(context, k) for k in critics])
        return
    source = "phase1"
    for k in range(1, last + 1):
        if needs_critic(context, k - 1):
            yield critic_stage(context, k - 1)
        if k == last and needs_critic(context, last):
            yield critic_stage(context, last)
        earlier = [phase2.stage_name(context, j) for j in range(k) if needs_critic(context, j)]
        name, builder = phase3_stage(context, k, source, earlier)
        yield name, builder
        source = name


def needs_critic(context: Context, k: int) -> bool:
    """Whether this run trains a critic for attribute k: for a loss, for a mask, or to choose samples by."""
    config = context.config
    if not config.phase2_epochs:
        return False
    last = k == len(context.groups.attributes) - 1
    saliency = config.masks == "saliency" and (config.discriminators != "full" or config.merge == "regional")
    in_loss = config.alphas[2] > 0 or config.betas[1] > 0 or config.self_augment
    return config.critics == "all" or saliency or (in_loss and not last)


def critic_stage(context: Context, k: int) -> tuple[str, Callable[[], Stage]]:
    return phase2.stage_name(context, k), lambda: phase2.Phase2(context, k)


def phase3_stage(context: Context, k: int, source: str, critics: list[str]) -> tuple[str, Callable[[], Stage]]:
    name = f"phase3-{context.groups.attributes[k].name}"
    return name, lambda: Phase3(context, name, k, source, critics)
