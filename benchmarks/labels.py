"""How well `facegan data label` rates faces, and what a network like the critics of phase 2 makes of the same labelled faces.

    python benchmarks/labels.py ../shared/data/celeba64.zip --seeds 3 [--network] [--rounds 3]

Of CelebA's bald and bearded (`Bald`, not `No_Beard`) 50 of each combination are labelled, so 100 a side, and 2,000 others are rated.
`--rounds`: after each round the true labels of the hundred most uncertain faces are filled in, as a person would who checks them.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import facegan
from facegan.data.faces import FaceData, open_faces
from facegan.models.conv_gan import Discriminator, DiscriminatorConfig, channels_last
from facegan.pixels import to_float
from facegan.training.augment import VIEW_NUMBERS, view
from facegan.training.optimizer import adam

NAMES, SIDE, OTHERS, CHECKED = ("bald", "beard"), 50, 2000, 100


def area(scores: np.ndarray, truth: np.ndarray) -> float:
    """Under the curve: pairs ordered rightly."""
    rank = np.empty(len(scores))
    rank[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    ones = truth.sum()
    return float((rank[truth == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(truth) - ones)))


def drawn(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to label, and rows to rate."""
    random = np.random.default_rng(seed)
    cells = (np.flatnonzero((truth[:, 0] == a) & (truth[:, 1] == b)) for a in (0, 1) for b in (0, 1))
    labelled = np.concatenate([random.permutation(cell)[:SIDE] for cell in cells])
    return labelled, random.permutation(np.setdiff1d(np.arange(len(truth)), labelled))[:OTHERS]


def write(folder: Path, faces: FaceData, rows: np.ndarray, truth: np.ndarray | None = None) -> Path:
    """Faces as PNG, with metadata.csv where their truth is given."""
    folder.mkdir()
    for i in rows:
        Image.fromarray(faces.images[i].transpose(1, 2, 0)).save(folder / f"{i:06d}.png")
    if truth is not None:
        lines = [",".join(["file_name", *NAMES]), *(f"{i:06d}.png,{truth[i, 0]:g},{truth[i, 1]:g}" for i in rows)]
        (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def check_first(path: Path, truth: np.ndarray) -> None:
    """What a person does: the most uncertain faces that nobody has checked get their true values."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in [row for row in rows if not row["checked"]][:CHECKED]:
        i = int(row["file_name"][:6])
        row |= {"checked": "1", **{name: f"{truth[i, k]:g}" for k, name in enumerate(NAMES)}}
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def rated(faces: FaceData, truth: np.ndarray, seed: int, rounds: int, root: Path) -> None:
    """Rounds of labelling, each measured on all faces; checked ones have the score that they got held out."""
    labelled, others = drawn(truth, seed)
    known, folder = write(root / "labelled", faces, labelled, truth), write(root / "faces", faces, others)
    for number in range(rounds):
        start = time.perf_counter()
        labels = facegan.label(folder, attributes=NAMES, from_=known, seed=seed)
        labels.save()
        seconds = time.perf_counter() - start
        index = np.array([int(name[:6]) for name in labels.names])
        for k, name in enumerate(NAMES):
            p, said, y = labels.scores[:, k], labels.values[:, k], truth[index, k]
            sure, present = ~np.isnan(said), said == 1
            bins = np.array_split(np.argsort(p), 10)
            error = sum(len(part) * abs(p[part].mean() - y[part].mean()) for part in bins) / len(p)
            print(
                f"seed {seed} round {number + 1} {name:5s}: area {area(p, y):.3f}, known {sure.mean():.3f}, of whom right "
                f"{(said == y)[sure].mean():.4f}; 1: {int(present.sum())}, of whom right {int(y[present].sum())}; calibration error "
                f"{error:.3f}, share {y.mean():.3f}, estimated {labels.figures[k].share:.3f}; {seconds:.1f} s",
                flush=True,
            )
        check_first(folder / "metadata.csv", truth)


def network(faces: FaceData, truth: np.ndarray, seed: int, steps: int = 250, batch: int = 32, lr: float = 8e-3) -> None:
    """Critics as in phase 2, without harvested and degraded faces: the same network, loss and views, one for each attribute."""
    labelled, others = drawn(truth, seed)
    random = np.random.default_rng(seed)
    for k, name in enumerate(NAMES):
        start = time.perf_counter()
        torch.manual_seed(seed)
        critic = channels_last(Discriminator(DiscriminatorConfig(64, 64, deviation=False)))
        optimizer = adam(critic.parameters(), lr, (0.9, 0.99), "cpu")
        sides = [labelled[truth[labelled, k] == value] for value in (1, 0)]
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * min(1, 2 * (1 - step / steps))
            rows = np.concatenate([random.choice(side, batch // 2, replace=False) for side in sides])
            numbers = torch.from_numpy(random.random((batch, VIEW_NUMBERS), dtype=np.float32))
            scores = critic(view(to_float(np.ascontiguousarray(faces.images[rows])), numbers))
            loss = (scores[: batch // 2] - 1).square().mean() + scores[batch // 2 :].square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            parts = [to_float(np.ascontiguousarray(faces.images[part])) for part in np.array_split(others, 8)]
            scores = np.concatenate([(critic(part) + critic(part.flip(3))).numpy() for part in parts])
        print(f"seed {seed} network {name:5s}: area {area(scores, truth[others, k]):.3f}; {time.perf_counter() - start:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--network", action="store_true")
    arguments = parser.parse_args()
    faces = open_faces(arguments.data, 64)
    truth = np.stack([faces.table.column("Bald"), 1 - faces.table.column("No_Beard")], 1)
    for seed in range(arguments.seeds):
        root = Path(tempfile.mkdtemp())
        try:
            rated(faces, truth, seed, arguments.rounds, root)
        finally:
            shutil.rmtree(root)
        if arguments.network:
            network(faces, truth, seed)


if __name__ == "__main__":
    main()
