"""What a method is to everything around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from facegan.config import TrainConfig

if TYPE_CHECKING:
    from facegan.methods.common.steps import Rig, Step
    from facegan.training.stage import Context, Stages


def never(config: Any) -> bool:
    """No configuration at all."""
    return False


@dataclass(frozen=True)
class MethodSpec:
    """A method's folder as the registry knows it. What needs PyTorch is named, and imported when it is called."""

    summary: str  # half a line of `--help`
    config: type[TrainConfig]
    package: str  # with `stages.stages` and `steps.steps`
    examples: str  # of `facegan train --help`
    less_memory: Callable[[Any], str]  # (config) -> what to do where a step does not fit
    unused_parameters: Callable[[Any], bool] = never  # (config) -> whether some step leaves weights without a gradient

    def stages(self, context: Context) -> Stages:
        """(name, builder) of the stages of a run, in order; whatever can be refused is, before the first one is asked for."""
        stages: Stages = resolve_name(f"{self.package}.stages:stages")(context)
        return stages

    def steps(self, config: TrainConfig, rig: Rig) -> Iterator[Step]:
        """(name, what runs it) of every kind of step of a training, for the kernels that it needs."""
        steps: Iterator[Step] = resolve_name(f"{self.package}.steps:steps")(config, rig)
        return steps
