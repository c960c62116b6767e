"""What quality is measured on: features of images, by Inception where its weights are given, else by the judge's own networks.

An extractor is a map of float images [N, 3, R, R] in [-1, 1] to float32 [N, D] on the CPU, with the suffix that every figure
made from it carries, and an identity by which features of a data set are cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from facegan.data.faces import FaceData
from facegan.data.images import cache_directory, content_key
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.evaluation.judge.judge import Judge
from facegan.extras import library
from facegan.files import regular_file, write_whole
from facegan.pixels import to_float
from facegan.tensors import read_tensors

INCEPTION_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"  # the first digits, which torch.hub's convention puts into the name of a file of weights
ATTR_NOTE = (
    "Figures named _attr are of the judge's features, whose networks learned from the joint faces that they compare with, one half each: "
    "they rank rows, and are no KID, precision or recall of the literature."
)
LARGEST = 1 << 30  # bytes of a file of weights; VGG16 has 553 MB
_VERSION = 1  # raise when extraction changes: older cached features are then never found again


class Extractor(Protocol):
    suffix: str  # of the figures: "" stands for Inception alone
    description: str  # what it is, for the user
    identity: str  # changes with everything that the features depend on, the images aside

    def __call__(self, images: Tensor, progress: bool = False) -> Tensor: ...


class Attributes:
    """The judge's own features, where nobody has Inception's weights: figures from them are `kid_attr`, never `kid`."""

    suffix, description = "_attr", "the judge's features"

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.identity = f"attr-{judge.card['weights_sha256']}"

    def __call__(self, images: Tensor, progress: bool = False) -> Tensor:
        return attr_features(self.judge, images, progress=progress)


@torch.no_grad()
def attr_features(judge: Judge, images: Tensor, batch: int = 256, progress: bool = False) -> Tensor:
    """float32 [N, D], on the CPU, of float images [N, 3, R, R] in [-1, 1]: both classifiers' last maps, averaged over the four
    quarters of the face.

    The head's own 4 x 4 places make a thousand features a net, of which a reference of a hundred faces knows little; one
    place for the whole face forgets whether it is the hair or the beard that is missing. Each classifier has learned from
    one half of the joint images, so halves of these look a little more apart than held_out would.
    Raises FaceganError for images that are not the judge's (:meth:`Judge.prepared`).
    """
    found = [torch.empty(0, judge.nets[0].head.in_features // 2)]  # 2 nets, 4 of 16 places
    for part in batches(images, batch, "judge's features", progress):
        small = judge.prepared(part).contiguous(memory_format=torch.channels_last)
        maps = [F.adaptive_avg_pool2d(net.features(small), 2).flatten(1) for net in judge.nets]
        found.append(torch.cat(maps, 1).float().cpu())
    return torch.cat(found)


class Inception:
    """Pool-3 features of the Inception that FID and KID are defined by, with weights from a file: nothing is downloaded."""

    suffix, description = "", "Inception"

    @torch.random.fork_rng(devices=[])  # first weights are drawn, and replaced
    def __init__(self, weights: str | Path, device: torch.device | str = AUTO) -> None:
        path = Path(weights)
        self.identity = f"inception-{checked(path, INCEPTION_SHA256, INCEPTION_URL, 'weights')}"
        extractor = library("torch_fidelity").FeatureExtractorInceptionV3
        self.device = resolve_device(device)
        self.net = extractor("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)).to(self.device)

    @torch.no_grad()
    def __call__(self, images: Tensor, progress: bool = False) -> Tensor:
        """Images are rounded to bytes, as a picture that was saved; Inception shrinks or enlarges them to its own size."""
        found = [torch.empty(0, 2048)]
        for part in batches(images, 32, "Inception's features", progress):
            pixels = (part.float().clamp(-1, 1) * 127.5 + 127.5).round().byte()
            found.append(self.net(pixels.to(self.device))[0].float().cpu())
        return torch.cat(found)


def checked(path: Path, prefix: str, url: str, option: str) -> str:
    """The sha256 of a file of weights; a FaceganError unless it is there and begins with `prefix`."""
    wanted = f"expected {url.rpartition('/')[2]} (sha256 {prefix}…): download it from {url} and name it with `{option}`"
    try:
        regular_file(path, LARGEST, "file of weights")
        with open(path, "rb") as file:
            found = hashlib.sha256()
            while part := file.read(1 << 20):
                found.update(part)
            digest = found.hexdigest()
    except (OSError, FaceganError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FaceganError(f"`{option}={path}` cannot be read ({reason}); {wanted}") from None
    if not digest.startswith(prefix):
        raise FaceganError(f"`{option}={path}` has sha256 {digest[:8]}…; {wanted}")
    return digest


def batches(images: Tensor, size: int, what: str, progress: bool) -> Iterator[Tensor]:
    with tqdm(total=len(images), desc=what, unit="image", disable=None if progress else True) as bar:
        for part in images.split(size) if len(images) else ():
            yield part
            bar.update(len(part))


def data_features(extractor: Extractor, data: FaceData, rows: np.ndarray, cache_dir: str | Path | None = None) -> Tensor:
    """Features [N, D] of the images at `rows` of a data set, extracted once and kept under `cache_dir`/features (default:
    the package's cache). Without a writable cache they are extracted each time."""
    key = content_key("features", _VERSION, extractor.identity, data.fingerprint, rows.tolist())
    path = cache_directory(cache_dir) / "features" / f"{key}.safetensors"
    try:
        return read_tensors(path)["features"]
    except (FaceganError, KeyError):  # absent, or damaged since: made again
        pass
    found = [extractor(to_float(np.ascontiguousarray(data.images[part]))) for part in _pieces(extractor, rows)]
    features = torch.cat(found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, safetensors.torch.save({"features": features}))
    except OSError:
        pass
    return features


def _pieces(extractor: Extractor, rows: np.ndarray, size: int = 256) -> Iterator[np.ndarray]:
    """`rows` in pieces that fit in memory as images, with a bar."""
    with tqdm(total=len(rows), desc=f"{extractor.description} of the data", unit="image", disable=None) as bar:
        for start in range(0, max(len(rows), 1), size):  # one empty piece has the right width
            yield rows[start : start + size]
            bar.update(len(rows[start : start + size]))
