"""`facegan demo`: the whole of Method A, small, on synthetic faces, from the pre-trained networks that come with the package, with the
baselines that it must beat, Method B's mixed styles, and Method A's faces restored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from facegan.checkpoints.critics import resized
from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import write_json
from facegan.checkpoints.trained import TrainedRun
from facegan.config import TrainConfig
from facegan.devices import AUTO, resolve_device
from facegan.evaluation.evaluator import Evaluator
from facegan.evaluation.kept import kept_by
from facegan.evaluation.restoration_rates import before_and_after_rates
from facegan.locks import held
from facegan.methods import configured
from facegan.options import RESTORER, SYNTHETIC
from facegan.plotting.grid import grid
from facegan.plotting.sheets import save_png, stacked
from facegan.plotting.text import interval
from facegan.restore.restorer import RestorerPipeline
from facegan.session import run
from facegan.styles.mix import Renderer, batch_for, mix
from facegan.styles.recipe import Recipe
from facegan.styles.store import read_styles

SAMPLES = 1024
SHOWN = 8  # rows and columns of the mixing grid
RESTORED = 256  # of the samples
START = "start64"  # learned from other synthetic faces, none of them joint
# Sized for two slow cores: widths, batch and lengths by measurement (see docs/results.md).
SMALL: dict[str, Any] = dict(
    data="synthetic", num=6000, resolution=64, width=0.5, batch=16, pretrain_from=START, phase1_epochs=6, phase2_epochs=8, epochs=50,
    lr=0.003, lr_decay=0.5, ema_images=2000.0, r1_gamma=3.0, augment="none",
)  # fmt: skip


def settings(out: Path, seed: int, recipe: str, device: str) -> TrainConfig:
    # The plain baseline starts from the very same phase 1 and gets the very same length.
    inherited = {} if recipe == "best" else {"phase1_from": str(out.parent / "method_a"), "pretrain_from": ""}
    return configured(**{**SMALL, "recipe": recipe, "seed": seed, "out": str(out), "device": device, **inherited})


@dataclass(frozen=True)
class DemoReport:
    """What the demo measured."""

    rows: dict[str, dict[str, Any]]  # {generator: its report}
    restored: dict[str, Any]
    text: str  # the table, and where the faces are

    def to_json(self) -> dict[str, Any]:
        """The reports, in the types of JSON."""
        return {"rows": self.rows, "restored": self.restored}


def demo(out: str, seed: int, device: str = AUTO) -> DemoReport:
    """Train both, rate three generators, a grid of mixed styles and restored faces; writes report.json, grid.png, mix.png and
    restored.png."""
    with held(Path(out)):
        return _demo(Path(out), seed, device)


def _demo(root: Path, seed: int, device: str) -> DemoReport:
    start, place = time.perf_counter(), resolve_device(device)
    restorer = RestorerPipeline(RESTORER, 0, place)
    method_a = run(settings(root / "method_a", seed, "best", device))
    plain = run(settings(root / "plain", seed, "plain", device))
    found = {"phase1": (method_a, "phase1"), "plain": (plain, ""), "method_a": (method_a, "")}
    generators = {name: TrainedRun(folder, stage, place) for name, (folder, stage) in found.items()}
    evaluator = Evaluator(generators["method_a"].config, device=place)
    rows, pictures = {}, []
    for name, trained in generators.items():
        rows[name], sheet = evaluator.rate(trained, SAMPLES)
        pictures.append(sheet)
    rows["mixed"], sheet = mixed_styles(evaluator)
    save_png(sheet, root / "mix.png")
    restored, sheet = before_and_after_rates(evaluator, generators["method_a"].faces, RESTORED, restorer)
    save_png(sheet, root / "restored.png")
    seconds = time.perf_counter() - start
    write_json(root / "report.json", {"rows": rows, "restored": restored, "seed": seed, "seconds": seconds})
    save_png(stacked(pictures), root / "grid.png")
    paths = f"{root / 'grid.png'}, {root / 'mix.png'}, {root / 'restored.png'}"
    larger = f"(c) restored to {restorer.resolution} px: {restoration(restored)}"
    text = f"{table(rows)}\n\n{larger}\n\n{seconds / 60:.1f} minutes; the faces: {paths}"
    return DemoReport(rows, restored, text)


def mixed_styles(evaluator: Evaluator) -> tuple[dict[str, Any], Image.Image]:
    """Every style of a bald face with every one of a bearded face, by the network, styles and recipe that come with the package.

    The rows alone stand where Method A has its phase 1: they should carry attribute 1 only.
    """
    folder, generator = located(SYNTHETIC), open_networks(SYNTHETIC).generator().to(evaluator.device)
    bald, beard = (read_styles(folder / "styles" / f"{name}.npz", generator.config) for name in ("bald", "beard"))
    recipe = Recipe.read(folder / "recipe.json", generator.config.num_ws, generator.config)
    mixes, size = mix(Renderer(generator, batch=batch_for(generator.config.resolution)), bald, beard, recipe), evaluator.judge.resolution
    images = mixes.tensors.flatten(0, 1)
    small = resized(images, size, "the judge")
    seen = evaluator.score_samples(small.__getitem__, len(small), what="mixes")
    report = evaluator.measure(seen, resized(mixes.rows, size, "the judge"))
    mask = recipe.mask.at(generator.config.resolution) if recipe.mask else None
    row_of = torch.arange(len(bald)).repeat_interleave(len(beard))
    report["kept"] = kept_by(evaluator, seen, images, mixes.rows, row_of, mask).to_json()
    shown = mixes.tensors[:SHOWN, :SHOWN]
    names = mixes.row_names[:SHOWN], mixes.col_names[:SHOWN]
    return report, grid(mixes.rows[:SHOWN], mixes.cols[:SHOWN], shown, *names)


def restoration(report: dict[str, Any]) -> str:
    """One line on what restoration did to the faces' attributes."""
    before, after = (report[part]["joint"]["rate"] for part in ("before", "after"))
    return f"joint rate {before:.3f} before, {after:.3f} after, of {report['samples']} faces"


TITLES = {
    "phase1": "(a) phase 1: a GAN of attribute 1",
    "plain": "(b) plain GAN fine-tuned on attribute 2",
    "method_a": "(c) Method A",
    "mixed": "(d) Method B: styles mixed",
}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Joint and normalised rates, one row a generator."""
    report = next(iter(rows.values()))
    names = report["attributes"]
    head = ["", f"{' and '.join(names)} [95 %]", "normalised [95 %]", *names]
    lines = [head]
    for name, row in rows.items():
        marginals = [f"{row['marginals'][attribute]:.2f}" for attribute in names]
        lines.append([TITLES[name], interval(row["joint"]), interval(row["normalised"]), *marginals])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    floors = f"floor {report['floor']:.3f} (of (d): {rows['mixed']['floor']:.3f}), ceiling {report['ceiling']:.3f}"
    of_row = rows["mixed"]["kept"]
    change = "" if of_row["outside"] is None else f"; outside the mask they change by {of_row['outside']:.0%} of what two rows differ by"
    keeps = f"(d) keeps its rows: {of_row['found']:.0%} of the mixes are of all rows nearest to their own{change}"
    return f"\n{text}\n\n{floors}; {report['samples']} faces each, {rows['mixed']['samples']} mixes\n{keeps}"
