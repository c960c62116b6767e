"""`facegan generate`: faces of a run as PNG files and a grid."""

from __future__ import annotations

from pathlib import Path

from tqdm.auto import tqdm

from facegan.errors import FaceganError
from facegan.generators import TrainedRun, parse_seeds
from facegan.training.pictures import save_png, sheet, to_pil


def generate(run: str, seeds: str, out: str, stage: str = "", best: int = 0) -> None:
    """Write `out/seed0000.png` ... and `out/grid.png`; with `best`, only the seeds that the run's own critics prefer."""
    trained, chosen, folder = TrainedRun(run, stage), parse_seeds(seeds), Path(out)
    images = trained.faces(chosen)
    if best:
        scores = trained.critic_scores(images)
        if scores is None:
            raise FaceganError(f"--best needs critics, and {run} has none: train it with --critics all")
        order = scores.argsort(descending=True, stable=True)[:best].sort().values
        images, chosen = images[order], [chosen[index] for index in order.tolist()]
    try:
        for seed, image in zip(tqdm(chosen, desc="faces", unit="face"), images, strict=True):
            save_png(to_pil(image), folder / f"seed{seed:04d}.png")
        save_png(sheet(images), folder / "grid.png")
    except OSError as error:
        raise FaceganError(f"--out {out} cannot be written ({error}): name a folder where you may write") from error
    print(folder / "grid.png")
