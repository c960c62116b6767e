"""`facegan evaluate`: how many of a run's faces carry all attributes, by a judge that had no part in its training."""

from __future__ import annotations

import logging
import platform
import shlex
import sys
import time
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facegan import __version__
from facegan.checkpoints.lists import warn_of_damage
from facegan.checkpoints.trained import TrainedRun
from facegan.config import TrainConfig
from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces, synthetic_seed
from facegan.data.limits import Limits
from facegan.data.splits import split
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.evaluation.audit import audit, real_rates
from facegan.evaluation.diversity import diversity, lpips_here, memorisation
from facegan.evaluation.features import Attributes, Extractor, Inception, data_features
from facegan.evaluation.joint_rate import SHARPNESS_MOST, blur_for, blurred, wilson
from facegan.evaluation.judge.judge import Judge, load_or_train, refuse_learnt, refuse_partial
from facegan.evaluation.processes import distributed_map, is_main, join, main_first
from facegan.evaluation.quality import compare
from facegan.evaluation.report import EvaluationReport, measure, picture
from facegan.evaluation.restoration_rates import before_and_after_rates
from facegan.evaluation.samples import FIRST, JudgedSamples, SampleFn, logits_of, score_samples, verdicts_of
from facegan.evaluation.summary import judge_line
from facegan.extras import NEEDED, available
from facegan.options import EvaluateOptions
from facegan.pixels import to_float
from facegan.restore.restorer import RestorerPipeline

log = logging.getLogger("facegan.evaluation.evaluator")

REFERENCE_MOST = 2000  # real images rated for each reference


class Rating(NamedTuple):
    report: dict[str, Any]  # as `report.json` has it
    sheet: Image.Image  # samples and rates
    nearest: Image.Image  # the samples that come closest to a training image, beside it


class Evaluator:
    """The judge and the real references of one data set, on a device; rates any number of generators by the same yardstick.

    With several processes (`accelerate launch`) all of them make one and call the same methods: each takes a part of the
    images, and all end with the same figures.
    """

    def __init__(
        self, config: TrainConfig, data: str = "", judge: str = "", weights: str = "", lpips: str = "", device: torch.device | str = AUTO
    ) -> None:
        """`weights`: a file of Inception's weights, `lpips`: one of VGG16's; without them the judge's own features must do."""
        self.device = resolve_device(device)
        join(self.device)
        inception = [Inception(weights, self.device)] if weights else []  # before minutes of work
        self.lpips = lpips_here(lpips, self.device)
        with main_first():
            self.data = open_faces(data or config.data, config.resolution, num=config.num, seed=config.seed, limits=Limits.of(config))
            self.groups = group(self.data.table, resolve(config.attributes, self.data.table), minimum=config.minimum_images)
            self.split = split(self.data.identities, self.groups)
            self.judge = Judge.load(judge, self.device) if judge else load_or_train(self.data, self.groups, self.split, device=self.device)
        names = tuple(attribute.name for attribute in self.groups.attributes)
        if self.judge.attributes != names:
            raise FaceganError(f"`judge={judge}` knows {', '.join(self.judge.attributes)}, the run asks for {', '.join(names)}")
        refuse_partial(self.judge, self.data, self.split)
        if is_main():
            log.info("judge: %s", judge_line(self.judge.card))
        self.judge.over = distributed_map
        self.extractors: list[Extractor] = [Attributes(self.judge), *inception]

    def some(self, index: np.ndarray) -> np.ndarray:
        """The rows of a reference: all of `index`, or as many as are rated."""
        return np.sort(index)[:REFERENCE_MOST]

    def draw(self, index: np.ndarray) -> SampleFn:
        """The real faces at `index`, by their places in it."""
        return lambda places: to_float(np.ascontiguousarray(self.data.images[index[places.numpy()]]))

    def logits(self, index: np.ndarray, what: str) -> Tensor:
        """The judge's logits [n, 2, K + C] of the real faces at `index`."""
        return logits_of(self.judge, self.draw(index), len(index), what)

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the two halves of the held-out joint images."""
        first, second = map(self.some, self.split.joint_halves)
        return first, second

    @cached_property
    def joint_logits(self) -> list[Tensor]:
        return [self.logits(half, "real joint faces") for half in self.halves]

    @cached_property
    def ceiling(self) -> np.ndarray:
        """float64 [n]: whether the real joint faces are found to be, each by the classifier that never saw its half."""
        found = [verdicts_of(self.judge, logits)[1 - half, :, -1] for half, logits in enumerate(self.joint_logits)]
        return np.concatenate(found).astype(np.float64)

    @cached_property
    def alone(self) -> list[np.ndarray]:
        """Per attribute k the rows of X_k that the judge never learned from."""
        return [self.some(np.intersect1d(only, self.split.train)) for only in self.groups.only]

    @cached_property
    def held_out(self) -> np.ndarray:
        """The rows of all X_k that no generator learns from: the judge's part."""
        return self.some(np.intersect1d(np.concatenate(self.groups.only), self.split.judge))

    def blurred_floor(self, sharpness: float) -> np.ndarray:
        """float64 [n]: whether real faces of attribute 1 alone, blurred to a sharpness, are taken for joint ones."""
        draw = self.draw(self.alone[0])
        sigma = blur_for(draw(torch.arange(min(SHARPNESS_MOST, len(self.alone[0])))), sharpness)
        logits = logits_of(self.judge, lambda places: blurred(draw(places), sigma), len(self.alone[0]), "blurred real faces")
        return verdicts_of(self.judge, logits).mean(0)[:, -1]

    def score_samples(self, draw: SampleFn, number: int, critic: SampleFn | None = None, what: str = "faces") -> JudgedSamples:
        """Everything that a report says of `number` faces that `draw` gives by their places."""
        return score_samples(draw, number, self.judge, self.extractors, critic, what)

    def measure(self, images: Tensor | JudgedSamples, g1: Tensor | np.ndarray | None = None) -> dict[str, Any]:
        """The judge's part of a report on any faces [N, 3, R, R] in [-1, 1]; `g1`: faces that should carry attribute 1 alone, or the
        joint verdicts on them, a second floor beside the blurred real ones (None: only these)."""
        seen = images if isinstance(images, JudgedSamples) else score_samples(images.__getitem__, len(images), self.judge)
        sharpness = float(seen.sharpness.median())
        floors = {"blurred": self.blurred_floor(sharpness)}
        if g1 is not None:
            floors["phase1"] = self.judge.verdicts(g1)[:, -1] if isinstance(g1, Tensor) else g1
        return measure(self.judge, seen.verdicts, sharpness, floors=floors, ceiling=self.ceiling)

    def joint_features(self, extractor: Extractor) -> tuple[Tensor, Tensor]:
        """Features [n, D] of each half of the joint images, from the cache where it has them."""
        with main_first():
            first, second = (data_features(extractor, self.data, half) for half in self.halves)
        return first, second

    def appearance(self, images: Tensor | JudgedSamples) -> dict[str, Any]:
        """`quality` and `diversity` of faces beside the held-out joint images: Inception's figures where there are its weights,
        and always those of the judge's features, each under names of its own. `real_...`: one joint half against the other; not of
        FID, which grows as sets shrink, so that halves of a small set look farther apart than many samples from all of it."""
        seen = images if isinstance(images, JudgedSamples) else self.score_samples(images.__getitem__, len(images))
        real = {extractor.suffix: self.joint_features(extractor) for extractor in self.extractors}
        quality: dict[str, Any] = {}
        if available():
            for suffix, halves in real.items():
                quality |= compare(seen.features[suffix], torch.cat(halves), suffix)
                apart = compare(*halves, suffix)
                quality |= {f"real_{name}": value for name, value in apart.items() if not name.startswith("fid")}
        else:
            quality["note"] = f"KID, FID, precision, recall: {NEEDED}"
        joint = self.draw(np.concatenate(self.halves))
        return {"quality": quality, "diversity": diversity(seen, joint, torch.cat(real["_attr"]), self.lpips)}

    @cached_property
    def real_audit(self) -> dict[str, Any]:
        """What the judge sees, and what the labels say, in each X_k and in the joint images."""
        names = [f"{attribute.name} only" for attribute in self.groups.attributes]
        groups = {name: (rows, self.logits(rows, name)) for name, rows in zip(names, self.alone, strict=True)}
        return real_rates(self.judge, self.data, groups, list(zip(self.halves, self.joint_logits, strict=True)))

    def audit(self, seen: JudgedSamples) -> dict[str, Any]:
        """What else changes with the attributes."""
        return audit(self.judge, self.real_audit, seen.logits)

    def learnt_rows(self, trained: TrainedRun) -> np.ndarray:
        """The rows that a run learned from by its own record; without one for these data, all that it might have learned from."""
        own = trained.folder.record()["data_fingerprint"] == self.data.fingerprint
        rows = np.flatnonzero(np.isin(self.data.table.ids, sorted(recorded_ids(trained)))) if own else self.split.train
        return rows if len(rows) else self.split.train

    def rate(self, trained: TrainedRun, samples: int, floor: TrainedRun | None = None) -> tuple[dict[str, Any], Image.Image]:
        """The report (as `report.json` has it) and its picture; `floor`: see `rating`."""
        rating = self.rating(trained, samples, floor)
        return rating.report, rating.sheet

    def rating(self, trained: TrainedRun, samples: int, floor: TrainedRun | None = None) -> Rating:
        """`floor`: a run whose phase 1 gives the faces that should carry attribute 1 alone (default: the same run's); runs that are to
        be compared need the same."""
        start = time.perf_counter()
        if not is_other_synthetic(trained, self.data.name):
            refuse_learnt(self.judge, recorded_ids(trained), str(trained.folder.root))
        seen = self.score_samples(trained.faces, samples, trained.lowest_score())
        if floor is None and trained.has("phase1"):
            floor = TrainedRun(trained.folder.root, "phase1", trained.device)
        alone = self.joint_of(floor, samples) if floor else None
        leak = self.joint_of(trained, samples) if trained.num_labels else None
        report = self.measure(seen, alone) | self.appearance(seen)
        rows, names = self.learnt_rows(trained), [f"seed {seed}" for seed in range(samples)]
        report["memorisation"], nearest = memorisation(seen, self.held_out, self.data, rows, names)
        report |= {
            "audit": self.audit(seen),
            "leak": None if leak is None else wilson(float(leak.sum()), len(leak))._asdict(),
            "self_score": None if seen.scores is None else float(seen.scores.mean()),
            "critics": trained.critic_metadata(),
            "run": str(trained.folder.root),
            "stage": trained.stage,
            "may_have_seen_joint_faces": trained.may_have_seen_joint_faces,
            "floor_run": str(floor.folder.root) if floor else None,
            "facegan": __version__,
            "command": command_line(),
            "machine": machine(self.device),
            "seconds": time.perf_counter() - start,
        }
        return Rating(report, picture(self.judge, seen.first(FIRST), report, title=f"{trained.folder.root.name}: {trained.stage}"), nearest)

    def joint_of(self, run: TrainedRun, samples: int) -> np.ndarray:
        """float64 [N]: whether the faces of a run that is asked for attribute 1 alone are joint all the same; one that is not
        conditional can be asked for nothing."""
        logits = logits_of(self.judge, lambda places: run.faces(places, asked=[0]), samples, "faces of attribute 1")
        return verdicts_of(self.judge, logits).mean(0)[:, -1]


def floor_of(run: str, device: torch.device) -> TrainedRun | None:
    """The generator of attribute 1 that `floor` names."""
    floor = TrainedRun(run, "phase1", device) if run else None
    if floor and floor.num_labels:
        raise FaceganError(f"`floor={run}` is a conditional network, which learned other attributes too: name a run whose phase 1 is not")
    return floor


def recorded_ids(trained: TrainedRun) -> set[str]:
    """Every image that any stage of the run learned from, as the run wrote them down."""
    for stage in trained.folder.finished_stages():
        warn_of_damage(trained.folder.root, stage, trained.folder.metadata(stage))
    files = (trained.folder.root / "ids").glob("*.txt")
    return {name for file in files for name in trained.folder.ids(file.stem)}


def is_other_synthetic(trained: TrainedRun, name: str) -> bool:
    """Whether the run learned from synthetic faces and `name` is other data: ids are numbers there, and mean other faces."""
    seed = synthetic_seed(trained.config.data, trained.config.seed)
    return seed is not None and name != f"synthetic-{seed}"


def evaluate_run(trained: TrainedRun, options: EvaluateOptions) -> EvaluationReport:
    """Rate a run's generator by `options`."""
    options.at_least(1, "samples")
    if options.faces:
        return _rate_faces(trained, options)
    start = floor_of(options.floor, trained.device)
    network = RestorerPipeline(options.restore, 0, trained.device) if options.restore else None  # before minutes of work
    evaluator = Evaluator(trained.config, options.data, options.judge, options.weights, options.lpips, trained.device)
    rating = evaluator.rating(trained, options.samples, start)
    pictures = {"report": rating.sheet, "nearest": rating.nearest}
    if network:
        rating.report["restored"], pictures["restored"] = before_and_after_rates(evaluator, trained.faces, options.samples, network)
    return EvaluationReport.from_json(rating.report, pictures)


def _rate_faces(trained: TrainedRun, options: EvaluateOptions) -> EvaluationReport:
    """What `faces` asks for."""
    from facegan.evaluation.pictures import rate_pictures

    others = [f"`{name}`" for name in ("restore", "weights", "lpips", "floor") if getattr(options, name)]
    if others:
        raise FaceganError(f"`faces` has the joint rate measured and nothing else: drop {' and '.join(others)}")
    report = rate_pictures(Evaluator(trained.config, options.data, options.judge, device=trained.device), options.faces)
    report.details.update(
        {"run": str(trained.folder.root), "facegan": __version__, "command": command_line(), "machine": machine(trained.device)}
    )
    return report


def command_line() -> str:
    return shlex.join(["facegan", *sys.argv[1:]])


def machine(device: torch.device) -> str:
    """What figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"
