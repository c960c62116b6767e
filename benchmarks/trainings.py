"""The trainings whose steps are measured: the package's own stages, from the configuration that a command line would give."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import Case, stylegan2_channels
from facegan import backend
from facegan.config import TrainConfig
from facegan.methods import configured
from facegan.methods.a.phase1 import Phase1
from facegan.methods.b.stage import StyleGAN2Training
from facegan.models.conv_gan import channels
from facegan.session import accelerator_for, make_context
from facegan.training.stage import Stage

FACES = 400  # drawn ones


@dataclass(frozen=True)
class Training:
    """One training of `facegan train`; `flags` are fields of its configuration."""

    name: str
    method: str
    resolution: int
    batch: int
    flags: dict[str, Any] = field(default_factory=dict)
    first_step: bool = False  # whether its first step is measured too

    def values(self, device: str, out: Path) -> dict[str, Any]:
        """What a user would type; `device` is "cpu" or "cuda"."""
        common = dict(method=self.method, resolution=self.resolution, batch=self.batch, data="synthetic", num=FACES)
        return {**common, "out": str(out), "device": device, **self.flags}

    def case(self, op: str) -> Case:
        """The training as a row's case, told by the generator's last block; `op` goes behind the method's name."""
        config = configured(**self.values("cpu", Path("unused")))
        if self.method == "a":
            network, c, dtype = "method-a", channels(self.resolution, config.width), "float32"  # type: ignore[attr-defined]
        else:
            network = f"stylegan2-{self.flags['preset']}"
            c = stylegan2_channels(config.sizes.channel_base, self.resolution)  # type: ignore[attr-defined]
            dtype = "bfloat16" if config.mixed_precision == "bf16" else "float32"
        return Case(f"method_{self.method}_{op}", "step", network, self.batch, c, self.resolution, c, dtype, "nhwc")


def command_line(values: dict[str, Any]) -> list[str]:
    """The flags of `facegan train` for fields of its configuration."""
    flags: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        flags += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return flags


TRAININGS = {
    "cuda": (
        Training("stylegan2-256", "b", 256, 32, dict(preset="paper", mixed_precision="bf16"), first_step=True),
        Training("method-a-64", "a", 64, 32, first_step=True),
        Training("method-b-64", "b", 64, 32, dict(preset="small", mixed_precision="bf16")),
    ),
    "cpu": (
        Training("method-a-16", "a", 16, 8, dict(width=0.25), first_step=True),
        Training("method-b-16", "b", 16, 8, dict(preset="tiny")),
    ),
}


def find(device: str, name: str) -> Training:
    return next(training for training in TRAININGS[device] if training.name == name)


def serving(device: str) -> str:
    """The backend by which trainings run there."""
    requested = backend.requested_backend()
    order = backend.PREFERENCE[device] if requested == "auto" else (requested,)
    return next(name for name in order if backend.unavailable("bias_act", name, device) is None)


def make_stage(training: Training, device: str, out: Path, graphs: bool) -> Stage[TrainConfig]:
    """The stage in which the training spends its time, as `facegan train` makes it, with fresh weights."""
    config = configured(**{**training.values(device, out), "cuda_graphs": "on" if graphs else "off"})
    context = make_context(config, accelerator_for(config))
    torch.backends.cudnn.benchmark = True  # as the trainer does
    stage: Any = (lambda: Phase1(context, None)) if training.method == "a" else (lambda: StyleGAN2Training(context))
    context.seed_networks("benchmark")
    made: Stage[TrainConfig] = stage()
    return made
