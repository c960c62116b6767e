"""The restorer's training: one stage, on a prior that was trained before (`--method b --noise concat`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from facegan.checkpoints.restorers import STAGE
from facegan.methods.restore.stage import RestorerTraining, check_start
from facegan.training.config_restore import RestoreConfig
from facegan.training.stage import Context, Stage


def plan(context: Context[RestoreConfig]) -> Iterator[tuple[str, Callable[[], Stage]]]:
    """The stages of a run in order, each as (name, builder); the prior is looked at before anything is written."""
    if not context.folder.finished(STAGE):
        check_start(context)
    context.folder.extend(STAGE, round(1000 * context.config.kimg / context.config.batch))
    return _stages(context)


def _stages(context: Context[RestoreConfig]) -> Iterator[tuple[str, Callable[[], Stage]]]:
    yield STAGE, lambda: RestorerTraining(context)
