"""Streamed images whose decoding processes are killed and stopped at random moments, of random data; every batch must be the cached form's.

    python tests/campaigns/streaming.py --count 200 --seconds 600 --seed 0

A case is a data set of random pictures as a folder, zip or shards, some of them damaged, and a walk through random steps with random sizes
of batches, as a run that is resumed again and again takes. Without damage its batches are compared with those of decoded images, with
damage with those of another object that nobody disturbs, and whose first step is another.
"""

from __future__ import annotations

import io
import logging
import os
import random
import signal
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from arguments import parser_of
from PIL import Image

from facegan.data.decoders import Decoders
from facegan.data.faces import open_faces
from facegan.data.limits import Limits
from facegan.randomness import Randomness, Shard
from facegan.training.batches import DataClock, RealBatches

KINDS = (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("bmp", "BMP"))


def pictures(dice: random.Random, damaged: int) -> dict[str, bytes]:
    """By their names, in two class folders."""
    files, count = {}, dice.randint(20, 90)
    for i in range(count):
        ending, kind = dice.choice(KINDS)
        size = (dice.randint(5, 40), dice.randint(5, 40), 3)
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(dice.getrandbits(32)).integers(0, 256, size, np.uint8)).save(buffer, kind)
        files[f"{'ab'[i % 2]}/{i:03d}.{ending}"] = buffer.getvalue()
    for name in dice.sample(sorted(files), damaged):
        files[name] = files[name][: dice.randint(0, len(files[name]) // 2)]
    return files


def written(files: dict[str, bytes], root: Path, form: str) -> Path:
    if form == "folder":
        for name, content in files.items():
            (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "data" / name).write_bytes(content)
        return root / "data"
    if form == "zip":
        with zipfile.ZipFile(root / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return root / "data.zip"
    with tarfile.open(root / "data.tar", "w") as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return root / "data.tar"


class Disturber(threading.Thread):
    """Kills, or stops for a moment, processes of `decoders` until it is told to end."""

    def __init__(self, decoders: Decoders, dice: random.Random) -> None:
        super().__init__()
        self.members, self.dice, self.over, self.done = decoders.members, dice, threading.Event(), Counter[str]()

    def run(self) -> None:
        while not self.over.wait(self.dice.uniform(0.02, 0.8)):
            child = self.dice.choice(self.members).child
            if child is None or child.poll() is not None:
                continue
            try:
                if self.dice.random() < 0.7:
                    os.kill(child.pid, signal.SIGKILL)
                    self.done["kills"] += 1
                else:
                    os.kill(child.pid, signal.SIGSTOP)
                    self.over.wait(0.05)
                    os.kill(child.pid, signal.SIGCONT)
                    self.done["stops"] += 1
            except ProcessLookupError:
                pass


def case(dice: random.Random, root: Path) -> tuple[Counter[str], list[str]]:
    form, damaged = dice.choice(["folder", "zip", "tar"]), dice.choice([0, 0, 1, 4])
    data, resolution = written(pictures(dice, damaged), root, form), dice.choice([4, 8, 16])

    def batches(stream: bool) -> RealBatches:
        faces = open_faces(data, resolution, cache_dir=root / "cache", progress=False, limits=Limits(stream=stream, decoders=2))
        index = np.random.default_rng(5).permutation(len(faces))[: max(8, len(faces) // 2)]
        return RealBatches(faces.images, index, "reals", Randomness(1, Shard(), torch.device("cpu")), DataClock())

    expected, found = batches(stream=bool(damaged)), batches(stream=True)
    steps = [(dice.randint(0, 500), dice.choice([4, 8, 16])) for _ in range(3)]
    walk = [(step + i, count) for step, count in steps for i in range(dice.randint(3, 12))]
    kept = dict(zip(reversed(walk), [expected(*each) for each in reversed(walk)], strict=True))
    disturber = Disturber(found.fetch.images.decoders, random.Random(dice.getrandbits(32)))  # type: ignore[union-attr]
    disturber.start()
    try:
        wrong = [f"{form}, {damaged} damaged: step {each} differs" for each in walk if not np.array_equal(found(*each), kept[each])]
    finally:
        disturber.over.set()
        disturber.join()
        for images in (expected.fetch.images, found.fetch.images):
            if hasattr(images, "decoders"):
                images.decoders.close()
    return disturber.done + Counter({"batches": len(walk), form: 1, "with damage": int(damaged > 0)}), wrong


def main(count: int, seconds: float, seed: int) -> int:
    """`count` cases, or as many as fit into so many seconds; 1 where a batch differed."""
    logging.getLogger("facegan").setLevel(logging.ERROR)
    dice, until = random.Random(seed), time.monotonic() + seconds
    total, wrong, cases = Counter[str](), list[str](), 0
    while cases < count and time.monotonic() < until and len(wrong) < 10:
        with tempfile.TemporaryDirectory() as folder:
            done, different = case(dice, Path(folder))
        total, cases = total + done, cases + 1
        wrong += [f"case {cases - 1}: {each}" for each in different]
    told = ", ".join(f"{number} {name}" for name, number in sorted(total.items()))
    print(f"streaming {cases} cases ({told}): {'; '.join(wrong) or 'every batch as it should be'}")
    return bool(wrong)


if __name__ == "__main__":
    parser = parser_of(__doc__, count=200, seconds=600)
    sys.exit(main(**vars(parser.parse_args())))
