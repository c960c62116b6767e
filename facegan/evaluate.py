"""`facegan evaluate`: how many of a run's faces carry all attributes, by a judge that had no part in its training."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces
from facegan.data.splits import split
from facegan.errors import FaceganError
from facegan.generators import TrainedRun
from facegan.metrics.judge import Judge, load_or_train, refuse_partial
from facegan.metrics.report import measure, picture
from facegan.training.batches import to_float
from facegan.training.config import TrainConfig
from facegan.training.folder import write_json
from facegan.training.pictures import save_png

REFERENCE_MOST = 2000  # real images rated for each reference


class Evaluator:
    """The judge and the real references of one data set; rates any number of generators by the same yardstick."""

    def __init__(self, config: TrainConfig, data: str = "", judge: str = "") -> None:
        self.data = open_faces(data or config.data, config.resolution, num=config.num, seed=config.seed)
        self.groups = group(self.data.table, resolve(config.attributes, self.data.table), minimum=config.minimum_images)
        self.split = split(self.data.identities, self.groups)
        self.judge = Judge.load(judge) if judge else load_or_train(self.data, self.groups, self.split)
        names = tuple(attribute.name for attribute in self.groups.attributes)
        if self.judge.attributes != names:
            raise FaceganError(f"--judge {judge} knows {', '.join(self.judge.attributes)}, the run asks for {', '.join(names)}")
        refuse_partial(self.judge, self.data, self.split)

    def faces(self, index: np.ndarray) -> Tensor:
        return to_float(np.ascontiguousarray(self.data.images[np.sort(index)[:REFERENCE_MOST]]))

    def measure(self, images: Tensor, g1: Tensor | None = None) -> dict[str, Any]:
        """The judge's part of a report on any faces [N, 3, R, R] in [-1, 1]; `g1`: faces that should carry attribute 1 alone,
        a second floor beside the blurred real ones (None: only these)."""
        halves = self.split.joint_halves
        reference = torch.cat([self.faces(half) for half in halves])
        which = np.repeat([0, 1], [min(len(half), REFERENCE_MOST) for half in halves])
        alone = np.intersect1d(self.groups.only[0], self.split.train)
        return measure(self.judge, images, g1_samples=g1, held_out_x1=self.faces(alone), joint_reference=(reference, which))

    def rate(self, trained: TrainedRun, samples: int) -> tuple[dict[str, Any], Image.Image]:
        """The report (as `report.json` has it) and its picture."""
        start = time.perf_counter()
        seeds = range(samples)
        images = trained.faces(seeds)
        # Asked for attribute 1 alone, also where the network is conditional: the floor knows no other.
        phase1 = TrainedRun(trained.folder.root, "phase1").faces(seeds, asked=[0]) if trained.has("phase1") else None
        report = self.measure(images, phase1)
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
        return report, picture(self.judge, images, report, title=f"{trained.folder.root.name}: {trained.stage}")


def evaluate(run: str, data: str, stage: str, samples: int, judge: str, out: str) -> dict[str, Any]:
    """Rate one generator; prints the figures and writes report.json and report.png."""
    if samples < 1:
        raise FaceganError(f"--samples is {samples}: expected at least 1")
    trained = TrainedRun(run, stage)
    folder = Path(out) if out else trained.folder.root / ("evaluation" + (f"-{stage}" if stage else ""))
    folder.mkdir(parents=True, exist_ok=True)  # before minutes of work
    report, sheet = Evaluator(trained.config, data, judge).rate(trained, samples)
    write_json(folder / "report.json", report)
    save_png(sheet, folder / "report.png")
    print(summary(report))
    print(folder / "report.png")
    return report


def interval(values: dict[str, float | None]) -> str:
    """`0.53 [0.50, 0.56]`"""
    if values["rate"] is None:
        return "undefined (the ceiling is not above the floor)"
    low, high = (("?" if values[key] is None else f"{values[key]:.3f}") for key in ("low", "high"))
    return f"{values['rate']:.3f} [{low}, {high}]"


def summary(report: dict[str, Any]) -> str:
    """The report in lines, the judge's own quality among them."""
    card, floors = report["judge"], report["floors"]
    critics = (f"{name} {fact['balanced_accuracy']:.3f} (blurry {fact['blurry_accuracy']:.3f})" for name, fact in report["critics"].items())
    rows = [
        ("joint rate", interval(report["joint"])),
        ("floor", f"{report['floor']:.3f}  ({', '.join(f'{name} {value:.3f}' for name, value in floors.items())})"),
        ("ceiling", f"{report['ceiling']:.3f}"),
        ("normalised", interval(report["normalised"])),
        *((name, interval(values)) for name, values in report["marginal_intervals"].items()),
        ("critics", ", ".join(critics) or "none"),
        ("self score", "no critics" if report["self_score"] is None else f"{report['self_score']:.3f}"),
        ("judge", ", ".join(f"{name} {value:.3f}" for name, value in card["balanced_accuracy"].items()) + " balanced accuracy"),
        ("samples", str(report["samples"])),
    ]
    return "\n".join(f"{name:12s} {value}" for name, value in rows)


def command_line() -> str:
    return " ".join(["facegan", *sys.argv[1:]])


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"
