"""How many photos a second become faces, and the memory that takes: `python benchmarks/align.py [--photos 64]`.

The photos are 1600 x 1200 JPEGs with one face each: the array that the tests make from the detector's own gradients. Beside it, in the
same process, what reading these photos alone takes.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from photographs import portrait

from facegan.alignment.aligner import align_folder, side_by_side
from facegan.alignment.photos import read_photo
from facegan.alignment.weights import networks
from facegan.options import DataAlign

DISTINCT = 24  # photos that are drawn; more are copies


def draw(folder: Path, count: int) -> None:
    """Write the photos."""
    face, random = portrait(networks(torch.device("cpu"))), np.random.default_rng(0)
    folder.mkdir()
    for i in range(min(count, DISTINCT)):
        coarse = Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8))
        photo, side = coarse.resize((1600, 1200), Image.Resampling.BICUBIC), int(random.integers(300, 800))
        photo.paste(face.resize((side, side), Image.Resampling.BICUBIC), (int(random.integers(0, 800)), int(random.integers(0, 400))))
        photo.save(folder / f"{i:06d}.jpg", quality=92)
    for i in range(DISTINCT, count):
        os.link(folder / f"{i % DISTINCT:06d}.jpg", folder / f"{i:06d}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=64, help="how many (default: 64)")
    parser.add_argument("--device", default="cpu", help="where the networks run (default: cpu)")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="facegan-align-"))
    try:
        draw(place / "photos", options.photos)
        files = sorted((place / "photos").iterdir())
        start = time.perf_counter()
        for _ in side_by_side(read_photo, files):
            pass
        reading = len(files) / (time.perf_counter() - start)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        chosen = dict(photos=(str(place / "photos"),), out=str(place / "faces"), device=options.device)
        aligned = align_folder(DataAlign(keep_duplicates=True, min_sharpness=0.0, **chosen))
        rate = len(files) / (time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    finally:
        shutil.rmtree(place)
    print(f"{len(files)} photos of 1600 x 1200, {len(aligned)} faces of {aligned.options.size} px, {torch.get_num_threads()} threads")
    print(f"{rate:.1f} photos/s; reading alone {reading:.1f} photos/s; peak memory {peak:.0f} MiB, {before:.0f} MiB before")


if __name__ == "__main__":
    main()
