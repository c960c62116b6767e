"""Lives of a command in forked processes, which are killed where the campaign says, and the commands that campaigns put through that.

A fork of a process that has imported PyTorch, on one thread, is alive in milliseconds: a thousand lives take minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

CLOCKS = {"seconds", "images_per_second", "data_wait"}
CHANGES = {"os.rename", "os.remove", "os.truncate", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.link", "os.symlink"}
IMPORTED = (
    "torch._dynamo", "facegan.api", "facegan.session", "facegan.warmup", "facegan.methods.a.stages", "facegan.methods.b.stages",
    "facegan.methods.restore.stages", "facegan.styles.project", "facegan.backend", "torch.utils.tensorboard",
    "tensorboard.backend.event_processing.event_accumulator", "facegan_kernels",
)  # fmt: skip
LONGEST = 120.0  # seconds of a life: one that takes longer hangs


@dataclass(frozen=True)
class Command:
    """Something that writes into a folder, and that the same call resumes or repeats."""

    name: str
    run: Callable[[Path], None]
    result: Callable[[Path], dict[str, Any]]  # what must not depend on what it went through


@dataclass
class Life:
    """How a process ended: 0, the signal's number below 0, or 1 with what it said."""

    code: int
    said: str
    seconds: float


@dataclass(frozen=True)
class Fate:
    """What ends a life: the change of the file system before which it is killed (0: none), the step, the seconds, or no more room."""

    change: int = 0
    step: int = 0
    seconds: float = 0.0
    largest: int = 0  # bytes of a file, beyond which writing fails as on a full disk
    count: list[int] = field(default_factory=list)


def live(run: Callable[[Path], None], out: Path, log: Path, fate: Fate = Fate(), counted: Path | None = None) -> Life:
    """One life; `counted`: a file that gets the number of changes of the file system it made."""
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with open(log, "w") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")  # as the command line does
            changes = _watch(out, fate)
            if fate.step:
                _die_at_step(fate.step)
            if fate.largest:
                resource.setrlimit(resource.RLIMIT_FSIZE, (fate.largest, fate.largest))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            run(out)
            if counted:
                counted.write_text(str(changes[0]))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    lived, last = 0.0, start  # a pause of this campaign, as by Ctrl-Z, is none of the life's time
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        now = time.monotonic()
        lived, last = lived + min(now - last, 0.1), now
        if lived > (fate.seconds or LONGEST):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Life(
                -signal.SIGKILL if fate.seconds else 1, "" if fate.seconds else f"it hung for {LONGEST} s", time.monotonic() - start
            )
        time.sleep(0.001)
    return Life(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), time.monotonic() - start)


def _watch(out: Path, fate: Fate) -> list[int]:
    """Counts what changes files below the folder of `out`, and kills before the change that is this life's last."""
    count, root = [0], str(out.parent)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if isinstance(path, (str, os.PathLike)) and str(path).startswith(root):
            count[0] += 1
            if count[0] == fate.change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def _die_at_step(last: int) -> None:
    from facegan.training import loop

    timed, taken = loop.StageRun._timed_step, []

    def stepping(self: loop.StageRun, at: int) -> None:
        taken.append(at)
        if len(taken) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        timed(self, at)

    loop.StageRun._timed_step = stepping  # type: ignore[method-assign]


# --- what is compared


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def files_of(root: Path, *patterns: str) -> dict[str, Any]:
    return {path.relative_to(root).as_posix(): digest(path) for pattern in patterns for path in root.glob(pattern) if path.is_file()}


def litter_of(root: Path) -> dict[str, Any]:
    """Hidden files, but for alignment's notes."""
    return {f"litter {path.name}": True for path in root.rglob(".*") if path.name != ".alignment"}


def run_result(root: Path) -> dict[str, Any]:
    """Of a training: weights, image lists, pictures, rows, the names of checkpoints, what TensorBoard shows, and litter."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(root / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    shown = sorted((tag, event.step) for tag in events.Tags()["scalars"] for event in events.Scalars(tag))
    return {
        **files_of(root, "stages/*/model.safetensors", "ids/*.txt", "samples/*.png", "checkpoints/*/model.safetensors"), **litter_of(root),
        "rows": [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows], "events": shown,
    }  # fmt: skip


def folder_result(root: Path) -> dict[str, Any]:
    """Of a folder of files: all of them."""
    return {**files_of(root, "**/*.png", "**/*.csv", "**/*.npz", "**/*.json", "**/*.safetensors", "**/*.npy"), **litter_of(root)}


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


# --- the commands

SMALL = dict(
    data="synthetic", num=200, resolution=16, batch=8, minimum_images=4, images_per_epoch=8, device="cpu", snapshot_every=2,
    log_every=1,
)  # fmt: skip
TRAININGS: dict[str, dict[str, Any]] = {
    "a": dict(width=0.25, recipe="thesis", pretrain_epochs=3, phase1_epochs=6, phase2_epochs=5, epochs=6, merge="regional",
              self_augment=True, ema_images=60.0, r1_gamma=0.1, harvest_every=2),
    "b": dict(width=0.25, method="b", kimg=8 * 8 / 1000, phase2_epochs=3, ada_kimg=0.1, r1_every=2, pl_every=2, ema_kimg=0.05),
    "restore": dict(method="restore", kimg=8 * 8 / 1000, r1_every=2, ema_kimg=0.05),
}  # fmt: skip


def trainings(inputs: Path) -> Iterator[Command]:
    """Methods A, B and restore; `inputs` gets the prior that restoration starts from."""
    from facegan.methods import configured
    from facegan.session import run

    def training(**flags: Any) -> Callable[[Path], None]:
        return lambda out: run(configured(**{**SMALL, **flags, "out": str(out)})) and None

    prior = inputs / "prior"
    if live(training(method="b", noise="concat", preset="tiny", kimg=0.024, phase2_epochs=0), prior, inputs / "log").code:
        raise RuntimeError((inputs / "log").read_text())
    for name, flags in TRAININGS.items():
        yield Command(name, training(**flags, **({"prior": str(prior)} if name == "restore" else {})), run_result)


def operations(inputs: Path) -> Iterator[Command]:
    """Alignment, projection, labelling, conversion and the cache of decoded images."""
    from photographs import Drawn, StandIn, draw

    from facegan.alignment import aligner
    from facegan.checkpoints.convert import convert
    from facegan.data.faces import open_faces
    from facegan.data.synthetic import write_celeba_layout
    from facegan.labelling.label import label
    from facegan.options import DataAlign, DataLabel

    detector = StandIn()
    (inputs / "photos").mkdir()
    for index in range(6):
        faces = [Drawn(150, 120, 100, seed=index)]
        draw((320, 240), faces, index).save(inputs / f"photos/{index}.png")
        detector.tell(Image.open(inputs / f"photos/{index}.png").convert("RGB"), faces)
    aligner.Detector = lambda device: detector  # type: ignore[assignment, misc, return-value]
    keep: dict[str, Any] = dict(size=64, keep_duplicates=True, min_sharpness=0.0)
    write_celeba_layout(inputs / "labelled", 160, 16, 1, image_format="png")
    write_celeba_layout(inputs / "faces", 30, 16, 2, image_format="png")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (inputs / "targets").mkdir()
    for name in ("x", "y"):
        Image.fromarray(image).save(inputs / f"targets/{name}.png")

    def project(out: Path) -> None:
        import facegan

        network = facegan.load("synthetic64", device="cpu")
        network.project([str(inputs / "targets")], out=str(out), steps=3, batch=1)

    def align(out: Path) -> None:
        aligner.align_folder(DataAlign(photos=(str(inputs / "photos"),), out=str(out), **keep))

    def labelled(out: Path) -> None:
        target = out / "faces"
        if not target.exists():
            shutil.copytree(inputs / "faces/img_align_celeba", out / "copy", dirs_exist_ok=True)
            (out / "copy").rename(target)
        label(DataLabel(faces=str(target), from_=(str(inputs / "labelled"),), resolution=16, folds=2, device="cpu"), progress=False).save()

    def decoded(out: Path) -> None:
        open_faces(inputs / "faces", 16, cache_dir=out / "cache", progress=False)

    yield Command("align", align, folder_result)
    yield Command("project", project, folder_result)
    yield Command("label", labelled, folder_result)
    yield Command("convert", lambda out: convert("synthetic64", str(out / "net")) and None, folder_result)
    yield Command("cache", decoded, folder_result)


@contextlib.contextmanager
def quiet_machine(folder: Path) -> Iterator[random.Random]:
    """One thread, and a cache of its own, for the forks of this process, which find imported what they need."""
    for module in IMPORTED:
        importlib.import_module(module)
    torch.set_num_threads(1)
    os.environ["FACEGAN_CACHE"] = str(folder / "cache")
    yield random.Random()


__all__ = ["Command", "Fate", "Life", "differences", "live", "operations", "quiet_machine", "trainings"]
