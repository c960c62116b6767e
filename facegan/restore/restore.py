"""`facegan restore`: faces in, larger and sharper ones out, one PNG a face, and a sheet of before and after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.restorers import open_restorer
from facegan.errors import FaceganError
from facegan.restore.faces import Face, Problem, generated_faces, read_faces
from facegan.restore.network import Restorer
from facegan.styles.comparison import comparison
from facegan.styles.targets import image_files
from facegan.training.batches import to_float
from facegan.training.pictures import save_png

SHEET = "before-after"
SHOWN = 12  # rows of the sheet
SHEET_SIDE = 256  # pixels of a face in it, at most
SHARPENING = ImageFilter.UnsharpMask(radius=1, percent=60, threshold=2)
log = logging.getLogger("facegan.restore")


@dataclass(frozen=True)
class Request:
    """What the command line asks for; the flags are described there."""

    inputs: Sequence[str] = ()
    from_run: str = ""
    num: int = 64
    weights: str = ""
    scale: int = 0
    batch: int = 8
    out: str = "restored"


def restore(request: Request) -> None:
    """Restore what is asked for; FaceganError at the end where some had to be left out."""
    check(request)
    out = Path(request.out)
    files = image_files(request.inputs)
    total, faces = find_faces(request, files)
    writer = Writer(out, files)
    method = Network(request.weights, request.scale) if request.weights else Interpolation(request.scale or 2)
    log.info(method.words)
    pairs: list[tuple[Face, Image.Image]] = []
    problems = []
    with tqdm(total=total, desc="restoring", unit="face") as bar:
        while group := list(islice(faces, request.batch)):
            found = [item if isinstance(item, Problem) else writer.refusal(item) or method.refusal(item) or item for item in group]
            wanted = [item for item in found if isinstance(item, Face)]
            problems += [item.sentence for item in found if isinstance(item, Problem)]
            done = list(zip(wanted, method(wanted), strict=True))
            for face, image in done:
                writer.write(face, image)
            pairs += done[: SHOWN - len(pairs)]
            bar.update(len(group))
    for problem in problems:
        log.warning("left out: %s", problem)
    if pairs:
        save_png(before_and_after(pairs), out / f"{SHEET}.png")
        print(out / f"{SHEET}.png")
    if problems:
        raise FaceganError(f"{len(problems)} of {total} faces left out: {'; '.join(problems[:3])}{' ...' if problems[3:] else ''}")


def check(request: Request) -> None:
    if bool(request.inputs) == bool(request.from_run):
        raise FaceganError("expected either images and folders of them, or --from-run RUN for the faces of a trained run")
    for name in ("num", "batch"):
        if getattr(request, name) < 1:
            raise FaceganError(f"--{name} is {getattr(request, name)}: expected at least 1")


def find_faces(request: Request, files: Sequence[Path]) -> tuple[int, Iterator[Face | Problem]]:
    """How many there are, and the faces, read one by one."""
    if request.from_run:
        return request.num, generated_faces(request.from_run, request.num, request.batch)
    return len(files), read_faces(files)


class Writer:
    """Writes `out/NAME.png`, never two faces to one file, and never onto what is being restored."""

    def __init__(self, out: Path, inputs: Iterable[Path]) -> None:
        self.out, self.taken = out, {SHEET: "the sheet of before and after"}
        self.inputs = {path.resolve() for path in inputs}
        if (sheet := out / f"{SHEET}.png").resolve() in self.inputs:
            raise FaceganError(f"{sheet} is to be restored, and {self.taken[SHEET]} would be written there; name another folder in --out")

    def refusal(self, face: Face) -> Problem | None:
        path = self.out / f"{face.name}.png"
        if path.resolve() in self.inputs:
            return Problem(f"{path}, which is to be restored, would be overwritten; name another folder in --out")
        if face.name in self.taken:
            return Problem(f"{face.source} would be written to {path}, as {self.taken[face.name]} is; rename it, or restore it apart")
        self.taken[face.name] = face.source
        return None

    def write(self, face: Face, image: Image.Image) -> None:
        save_png(image, self.out / f"{face.name}.png")


class Interpolation:
    """Lanczos and mild sharpening: what can be done without weights."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.words = f"no --weights: faces are enlarged {scale} times by Lanczos and mildly sharpened, no network adds detail"

    def refusal(self, face: Face) -> Problem | None:
        return None

    def __call__(self, faces: Sequence[Face]) -> list[Image.Image]:
        return [lanczos(face.image, face.image.width * self.scale).filter(SHARPENING) for face in faces]


class Network:
    """A restorer's weights on the device."""

    def __init__(self, path: str, scale: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.path, self.scale = path, scale
        self.restorer: Restorer = open_restorer(path).restorer().to(self.device)
        self.resolution = self.restorer.config.resolution
        self.words = f"{path}: a restorer of {self.resolution} px faces"

    def refusal(self, face: Face) -> Problem | None:
        if self.scale and face.image.width * self.scale != self.resolution:
            return Problem(
                f"{face.source} has {face.image.width} px, which --scale {self.scale} makes {face.image.width * self.scale}, but "
                f"{self.path} makes {self.resolution}: leave --scale away, or name weights of that size"
            )
        return None

    def __call__(self, faces: Sequence[Face]) -> list[Image.Image]:
        if not faces:
            return []
        images = np.stack([np.asarray(lanczos(face.image, self.resolution)).transpose(2, 0, 1) for face in faces])
        return pictures(mended(self.restorer, to_float(images, self.device)))


@torch.no_grad()
def mended(restorer: Callable[[Tensor], Tensor], images: Tensor, batch: int = 32) -> Tensor:
    """[N, 3, R, R] in [-1, 1] -> the same shape on the CPU, clipped to that range."""
    return torch.cat([restorer(part).float().clamp(-1, 1).cpu() for part in images.split(batch)])


def pictures(images: Tensor) -> list[Image.Image]:
    """y / 2 + 1/2, clipped, to whole levels by truncation, as GPEN writes them."""
    levels = (images / 2 + 0.5).clamp(0, 1).mul(255).to(torch.uint8)
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in levels]


def lanczos(image: Image.Image, side: int) -> Image.Image:
    return image if image.width == side else image.resize((side, side), Image.Resampling.LANCZOS)


def before_and_after(pairs: Iterable[tuple[Face, Image.Image]]) -> Image.Image:
    """Each face, enlarged by repeating pixels, beside the restored one."""
    pairs = list(pairs)
    side = min(SHEET_SIDE, max(image.width for _, image in pairs))
    flat = [image for face, after in pairs for image in (face.image.resize((side, side), Image.Resampling.NEAREST), lanczos(after, side))]
    images = to_float(np.stack([np.asarray(image).transpose(2, 0, 1) for image in flat]))
    return comparison(images.unflatten(0, (-1, 2)), ["before", "after"], [face.name for face, _ in pairs])
