"""Runs of Method A: a generator of faces with all attributes, and its critics."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from facegan.api.keywords import takes
from facegan.api.sharing import push_folder, share_run
from facegan.checkpoints.trained import TrainedRun
from facegan.data.attributes import names
from facegan.devices import AUTO
from facegan.errors import FaceganError
from facegan.options import EvaluateOptions, GenerateOptions
from facegan.plotting.faces import Faces

if TYPE_CHECKING:
    from facegan.evaluation.report import EvaluationReport

log = logging.getLogger("facegan.generate")


class AttributeGAN:
    """A trained run of Method A on a device."""

    def __init__(self, trained: TrainedRun) -> None:
        self.trained = trained

    @classmethod
    def from_pretrained(cls, source: str | Path, *, stage: str = "", device: str = AUTO, cuda_graphs: str = "auto") -> AttributeGAN:
        """Open a run.

        Args:
            source: the folder of `facegan.train`.
            stage: whose generator is taken, e.g. "phase1" (default: the last).
            device: auto, cpu, cuda or cuda:N.
            cuda_graphs: auto, on or off.

        Raises:
            FaceganError: it is no run, or has no finished generator yet.
        """
        return cls(TrainedRun(source, stage, device, cuda_graphs))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of what its faces are to carry together."""
        return tuple(names(self.trained.config.attributes))

    @takes(GenerateOptions, "seeds")
    def generate(self, options: GenerateOptions) -> Faces:
        """Make faces; one seed is one face, whatever stands beside it.

        Returns:
            The faces, of all seeds or of the `best`, in the order of the seeds.

        Raises:
            FaceganError: for options that only StyleGAN2 networks have, and for `best` where the run has no critics.
        """
        root = self.trained.folder.root
        if options.truncation != 1 or options.noise_mode != "const" or options.label:
            raise FaceganError(f"{root} is a run without styles: `truncation`, `noise_mode` and `label` go with StyleGAN2 networks")
        options.at_least(0, "best")
        seeds, images = list(options.seeds), self.trained.faces(options.seeds)
        if options.best:
            scores = self.trained.critic_scores(images)
            if scores is None:
                raise FaceganError(f"`best` needs critics, and {root} has none: train it with `critics=all`")
            if self.trained.without_critic():
                log.warning("`best` uses %s alone: this run has no critic for %s; train with `critics=all` to judge every attribute",
                            ", ".join(self.trained.critic_metadata()), ", ".join(self.trained.without_critic()))  # fmt: skip
            order = scores.argsort(descending=True, stable=True)[: options.best].sort().values
            images, seeds = images[order], [seeds[index] for index in order.tolist()]
        return Faces(images, tuple(f"seed{seed:04d}" for seed in seeds), tuple(seeds))

    @takes(EvaluateOptions)
    def evaluate(self, options: EvaluateOptions) -> EvaluationReport:
        """Measure how many of its faces carry all attributes, by a judge that had no part in its training.

        Returns:
            The report, with the pictures that belong to it.
        """
        from facegan.evaluation.evaluator import evaluate_run

        return evaluate_run(self.trained, options)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write what generating and judging by critics needs to a folder: finished stages and records, no snapshots, no pictures."""
        return share_run(self.trained.folder, Path(folder))

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes to a repository of huggingface.co, made if absent; returns its address."""
        return push_folder(self.save_pretrained, repo_id, private, token)
