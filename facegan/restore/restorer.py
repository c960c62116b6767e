"""`facegan restore`: faces in, larger and sharper ones out, one PNG a face, and a sheet of before and after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.restorers import open_restorer
from facegan.data.photos import ImageFile, image_files
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.models.restorer import Restorer
from facegan.options import Restore
from facegan.plotting.before_after import BeforeAfter, lanczos
from facegan.plotting.sheets import save_png, to_tensor
from facegan.restore.faces import Face, Problem, generated_faces, read_faces

SHEET = "before-after"
SHARPENING = ImageFilter.UnsharpMask(radius=1, percent=60, threshold=2)
log = logging.getLogger("facegan.restore")


def restore(request: Restore) -> Path:
    """Restore what is asked for and return the path of the picture of it; FaceganError at the end where some had to be left out."""
    check(request)
    device, out = resolve_device(request.device), Path(request.out)
    files = find_files(request.inputs, out)
    total, faces = find_faces(request, files, device)
    writer = Writer(out, [file.path for file in files])
    method = (
        RestorerPipeline(request.weights, request.scale, device, request.cuda_graphs)
        if request.weights
        else Interpolation(request.scale or 2)
    )
    log.info(method.description)
    sheet, problems = BeforeAfter(), []
    with tqdm(total=total, desc="restoring", unit="face", disable=None) as bar:
        while group := list(islice(faces, request.batch)):
            found = [item if isinstance(item, Problem) else method.refusal(item) or writer.refusal(item) or item for item in group]
            wanted = [item for item in found if isinstance(item, Face)]
            problems += [item.sentence for item in found if isinstance(item, Problem)]
            for face, image in zip(wanted, method(wanted), strict=True):
                writer.write(face, image)
                sheet.add(face.name, face.image, image)
            bar.update(len(group))
    for problem in problems:
        log.warning("left out: %s", problem)
    if sheet.faces:
        save_png(sheet.picture(), out / f"{SHEET}.png")
    if problems:
        raise FaceganError(f"{len(problems)} of {total} faces left out: {'; '.join(problems[:3])}{' ...' if problems[3:] else ''}")
    return out / f"{SHEET}.png"


def check(request: Restore) -> None:
    if bool(request.inputs) == bool(request.from_run):
        raise FaceganError("expected either images and folders of them, or `from_run=RUN` for the faces of a trained run")
    if request.scale not in (0, 2, 4):
        raise FaceganError(f"`scale` is {request.scale}: expected 2 or 4")
    request.at_least(1, "num", "batch")


def find_files(inputs: Sequence[str], out: Path) -> list[ImageFile]:
    """Those of the inputs; what an earlier call wrote into a folder inside of a folder of faces is no face to be restored."""
    folders = [Path(each).resolve() for each in inputs if Path(each).is_dir()]
    inside = any(folder in out.resolve().parents for folder in folders)
    return [file for file in image_files(inputs) if not (inside and out.resolve() in file.path.resolve().parents)]


def find_faces(request: Restore, files: Sequence[ImageFile], device: torch.device) -> tuple[int, Iterator[Face | Problem]]:
    """How many there are, and the faces, read one by one."""
    if request.from_run:
        return request.num, generated_faces(request.from_run, request.num, request.batch, device)
    return len(files), read_faces(files)


class Writer:
    """Writes `out/NAME.png`, with the face's own alpha, never two faces to one file, and never onto what is being restored."""

    def __init__(self, out: Path, inputs: Iterable[Path]) -> None:
        self.out, self.taken = out, {SHEET: "the sheet of before and after"}
        self.inputs = {path.resolve() for path in inputs}
        if (sheet := out / f"{SHEET}.png").resolve() in self.inputs:
            raise FaceganError(f"{sheet} is to be restored, and {self.taken[SHEET]} would be written there; name another folder in `out`")

    def refusal(self, face: Face) -> Problem | None:
        path = self.out / f"{face.name}.png"
        if path.resolve() in self.inputs:
            return Problem(f"{path}, which is to be restored, would be overwritten; name another folder in `out`")
        if face.name in self.taken:
            return Problem(f"{face.source} would be written to {path}, as {self.taken[face.name]} is; rename it, or restore it apart")
        self.taken[face.name] = face.source
        return None

    def write(self, face: Face, image: Image.Image) -> None:
        if face.alpha:
            image = Image.merge("RGBA", (*image.split(), lanczos(face.alpha, image.width)))
        save_png(image, self.out / f"{face.name}.png")


class Interpolation:
    """Lanczos and mild sharpening: what can be done without weights."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.description = f"no `weights`: faces are enlarged {scale} times by Lanczos and mildly sharpened, no network adds detail"

    def refusal(self, face: Face) -> Problem | None:
        return None

    def __call__(self, faces: Sequence[Face]) -> Iterator[Image.Image]:
        return (lanczos(face.image, face.image.width * self.scale).filter(SHARPENING) for face in faces)


class RestorerPipeline:
    """A restorer's weights on the device."""

    def __init__(self, path: str, scale: int, device: torch.device | str = AUTO, cuda_graphs: str = "auto") -> None:
        self.device = resolve_device(device)
        self.path, self.scale = path, scale
        weights = open_restorer(path)
        self.restorer: Restorer = weights.restorer().to(self.device)
        self.graphed = Graphed(self.restorer, self.device, cuda_graphs, name="the restorer")
        self.resolution = weights.config.resolution
        self.may_have_seen_joint_faces = weights.may_have_seen_joint_faces
        seen = "; may have seen faces with all attributes in its training" if weights.may_have_seen_joint_faces else ""
        self.description = f"{path}: a restorer of {self.resolution} px faces{seen}"
        self.warned = False

    def refusal(self, face: Face) -> Problem | None:
        if self.scale and face.image.width * self.scale != self.resolution:
            return Problem(
                f"{face.source} has {face.image.width} px, which `scale={self.scale}` makes {face.image.width * self.scale}, but "
                f"{self.path} makes {self.resolution}: omit `scale`, or name weights of that size"
            )
        if face.image.width > self.resolution and not self.warned:
            self.warned = True
            size = face.image.width
            log.warning("%s has %d px: what is larger than the %d px of %s is shrunk", face.source, size, self.resolution, self.path)
        return None

    def __call__(self, faces: Sequence[Face]) -> list[Image.Image]:
        if not faces:
            return []
        images = to_tensor([lanczos(face.image, self.resolution) for face in faces], self.device)
        return pictures(restored_faces(self.graphed, images))


@torch.no_grad()
def restored_faces(restorer: Callable[[Tensor], Tensor], images: Tensor, batch: int = 32) -> Tensor:
    """[N, 3, R, R] in [-1, 1] -> the same shape on the CPU, clipped to that range."""
    return torch.cat([restorer(part).float().clamp(-1, 1).cpu() for part in images.split(batch)])


def pictures(images: Tensor) -> list[Image.Image]:
    """y / 2 + 1/2, clipped, to whole levels by truncation, as GPEN writes them."""
    levels = (images / 2 + 0.5).clamp(0, 1).mul(255).to(torch.uint8)
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in levels]
