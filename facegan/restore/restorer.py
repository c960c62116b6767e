"""`facegan restore`: faces and photographs in, larger and sharper ones out, one PNG each, and a sheet of faces before and after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.alignment import detector
from facegan.alignment.placement import Looked
from facegan.checkpoints.restorers import open_restorer
from facegan.data.photos import ImageFile, image_files
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.locks import held
from facegan.models.restorer import Restorer
from facegan.options import Restore
from facegan.plotting.before_after import BeforeAfter, lanczos
from facegan.plotting.sheets import save_png, to_tensor
from facegan.restore.faces import Face, Photograph, Photographs, Problem, generated_faces, read_faces
from facegan.restore.photographs import SHARPENING, FacesOfPhotographs, Pair, enlarged, middle, sharpened, too_large

SHEET = "before-after"
log = logging.getLogger("facegan.restore")


def restore(request: Restore) -> Path:
    """Restore what is asked for and return the path of the picture of it; FaceganError at the end where some had to be left out."""
    check(request)
    device, out = resolve_device(request.device), Path(request.out)
    files = find_files(request.inputs, out)
    method = (
        RestorerPipeline(request.weights, request.scale, device, request.cuda_graphs)
        if request.weights
        else Interpolation(request.scale or 2)
    )
    photographs = photographs_of(request, method)
    total, items = find_faces(request, files, device, photographs)
    log.info(method.description)
    work = Work(method, Writer(out, [file.path for file in files]), request.batch)
    with held(out), tqdm(total=total, desc="restoring", unit="face", disable=None) as bar:
        for item in items:
            work.take(item)
            bar.update()
        work.flush()
    for problem in work.problems:
        log.warning("left out: %s", problem)
    if request.inputs and request.weights:
        work.looked.warn()
    if work.sheet.faces:
        save_png(work.sheet.picture(), out / f"{SHEET}.png")
    if problems := work.problems:
        what = "inputs" if work.photographs else "faces"
        raise FaceganError(f"{len(problems)} of {total} {what} left out: {'; '.join(problems[:3])}{' ...' if problems[3:] else ''}")
    return out / f"{SHEET}.png"


class Work:
    """What is restored, in batches, as it comes: faces together, each photograph with its own."""

    def __init__(self, method: Interpolation | RestorerPipeline, writer: Writer, batch: int) -> None:
        self.method, self.writer, self.batch = method, writer, batch
        self.waiting: list[Face] = []
        self.problems: list[str] = []
        self.sheet, self.looked = BeforeAfter(), Looked()
        self.photographs = 0

    def take(self, item: Face | Photograph | Problem) -> None:
        """One item more."""
        found = item if isinstance(item, Problem) else self.method.refusal(item) or self.writer.refusal(item) or item
        if isinstance(found, Problem):
            self.problems.append(found.sentence)
        elif isinstance(found, Photograph):
            self.photographs += 1
            image, pairs = self.method.photograph(found, self.batch)
            self.writer.write(found.name, image)
            for number, (before, after) in enumerate(pairs, start=1):
                self.sheet.add(f"{found.name} {number}" if len(pairs) > 1 else found.name, before, after)
        else:
            self.waiting.append(found)
            if len(self.waiting) == self.batch:
                self.flush()

    def flush(self) -> None:
        """Restore the faces that wait."""
        if not self.waiting:
            return
        for face, image in zip(self.waiting, self.method(self.waiting), strict=True):
            if face.alpha:
                image = Image.merge("RGBA", (*image.split(), lanczos(face.alpha, image.width)))
            self.writer.write(face.name, image)
            self.sheet.add(face.name, face.image, image.convert("RGB"))
            self.looked.add(face.source, face.image)
        self.waiting = []


def photographs_of(request: Restore, method: Interpolation | RestorerPipeline) -> Photographs:
    """Which inputs are photographs: those that look like one only where faces can be found, or need not be as nothing knows them."""
    if request.faces == "all":
        method.prepare()  # refuses now what it cannot do, not at the first photograph
        return "all"
    can = isinstance(method, Interpolation) or detector.available()
    return "wide" if request.faces == "auto" and can else "none"


def check(request: Restore) -> None:
    if bool(request.inputs) == bool(request.from_run):
        raise FaceganError("expected either images and folders of them, or `from_run=RUN` for the faces of a trained run")
    if request.scale not in (0, 2, 4):
        raise FaceganError(f"`scale` is {request.scale}: expected 2 or 4")
    if request.from_run and request.faces == "all":
        raise FaceganError("`faces=all` goes with photographs: the faces of `from_run` are single ones")
    request.at_least(1, "num", "batch")


def find_files(inputs: Sequence[str], out: Path) -> list[ImageFile]:
    """Those of the inputs; what an earlier call wrote into a folder inside of a folder of faces is no face to be restored."""
    folders = [Path(each).resolve() for each in inputs if Path(each).is_dir()]
    inside = any(folder in out.resolve().parents for folder in folders)
    return [file for file in image_files(inputs) if not (inside and out.resolve() in file.path.resolve().parents)]


def find_faces(
    request: Restore, files: Sequence[ImageFile], device: torch.device, photographs: Photographs
) -> tuple[int, Iterator[Face | Photograph | Problem]]:
    """How many inputs there are, and these, read one by one."""
    if request.from_run:
        return request.num, generated_faces(request.from_run, request.num, request.batch, device)
    return len(files), read_faces(files, photographs)


class Writer:
    """Writes `out/NAME.png`, never two to one file, and never onto what is being restored."""

    def __init__(self, out: Path, inputs: Iterable[Path]) -> None:
        self.out, self.taken = out, {SHEET: "the sheet of before and after"}
        self.inputs = {path.resolve() for path in inputs}
        if (sheet := out / f"{SHEET}.png").resolve() in self.inputs:
            raise FaceganError(f"{sheet} is to be restored, and {self.taken[SHEET]} would be written there; name another folder in `out`")

    def refusal(self, face: Face | Photograph) -> Problem | None:
        path = self.out / f"{face.name}.png"
        if path.resolve() in self.inputs:
            return Problem(f"{path}, which is to be restored, would be overwritten; name another folder in `out`")
        if face.name in self.taken:
            return Problem(f"{face.source} would be written to {path}, as {self.taken[face.name]} is; rename it, or restore it apart")
        self.taken[face.name] = face.source
        return None

    def write(self, name: str, image: Image.Image) -> None:
        save_png(image, self.out / f"{name}.png")


class Interpolation:
    """Lanczos and mild sharpening: what can be done without weights."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.description = f"no `weights`: faces are enlarged {scale} times by Lanczos and mildly sharpened, no network adds detail"

    def prepare(self) -> None:
        """Nothing is looked for."""

    def refusal(self, face: Face | Photograph) -> Problem | None:
        return too_large(face, self.scale) if isinstance(face, Photograph) else None

    def __call__(self, faces: Sequence[Face]) -> Iterator[Image.Image]:
        return (lanczos(face.image, face.image.width * self.scale).filter(SHARPENING) for face in faces)

    def photograph(self, photo: Photograph, batch: int) -> tuple[Image.Image, list[Pair]]:
        """Enlarged and sharpened, and what the sheet shows of it."""
        image = sharpened(enlarged(photo.image, self.scale))
        return image, [middle(photo.image, image)]


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
        self.of_photographs: FacesOfPhotographs | None = None

    def prepare(self) -> FacesOfPhotographs:
        """What finds faces, on the device; FaceganError where `facegan[align]` is not installed."""
        if self.of_photographs is None:
            self.of_photographs = FacesOfPhotographs(self._restored, self.resolution, self.scale or 2, self.device)
        return self.of_photographs

    def photograph(self, photo: Photograph, batch: int) -> tuple[Image.Image, list[Pair]]:
        """Enlarged, its faces restored, and these before and after."""
        return self.prepare()(photo, batch)

    def refusal(self, face: Face | Photograph) -> Problem | None:
        if isinstance(face, Photograph):
            return too_large(face, self.scale or 2)
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
        return self._restored([lanczos(face.image, self.resolution) for face in faces])

    def _restored(self, faces: Sequence[Image.Image]) -> list[Image.Image]:
        """Of the network's size, and back."""
        return pictures(restored_faces(self.graphed, to_tensor(faces, self.device))) if faces else []


@torch.no_grad()
def restored_faces(restorer: Callable[[Tensor], Tensor], images: Tensor, batch: int = 32) -> Tensor:
    """[N, 3, R, R] in [-1, 1] -> the same shape on the CPU, clipped to that range."""
    return torch.cat([restorer(part).float().clamp(-1, 1).cpu() for part in images.split(batch)])


def pictures(images: Tensor) -> list[Image.Image]:
    """y / 2 + 1/2, clipped, to whole levels by truncation, as GPEN writes them."""
    levels = (images / 2 + 0.5).clamp(0, 1).mul(255).to(torch.uint8)
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in levels]
