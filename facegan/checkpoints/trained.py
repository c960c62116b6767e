"""Trained generators as users meet them: a folder of a run in, faces by seed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facegan.checkpoints.critics import CriticMetadata, load_critic
from facegan.checkpoints.merged import unpack_generator
from facegan.checkpoints.networks import STAGE, is_network, open_networks
from facegan.checkpoints.run import RunFolder
from facegan.checkpoints.starts import SEEN
from facegan.data.attributes import names
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.models.merged_generator import MergedGenerator
from facegan.models.stylegan2 import NoiseMode, StyleGAN2Config
from facegan.schema import checked

PART, GPU_PART = 16, 64  # faces computed at once: on a CPU more at a time are no faster


class TrainedRun:
    """A run's generator (its last, or the one of `stage`) and its critics, on a device; their results come back to the CPU."""

    def __init__(self, root: str | Path, stage: str = "", device: torch.device | str = AUTO, cuda_graphs: str = "auto") -> None:
        self.folder = RunFolder(root)
        self.config = self.folder.config()
        if self.folder.record()["makes"] == "restorer":
            raise FaceganError(f"{root} is a restorer, which makes no faces of its own")
        self.device = resolve_device(device)
        self.generator: Callable[[Tensor, Tensor | None], Tensor]  # z [N, *z_shape], y [N, num_labels] or None -> images
        if not is_network(root):
            self.stage = stage or self._last_generator()
            merged = self._merged_generator().to(self.device)
            shape = merged.generator.config
            self.generator, self.z_shape, self.num_labels = merged, shape.z_shape, shape.num_attributes
        else:
            if stage not in ("", STAGE):
                raise FaceganError(f"stage {stage!r} of {root} has no generator: the one of a run of Method B is {STAGE!r}")
            self.stage, styled = STAGE, open_networks(root).generator().to(self.device)
            self.generator = partial(styled, noise_mode="const")
            self.z_shape, self.num_labels = (styled.config.z_dim,), styled.config.c_dim
        self.graphed = Graphed(self.generator, self.device, cuda_graphs, name="the generator")

    @torch.random.fork_rng(devices=[])  # the layers' first weights are drawn, and replaced
    def _merged_generator(self) -> MergedGenerator:
        tensors, metadata = self.folder.load_stage(self.stage)
        if "generator" not in metadata:
            known = ", ".join(self.generator_stages())
            raise FaceganError(f"stage {self.stage!r} of {self.folder.root} has no generator: name one of {known}")
        return unpack_generator(tensors, metadata, self.folder.stages / self.stage)

    def generator_stages(self) -> list[str]:
        return [stage for stage in self.folder.finished_stages() if not stage.startswith("phase2")]

    def _last_generator(self) -> str:
        stages = self.generator_stages()
        if not stages:
            raise FaceganError(f"{self.folder.root} has no finished generator yet: let the training reach the end of phase 1")
        return stages[-1]

    @property
    def may_have_seen_joint_faces(self) -> bool:
        """Whether the networks that this one began as may have learned from faces with all attributes; the run itself never does."""
        metadata = self.folder.metadata(self.stage) if self.has(self.stage) else {}
        extra = metadata.get("extra")  # of StyleGAN2's stage
        return any(about.get(SEEN, False) is not False for about in (metadata, extra) if isinstance(about, dict))

    def has(self, stage: str) -> bool:
        return self.folder.finished(stage)

    def critic_stages(self) -> list[str]:
        return [stage for stage in self.folder.finished_stages() if stage.startswith("phase2")]

    @torch.random.fork_rng(devices=[])
    def critics(self) -> list[nn.Module]:
        """Those of the run, frozen, on its device."""
        return [load_critic(self.folder, stage).to(self.device) for stage in self.critic_stages()]

    def critic_metadata(self) -> dict[str, dict[str, float]]:
        """{attribute: {balanced_accuracy, blurry_accuracy}}, as each critic was validated in training."""
        kept = ("balanced_accuracy", "blurry_accuracy")
        stages = self.critic_stages()
        metadata = [checked(self.folder.metadata(stage), CriticMetadata, self.folder.stages / stage) for stage in stages]
        return {stage.removeprefix("phase2-"): {key: fact[key] for key in kept} for stage, fact in zip(stages, metadata, strict=True)}

    def without_critic(self) -> list[str]:
        """The attributes that no critic of this run knows."""
        return [name for name in names(self.config.attributes) if f"phase2-{name}" not in self.critic_stages()]

    @torch.no_grad()
    def faces(self, seeds: Sequence[int] | Tensor, asked: Sequence[int] | None = None) -> Tensor:
        """Images float32 [N, 3, R, R] in [-1, 1]: z of a seed is numpy's `RandomState(seed).randn`; a conditional generator is asked
        for the attributes `asked` (from 0), all by default.

        One seed is one face whatever stands beside it, to the last bit on a CPU of a given number of threads: matrix products of
        other sizes may round otherwise, so every part that is computed is of one size, the last one filled up.
        """
        y = torch.tensor([float(asked is None or k in asked) for k in range(self.num_labels)])  # none, unless conditional
        numbers = seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
        size = PART if self.device.type == "cpu" else GPU_PART
        labels = y.expand(size, -1).to(self.device) if len(y) else None
        images = []
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            z = np.stack([np.random.RandomState(seed).randn(*self.z_shape) for seed in part]).astype(np.float32)
            images.append(self.graphed(np.resize(z, (size, *self.z_shape)), labels).float().cpu()[: len(part)])
        return torch.cat(images)

    @torch.no_grad()
    def critic_scores(self, images: Tensor) -> Tensor | None:
        """The lowest of the critics' scores of each image [N] (1: all of them say yes); None without critics."""
        score = self.lowest_score()
        return score and torch.cat([score(part).cpu() for part in images.split(256)])

    def lowest_score(self) -> Callable[[Tensor], Tensor] | None:
        """Images [N, 3, R, R] -> the lowest of the critics' scores of each [N]; None without critics."""
        critics = self.critics()
        return (lambda images: torch.stack([critic(images.to(self.device)) for critic in critics]).amin(0)) if critics else None


def random_noise(config: StyleGAN2Config, mode: NoiseMode, count: int, device: torch.device, seed: int) -> Tensor | None:
    """The noise [count, num_noise] of mode "random" by a seed of its own, so that the caller's random state is left alone; None in
    the other modes. Values differ between devices."""
    if mode != "random":
        return None
    return torch.randn(count, config.num_noise, generator=torch.Generator(device).manual_seed(seed), device=device)
