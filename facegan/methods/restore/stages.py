"""The restorer's training: one stage, on a prior that was trained before (`--method b --noise concat`), or on another restorer."""

from __future__ import annotations

from facegan.checkpoints.restorers import STAGE
from facegan.methods.restore.config import RestoreConfig
from facegan.methods.restore.stage import RestorerTraining
from facegan.methods.restore.start import check_start
from facegan.training.stage import Context, Stages


def stages(context: Context[RestoreConfig]) -> Stages:
    """The stages of a run in order, each as (name, builder); the prior is looked at before anything is written."""
    if not context.folder.finished(STAGE):
        check_start(context)
    context.extend(STAGE, "kimg", context.kimg_steps(context.config.kimg))
    return _stages(context)


def _stages(context: Context[RestoreConfig]) -> Stages:
    yield STAGE, lambda: RestorerTraining(context)
