"""`facegan generate`: faces of a run as PNG files and a grid."""

from __future__ import annotations

import logging
from pathlib import Path

from tqdm.auto import tqdm

from facegan.errors import FaceganError
from facegan.generators import TrainedRun, parse_seeds
from facegan.training.pictures import save_png, sheet, to_pil

log = logging.getLogger("facegan.generate")


def generate(run: str, seeds: str, out: str, stage: str = "", best: int = 0) -> None:
    """Write `out/seed0000.png` ... and `out/grid.png`; with `best`, only the seeds that the run's own critics prefer."""
    if best < 0:
        raise FaceganError(f"--best is {best}: expected 1 or more, or 0 for every seed")
    trained, chosen, folder = TrainedRun(run, stage), parse_seeds(seeds), Path(out)
    images = trained.faces(chosen)
    if best:
        scores = trained.critic_scores(images)
        if scores is None:
            raise FaceganError(f"--best needs critics, and {run} has none: train it with --critics all")
        if trained.without_critic():
            log.warning("--best goes by %s alone: this run has no critic for %s; train with --critics all to judge every attribute",
                        ", ".join(trained.critic_facts()), ", ".join(trained.without_critic()))  # fmt: skip
        order = scores.argsort(descending=True, stable=True)[:best].sort().values
        images, chosen = images[order], [chosen[index] for index in order.tolist()]
    for seed, image in zip(tqdm(chosen, desc="faces", unit="face"), images, strict=True):
        save_png(to_pil(image), folder / f"seed{seed:04d}.png")
    save_png(sheet(images), folder / "grid.png")
    print(folder / "grid.png")
