"""`facegan demo`: the whole of Method A, small, on drawn faces, with the baselines that it must beat."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from PIL import Image

from facegan.evaluate import Evaluator, interval
from facegan.generators import TrainedRun
from facegan.training.config import TrainConfig, from_arguments
from facegan.training.folder import write_json
from facegan.training.pictures import save_png
from facegan.training.session import run

SAMPLES = 1024
# Sized for two slow cores: widths, batch and lengths by measurement (see docs/results.md).
SMALL: dict[str, Any] = dict(
    data="synthetic", num=6000, resolution=32, width=0.5, batch=16, phase1_epochs=60, phase2_epochs=24, epochs=60,
    lr=0.005, ema_images=1000.0, r1_gamma=0.1, r1_every=8, augment="none", modulate=False,
)  # fmt: skip


def settings(out: Path, seed: int, recipe: str) -> TrainConfig:
    # The plain baseline starts from the very same phase 1 and gets the very same length.
    inherited = {} if recipe == "best" else {"phase1_from": str(out.parent / "method_a")}
    return from_arguments({**SMALL, "recipe": recipe, "seed": seed, "out": str(out), **inherited})


def demo(out: str, seed: int) -> dict[str, Any]:
    """Train both, rate three generators, print the table; writes report.json and grid.png into `out`."""
    start, root = time.perf_counter(), Path(out)
    method_a = run(settings(root / "method_a", seed, "best"))
    plain = run(settings(root / "plain", seed, "plain"))
    evaluator = Evaluator(TrainedRun(method_a).config)
    generators = {"phase1": TrainedRun(method_a, "phase1"), "plain": TrainedRun(plain), "method_a": TrainedRun(method_a)}
    rows, pictures = {}, []
    for name, trained in generators.items():
        rows[name], sheet = evaluator.rate(trained, SAMPLES)
        pictures.append(sheet)
    seconds = time.perf_counter() - start
    write_json(root / "report.json", {"rows": rows, "seed": seed, "seconds": seconds})
    save_png(stacked(pictures), root / "grid.png")
    print(table(rows))
    print(f"\n{seconds / 60:.1f} minutes; the faces: {root / 'grid.png'}")
    return rows


TITLES = {
    "phase1": "(a) phase 1: a GAN of attribute 1",
    "plain": "(b) plain GAN fine-tuned on attribute 2",
    "method_a": "(c) Method A",
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
    return f"\n{text}\n\nfloor {report['floor']:.3f}, ceiling {report['ceiling']:.3f}; {report['samples']} faces each"


def stacked(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one width, one above the other."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
