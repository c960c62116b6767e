"""`facegan evaluate`: how many of a run's faces carry all attributes, by a judge that had no part in its training."""

from __future__ import annotations

import logging
import platform
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facegan.checkpoints.restorers import is_restorer
from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces, synthetic_seed
from facegan.data.splits import split
from facegan.errors import FaceganError
from facegan.generators import TrainedRun
from facegan.metrics.audit import audit, real_rates
from facegan.metrics.diversity import diversity, lpips_here, memorisation
from facegan.metrics.extra import NEEDED, available
from facegan.metrics.features import Attributes, Extractor, Inception, data_features
from facegan.metrics.judge import Judge, load_or_train, refuse_learnt, refuse_partial
from facegan.metrics.processes import is_main, main_first, share
from facegan.metrics.quality import compare
from facegan.metrics.report import measure, picture
from facegan.metrics.summary import interval, judge_line, summary
from facegan.restore.attributes import before_and_after_rates
from facegan.restore.attributes import summary as restoration_summary
from facegan.restore.quality import evaluate_restorer
from facegan.restore.restore import Network
from facegan.training.batches import to_float
from facegan.training.config import TrainConfig
from facegan.training.folder import write_json
from facegan.training.pictures import save_png

__all__ = ["Evaluator", "Rating", "command_line", "evaluate", "interval", "machine", "summary"]
log = logging.getLogger("facegan.evaluate")

REFERENCE_MOST = 2000  # real images rated for each reference


class Rating(NamedTuple):
    images: Tensor  # [N, 3, R, R], of the seeds 0 ... N - 1
    report: dict[str, Any]  # as `report.json` has it
    sheet: Image.Image  # samples and rates
    nearest: Image.Image  # the samples that come closest to a training image, beside it


class Evaluator:
    """The judge and the real references of one data set; rates any number of generators by the same yardstick.

    With several processes (`accelerate launch`) all of them make one and call the same methods: each takes a part of the
    images, and all end with the same figures.
    """

    def __init__(self, config: TrainConfig, data: str = "", judge: str = "", weights: str = "", lpips: str = "") -> None:
        """`weights`: a file of Inception's weights, `lpips`: one of VGG16's; without them the judge's own features must do."""
        inception = [Inception(weights)] if weights else []  # before minutes of work
        self.lpips = lpips_here(lpips)
        with main_first():
            self.data = open_faces(data or config.data, config.resolution, num=config.num, seed=config.seed)
            self.groups = group(self.data.table, resolve(config.attributes, self.data.table), minimum=config.minimum_images)
            self.split = split(self.data.identities, self.groups)
            self.judge = Judge.load(judge) if judge else load_or_train(self.data, self.groups, self.split)
        names = tuple(attribute.name for attribute in self.groups.attributes)
        if self.judge.attributes != names:
            raise FaceganError(f"--judge {judge} knows {', '.join(self.judge.attributes)}, the run asks for {', '.join(names)}")
        refuse_partial(self.judge, self.data, self.split)
        if is_main():
            log.info("judge: %s", judge_line(self.judge.card))
        self.judge.over = share
        self.extractors: list[Extractor] = [Attributes(self.judge), *inception]

    def some(self, index: np.ndarray) -> np.ndarray:
        """The rows of a reference: all of `index`, or as many as are rated."""
        return np.sort(index)[:REFERENCE_MOST]

    def faces(self, index: np.ndarray) -> Tensor:
        return to_float(np.ascontiguousarray(self.data.images[self.some(index)]))

    @cached_property
    def joint(self) -> tuple[Tensor, Tensor]:
        """The two halves of the held-out joint images."""
        first, second = (self.faces(half) for half in self.split.joint_halves)
        return first, second

    @cached_property
    def alone(self) -> list[np.ndarray]:
        """Per attribute k the rows of X_k that the judge never learnt from."""
        return [self.some(np.intersect1d(only, self.split.train)) for only in self.groups.only]

    def measure(self, images: Tensor, g1: Tensor | None = None) -> dict[str, Any]:
        """The judge's part of a report on any faces [N, 3, R, R] in [-1, 1]; `g1`: faces that should carry attribute 1 alone,
        a second floor beside the blurred real ones (None: only these)."""
        which = np.repeat([0, 1], [len(half) for half in self.joint])
        reference = torch.cat(self.joint)
        return measure(self.judge, images, g1_samples=g1, held_out_x1=self.faces(self.alone[0]), joint_reference=(reference, which))

    def joint_features(self, extractor: Extractor) -> tuple[Tensor, Tensor]:
        """Features [n, D] of each half of the joint images, from the cache where it has them."""
        with main_first():
            first, second = (data_features(extractor, self.data, self.some(half)) for half in self.split.joint_halves)
        return first, second

    def appearance(self, images: Tensor) -> dict[str, Any]:
        """`quality` and `diversity` of faces beside the held-out joint images: Inception's figures where there are its weights,
        and always those of the judge's features, each under names of its own. `real_...`: one joint half against the other."""
        own = {extractor.suffix: share(extractor, images, extractor.words) for extractor in self.extractors}
        real = {extractor.suffix: self.joint_features(extractor) for extractor in self.extractors}
        quality: dict[str, Any] = {}
        if available():
            for suffix, halves in real.items():
                quality |= compare(own[suffix], torch.cat(halves), suffix)
                quality |= {f"real_{name}": value for name, value in compare(*halves, suffix).items()}
        else:
            quality["note"] = f"KID, FID, precision, recall: {NEEDED}"
        joint = torch.cat(self.joint)
        return {"quality": quality, "diversity": diversity(images, joint, own["_attr"], torch.cat(real["_attr"]), self.lpips)}

    @cached_property
    def real_audit(self) -> dict[str, Any]:
        """What the judge sees, and what the labels say, in each X_k and in the joint images."""
        names = (f"{attribute.name} only" for attribute in self.groups.attributes)
        groups = {name: (rows, self.faces(rows)) for name, rows in zip(names, self.alone, strict=True)}
        halves = [(self.some(half), images) for half, images in zip(self.split.joint_halves, self.joint, strict=True)]
        return real_rates(self.judge, self.data, groups, halves)

    def learnt_rows(self, trained: TrainedRun) -> np.ndarray:
        """The rows that a run learnt from by its own record; without one for these data, all that it might have learnt from."""
        own = trained.folder.record()["data_fingerprint"] == self.data.fingerprint
        rows = np.flatnonzero(np.isin(self.data.table.ids, sorted(recorded_ids(trained)))) if own else self.split.train
        return rows if len(rows) else self.split.train

    def rate(self, trained: TrainedRun, samples: int) -> tuple[dict[str, Any], Image.Image]:
        """The report (as `report.json` has it) and its picture."""
        rating = self.rating(trained, samples)
        return rating.report, rating.sheet

    def rating(self, trained: TrainedRun, samples: int) -> Rating:
        start = time.perf_counter()
        if not drawn_elsewhere(trained, self.data.name):
            refuse_learnt(self.judge, recorded_ids(trained), str(trained.folder.root))
        seeds = torch.arange(samples)
        images = share(lambda part: trained.faces(part.tolist()), seeds, "faces")
        # Asked for attribute 1 alone, also where the network is conditional: the floor knows no other.
        phase1 = TrainedRun(trained.folder.root, "phase1") if trained.has("phase1") else None
        alone = share(lambda part: phase1.faces(part.tolist(), asked=[0]), seeds, "faces of phase 1") if phase1 else None
        report = self.measure(images, alone) | self.appearance(images)
        rows, names = self.learnt_rows(trained), [f"seed {seed}" for seed in range(samples)]
        report["memorisation"], nearest = memorisation(images, torch.cat(self.joint), self.data, rows, names)
        report["audit"] = audit(self.judge, self.real_audit, images)
        scores = trained.critic_scores(images)
        report |= {
            "self_score": None if scores is None else float(scores.mean()),
            "critics": trained.critic_facts(),
            "run": str(trained.folder.root),
            "stage": trained.stage,
            "command": command_line(),
            "machine": machine(),
            "seconds": time.perf_counter() - start,
        }
        return Rating(images, report, picture(self.judge, images, report, title=f"{trained.folder.root.name}: {trained.stage}"), nearest)


def recorded_ids(trained: TrainedRun) -> set[str]:
    """Every image that any stage of the run learnt from, as the run wrote them down."""
    files = (trained.folder.root / "ids").glob("*.txt")
    return {name for file in files for name in trained.folder.ids(file.stem)}


def drawn_elsewhere(trained: TrainedRun, name: str) -> bool:
    """Whether the run learnt from drawn faces and `name` is other data: ids are numbers there, and mean other faces."""
    seed = synthetic_seed(trained.config.data, trained.config.seed)
    return seed is not None and name != f"synthetic-{seed}"


def evaluate(
    run: str, data: str, stage: str, samples: int, judge: str, out: str, weights: str = "", lpips: str = "", restore: str = ""
) -> dict[str, Any]:
    """Rate one generator; prints the figures and writes report.json, report.png and nearest.png. A restorer is measured by itself."""
    if samples < 1:
        raise FaceganError(f"--samples is {samples}: expected at least 1")
    if is_restorer(run):
        if stage or judge or weights or restore:
            raise FaceganError(f"{run} is a restorer: --stage, --judge, --weights and --restore go with generators")
        return evaluate_restorer(run, data, samples, out, lpips)
    trained = TrainedRun(run, stage)
    folder = Path(out) if out else trained.folder.root / ("evaluation" + (f"-{stage}" if stage else ""))
    folder.mkdir(parents=True, exist_ok=True)  # before minutes of work
    network = Network(restore, 0) if restore else None
    evaluator = Evaluator(trained.config, data, judge, weights, lpips)
    rating = evaluator.rating(trained, samples)
    if network:
        names = [f"seed {seed}" for seed in range(samples)]
        rating.report["restored"], before_after = before_and_after_rates(evaluator, rating.images, names, network)
    if is_main():
        write_json(folder / "report.json", rating.report)
        save_png(rating.sheet, folder / "report.png")
        save_png(rating.nearest, folder / "nearest.png")
        print(summary(rating.report))
        print(folder / "report.png")
        if network:
            save_png(before_after, folder / "restored.png")
            print(f"\n{restoration_summary(rating.report['restored'])}\n{folder / 'restored.png'}")
    return rating.report


def command_line() -> str:
    return " ".join(["facegan", *sys.argv[1:]])


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"
