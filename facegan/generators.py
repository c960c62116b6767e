"""Trained generators as users meet them: a folder of a run in, faces by seed out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.methods.a.merge import MergedGenerator, unpack_generator
from facegan.methods.a.phase2 import load_critic
from facegan.training import checkpoint
from facegan.training.folder import RunFolder


class TrainedRun:
    """A run's generator (its last, or the one of `stage`) and its critics."""

    def __init__(self, root: str | Path, stage: str = "") -> None:
        self.folder = RunFolder(root)
        self.config = self.folder.config()
        self.stage = stage or self._last_generator()
        tensors, facts = self.folder.load_stage(self.stage)
        if "generator" not in facts:
            known = ', '.join(self.generator_stages())
            raise FaceganError(f"stage {self.stage!r} of {root} has no generator: name one of {known}")
        self.generator: MergedGenerator = unpack_generator(tensors, facts)

    def generator_stages(self) -> list[str]:
        return [stage for stage in self.folder.finished_stages() if not stage.startswith("phase2")]

    def _last_generator(self) -> str:
        stages = self.generator_stages()
        if not stages:
            raise FaceganError(f"{self.folder.root} has no finished generator yet: let the training reach the end of phase 1")
        return stages[-1]

    def has(self, stage: str) -> bool:
        return self.folder.finished(stage)

    def critic_stages(self) -> list[str]:
        return [stage for stage in self.folder.finished_stages() if stage.startswith("phase2")]

    def critics(self) -> list[nn.Module]:
        return [load_critic(self.folder, stage) for stage in self.critic_stages()]

    def critic_files(self) -> list[Path]:
        return [self.folder.stages / stage / checkpoint.TENSORS for stage in self.critic_stages()]

    @torch.no_grad()
    def faces(self, seeds: Sequence[int], batch: int = 64) -> Tensor:
        """Images float32 [N, 3, R, R] in [-1, 1]: z of a seed is numpy's `RandomState(seed).randn`, so one seed is one face
        whatever stands beside it; a conditional generator is asked for all attributes at once."""
        images = []
        for start in range(0, len(seeds), batch):
            part = seeds[start : start + batch]
            z = np.stack([np.random.RandomState(seed).randn(*self.config.z_dims) for seed in part]).astype(np.float32)
            asked = self.generator.generator.config.num_attributes
            y = torch.ones(len(part), asked) if asked else None
            images.append(self.generator(torch.from_numpy(z), y).float())
        return torch.cat(images)

    @torch.no_grad()
    def critic_scores(self, images: Tensor) -> Tensor | None:
        """The lowest of the critics' scores of each image [N] (1: all of them say yes); None without critics."""
        critics = self.critics()
        if not critics:
            return None
        scores = [torch.cat([critic(part) for part in images.split(256)]) for critic in critics]
        return torch.stack(scores).amin(0)


def parse_seeds(text: str) -> list[int]:
    """`"0-3,7"` -> [0, 1, 2, 3, 7]."""
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise FaceganError(f"--seeds is {text!r}: expected numbers and ranges such as 0-63 or 1,5,9")
        seeds += range(int(low), int(high or low) + 1)
    if not seeds:
        raise FaceganError(f"--seeds is {text!r}: the range is empty")
    return seeds
