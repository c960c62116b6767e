"""The restorer's training: one stage, on a prior that was trained before (`--method b --noise concat`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from facegan.checkpoints.restorers import STAGE
from facegan.methods.restore.stage import RestorerTraining
from facegan.training.config_restore import RestoreConfig
from facegan.training.stage import Context, Stage


def plan(context: Context[RestoreConfig]) -> Iterator[tuple[str, Callable[[], Stage]]]:
    """The stages of a run in order, each as (name, builder)."""
    yield STAGE, lambda: RestorerTraining(context)
