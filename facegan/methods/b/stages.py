"""Method B: StyleGAN2-ADA on all faces that are not joint ones, whose styles are then projected and mixed (`facegan.styles`).

    phase2-<k> for every k -> stylegan2

The critics are Method A's phase 2: they say what a mix of styles carries, when layers are searched or a photo is edited.
"""

from __future__ import annotations

from facegan.checkpoints.networks import STAGE
from facegan.methods.b.config import MethodBConfig
from facegan.methods.b.stage import StyleGAN2Training
from facegan.methods.b.start import check_start
from facegan.methods.common import critics as phase2
from facegan.training.stage import Context, Stages


def stages(context: Context[MethodBConfig]) -> Stages:
    """The stages of a run in order, each as (name, builder); what it starts from is looked at before anything is written."""
    if not context.folder.finished(STAGE):
        check_start(context)
    context.extend(STAGE, "kimg", context.kimg_steps(context.config.kimg))
    return _stages(context)


def _stages(context: Context[MethodBConfig]) -> Stages:
    config, count = context.config, len(context.groups.attributes)
    for k in range(count if config.critics == "all" else count - 1):
        if config.phase2_epochs:
            yield phase2.stage_name(context, k), lambda k=k: phase2.Phase2(context, k)  # type: ignore[misc]
    yield STAGE, lambda: StyleGAN2Training(context)
