"""Restorers: faces larger and sharper."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from facegan.alignment.placement import Looked
from facegan.api.keywords import takes
from facegan.api.sharing import push_folder
from facegan.checkpoints.restorers import open_restorer, save_restorer
from facegan.data.photos import ImageFile
from facegan.devices import AUTO
from facegan.errors import FaceganError
from facegan.options import EvaluateOptions
from facegan.plotting.faces import Faces
from facegan.plotting.sheets import to_tensor
from facegan.restore.faces import Face, Photograph, Problem, face_of, read_faces
from facegan.restore.restorer import Interpolation, RestorerPipeline, find_files

if TYPE_CHECKING:
    from facegan.evaluation.restoration import RestorationReport


class Restorer:
    """A network that restores faces, or Lanczos interpolation without one; call it with faces."""

    def __init__(self, source: str = "", *, scale: int = 0, device: str = AUTO, cuda_graphs: str = "auto") -> None:
        if scale not in (0, 2, 4):
            raise FaceganError(f"`scale` is {scale}: expected 2 or 4")
        self.source = source
        self.method = RestorerPipeline(source, scale, device, cuda_graphs) if source else Interpolation(scale or 2)

    def __call__(self, faces: Faces | Image.Image | str | Path | Iterable[Image.Image | str | Path], batch: int = 8) -> Faces:
        """Restore faces.

        Args:
            faces: what a generator made, pictures, or paths of pictures and folders, each of one face cut out and about as wide as high;
                `photo` takes whole photographs.
            batch: faces at once.

        Returns:
            The restored faces, in this order and under the same names.

        Raises:
            FaceganError: one of them is no face that can be restored; the sentence says why.
        """
        given = list(_faces(faces))
        if not given or batch < 1:
            raise FaceganError(f"there are {len(given)} faces and `batch` is {batch}: expected at least one of each")
        problems = [item for item in (self.method.refusal(face) for face in given) if item is not None]
        if problems:
            raise FaceganError(problems[0].sentence)
        restored = [image for start in range(0, len(given), batch) for image in self.method(given[start : start + batch])]
        if self.source and not isinstance(faces, Faces):
            looked = Looked()
            for face in given[: looked.count]:
                looked.add(face.source, face.image)
            looked.warn()
        seeds = faces.seeds if isinstance(faces, Faces) else ()
        return Faces(to_tensor(restored), tuple(face.name for face in given), seeds)

    def photo(self, photo: Image.Image | str | Path, batch: int = 8) -> Image.Image:
        """Restore a whole photograph: every face that is found in it is cut out, restored, and what changed put back into the photo.

        Args:
            photo: a picture, or its path.
            batch: faces at once.

        Returns:
            The photo, `scale` times larger (default: 2), in RGB, or RGBA where it is transparent. Without a network it is enlarged and
            sharpened.

        Raises:
            FaceganError: the picture cannot be used, or `facegan[align]` is not installed.
        """
        if isinstance(photo, Image.Image):
            item = face_of(photo, "photo", "the picture", "all")
        else:
            [item] = read_faces([ImageFile(Path(photo), Path(photo).stem)], "all")
        problem = item if isinstance(item, Problem) else self.method.refusal(item)
        if problem:
            raise FaceganError(problem.sentence)
        assert isinstance(item, Photograph)
        return self.method.photograph(item, batch)[0]

    @takes(EvaluateOptions)
    def evaluate(self, options: EvaluateOptions) -> RestorationReport:
        """Measure restored faces beside the faces as they were: PSNR, LPIPS, and what simpler ways reach.

        Raises:
            FaceganError: for options that go with generators, and for interpolation, which is what restorers are compared with.
        """
        from facegan.evaluation.restoration import evaluate_restorer

        return evaluate_restorer(self.source, options, self._network().device)

    def save_pretrained(self, folder: str | Path, *, slim: bool = False) -> Path:
        """Write model.safetensors and config.json; `slim`: in half precision, which restores as well at half the size."""
        weights = open_restorer(self._network().path)
        save_restorer(weights, folder, half=slim)
        return Path(folder)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes to a repository of huggingface.co, made if absent; returns its address."""
        return push_folder(self.save_pretrained, repo_id, private, token)

    def _network(self) -> RestorerPipeline:
        if not isinstance(self.method, RestorerPipeline):
            raise FaceganError("this restorer is plain interpolation: name weights, as in facegan.load_restorer('synthetic256')")
        return self.method


def _faces(given: Faces | Image.Image | str | Path | Iterable[Image.Image | str | Path]) -> Iterable[Face]:
    if isinstance(given, Faces):
        return [Face(name, name, picture.convert("RGB")) for name, picture in zip(given.names, given, strict=True)]
    items = [given] if isinstance(given, (Image.Image, str, Path)) else list(given)
    found: list[Face | Photograph | Problem] = []
    for index, item in enumerate(items):
        if isinstance(item, Image.Image):
            found.append(face_of(item, f"face{index:04d}", f"picture {index}"))
        else:
            if not str(item):
                raise FaceganError("a path is empty: expected a picture, or a folder of them")
            found += read_faces(find_files([str(item)], Path()))
    refused = next((item for item in found if isinstance(item, Problem)), None)
    if refused:
        raise FaceganError(refused.sentence)
    return [item for item in found if isinstance(item, Face)]
