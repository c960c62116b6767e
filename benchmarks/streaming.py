"""What streaming costs: images decoded in a second by one process, and trainings on streamed and on decoded images, side by side.

    python benchmarks/streaming.py [--data ../shared/data/celeba64.zip] [--rounds 6] [--only walks,decoding,trainings]

Decoding: synthetic faces of each size as JPEG (quality 95) and PNG, decoded at that size by one process, in its processor time, which does
not depend on who else uses the machine. Trainings:
Method A's phase 1 and Method B, blocks of steps in turn in one process; the first steps of a block, which were decoded ahead while the
other training ran, are not counted. Without `--data` synthetic faces, written as PNG, are trained on.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from facegan.data.faces import open_faces
from facegan.data.limits import Limits
from facegan.data.streaming import StreamedImages
from facegan.data.synthetic import render_dataset, write_celeba_layout
from facegan.methods import configured
from facegan.methods.a.phase1 import Phase1
from facegan.methods.b.stage import StyleGAN2Training
from facegan.randomness import permuted
from facegan.session import accelerator_for, make_context
from facegan.training.batches import AHEAD

SIZES, FACES = (64, 256, 512), 96
BLOCK = 24  # steps of one training at a time, without the first ones
TRAININGS: dict[str, dict[str, Any]] = {
    "Method A, 32 px, batch 16": dict(method="a", resolution=32, batch=16),
    "Method A, 64 px, batch 32": dict(method="a", resolution=64, batch=32),
    "Method B tiny, 32 px, batch 16": dict(method="b", preset="tiny", resolution=32, batch=16, augment="none"),
}


def decoding_time(images: Any) -> float:
    """Seconds of processor time that decoding processes have taken; 0 for images that need none."""
    pids = [member.child.pid for member in images.decoders.members if member.child] if isinstance(images, StreamedImages) else []
    ticks = [sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) for pid in pids]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def decoding(folder: Path) -> None:
    print("\n| images | bytes each | decoded in a second of a core | MiB of pixels |\n|---|---|---|---|")
    for size in SIZES:
        images, _ = render_dataset(FACES, size, 0, progress=False)
        for kind, options in (("JPEG", {"quality": 95}), ("PNG", {})):
            root, total = folder / f"{kind}{size}", 0
            for i, image in enumerate(images):
                buffer = io.BytesIO()
                noisy = image.astype(np.int16) + np.random.default_rng(i).integers(-6, 7, image.shape)  # as grainy as photographs are
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(buffer, kind, **options)
                total += len(buffer.getvalue())
                path = root / "ab"[i % 2] / f"{i}.{kind.lower()}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(buffer.getvalue())
            faces = open_faces(root, size, cache_dir=folder / "cache", progress=False, limits=Limits(stream=True, decoders=1)).images
            faces[:8]  # the process starts
            start = decoding_time(faces)
            for _ in range(3):
                faces[:]
            rate = 3 * FACES / (decoding_time(faces) - start)
            print(f"| {size} px {kind} | {total / FACES / 1024:.1f} KiB | {rate:,.0f} | {rate * 3 * size**2 / 2**20:,.1f} |", flush=True)


def stage_of(values: dict[str, Any], data: str, stream: bool, out: Path) -> Any:
    limits = dict(stream=stream, cache_limit="1TB")
    config = configured(**values, **limits, data=data, device="cpu", out=str(out), snapshot_every=10**6, log_every=10**6)
    context = make_context(config, accelerator_for(config))
    context.seed_networks("benchmark")
    return Phase1(context, None) if values["method"] == "a" else StyleGAN2Training(context)  # type: ignore[arg-type]


def trainings(data: str, rounds: int, only: str, folder: Path) -> None:
    """Rates, the share waited, and what does not depend on who else uses the machine: processor time of a step."""
    titles = ["training", "steps a second, decoded", "streamed", "ratio", "waiting for data, decoded", "streamed",
              "processor time of a step, ms: decoded", "streamed", "and its decoding"]  # fmt: skip
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, values in TRAININGS.items():
        if only not in name:
            continue
        stages = [stage_of(values, data, stream, folder / f"run{stream}") for stream in (False, True)]
        rates: list[list[float]] = [[], []]
        waits: list[list[float]] = [[], []]
        spent: list[list[float]] = [[], [], []]
        for block in range(rounds + 1):
            for which, stage in enumerate(stages):
                clock, first = stage.context.clock, block * (BLOCK + AHEAD + 1)
                for step in range(first, first + AHEAD + 1):
                    stage.step(step)
                start, waited, own, others = (
                    time.perf_counter(),
                    clock.seconds,
                    time.process_time(),
                    decoding_time(stage.context.data.images),
                )
                for step in range(first + AHEAD + 1, first + AHEAD + 1 + BLOCK):
                    stage.step(step)
                seconds = time.perf_counter() - start
                if block:  # the first one warms up
                    rates[which].append(BLOCK / seconds)
                    waits[which].append((clock.seconds - waited) / seconds)
                    spent[which].append(1e3 * (time.process_time() - own) / BLOCK)
                    if which:
                        spent[2].append(1e3 * (decoding_time(stage.context.data.images) - others) / BLOCK)
        ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
        (kept, streamed), (wait, waited) = (list(map(statistics.median, each)) for each in (rates, waits))
        shares, times = f"{100 * wait:.2f} % | {100 * waited:.2f} %", " | ".join(f"{statistics.median(each):.1f}" for each in spent)
        print(f"| {name} | {kept:.2f} | {streamed:.2f} | {ratio:.3f} | {shares} | {times} |", flush=True)


def walks() -> None:
    print("\n| images | a batch of 32 out of the walk |\n|---|---|")
    for size in (10_000, 100_000, 1_000_000, 100_000_000):
        times = []
        for step in range(200):
            start = time.perf_counter()
            permuted(0, "reals", step * 32, 32, size)
            times.append(time.perf_counter() - start)
        print(f"| {size:,} | {1e3 * statistics.median(times):.2f} ms |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", default="walks,decoding,trainings")
    parser.add_argument("--training", default="", help="only those with this in their name")
    arguments = parser.parse_args()
    logging.getLogger("facegan").setLevel(logging.WARNING)
    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        if not arguments.data and "trainings" in arguments.only:
            write_celeba_layout(folder / "faces", num=2000, resolution=64, seed=0)
        if "walks" in arguments.only:
            walks()
        if "decoding" in arguments.only:
            decoding(folder)
        if "trainings" in arguments.only:
            trainings(arguments.data or str(folder / "faces"), arguments.rounds, arguments.training, folder)


if __name__ == "__main__":
    main()
