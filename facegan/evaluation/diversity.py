"""Whether samples differ: from each other (LPIPS, or distances of features), and from the images the generator learned from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from facegan.data.faces import FaceData
from facegan.errors import FaceganError
from facegan.evaluation.features import checked
from facegan.evaluation.joint_rate import SHARPNESS_MOST, blur_for, blurred
from facegan.evaluation.judge.data import pixels_of, shrink
from facegan.evaluation.judge.degradation import stream
from facegan.evaluation.processes import distributed_map
from facegan.evaluation.samples import PIXELS, JudgedSamples, SampleFn
from facegan.extras import library
from facegan.files import quoted
from facegan.pixels import to_float
from facegan.plotting.comparison import comparison
from facegan.styles.perceptual import Lpips, distance, perceptual_for

VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
VGG16_SHA256 = "397923af"
PAIRS = 500  # of LPIPS
MOST = 2000  # vectors whose distances are all taken
SHOWN = 8


# --- from each other


@torch.random.fork_rng(devices=[])  # first weights are drawn, and replaced
def lpips_with(weights: str | Path, device: torch.device | str = "cpu") -> Lpips:
    """LPIPS over VGG16 with the weights in a file; nothing is downloaded."""
    path = Path(weights)
    checked(path, VGG16_SHA256, VGG16_URL, "lpips")
    model = library("lpips").LPIPS(net="vgg", pnet_rand=True, verbose=False)
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
        # `lpips` cuts the network into slices and keeps the places: slice2.7.weight is features.7.weight
        model.net.load_state_dict({name: given[f"features.{name.partition('.')[2]}"] for name in model.net.state_dict()})
    except Exception as error:  # torch.load fails in many ways; the file has the right digest, or almost
        raise FaceganError(f"`lpips={path}` does not hold VGG16's weights ({quoted(type(error).__name__)}): download it again") from error
    return Lpips(model.to(device))


def lpips_here(weights: str = "", device: torch.device | str = "cpu") -> Lpips | None:
    """LPIPS by the file `lpips`, or by what is on this machine; None without either."""
    if weights:
        return lpips_with(weights, device)
    try:
        library("lpips")  # in the way that copes with a torchvision built for another torch
    except FaceganError:
        return None
    found = perceptual_for(None, torch.device(device))
    return found if isinstance(found, Lpips) else None


@torch.no_grad()
def mean_lpips(measure: Lpips, draw: SampleFn, number: int) -> float | None:
    """Mean LPIPS of random disjoint pairs of the `number` faces that `draw` gives; None for fewer than two."""
    order = torch.randperm(number, generator=stream(number))
    pairs = order[: 2 * min(PAIRS, number // 2)].reshape(-1, 2)

    def of(pair: Tensor) -> Tensor:
        return torch.cat([distance(*(measure.features(draw(part[:, side])) for side in (0, 1))) for part in pair.split(16)])

    return float(distributed_map(of, pairs, "LPIPS").mean()) if len(pairs) else None


def mean_distance(features: Tensor) -> float | None:
    """Mean Euclidean distance of all pairs of (the first 2000) rows [N, D]; None for fewer than two."""
    return float(torch.pdist(features[:MOST]).mean()) if len(features) > 1 else None


def diversity(samples: JudgedSamples, real: SampleFn, real_features: Tensor, measure: Lpips | None) -> dict[str, float | None]:
    """`diversity_attr`, and `lpips` where it can be had, each beside the same of the real joint faces (`..._real`), which `real`
    draws and whose features of the judge are `real_features` [M, D]."""
    found = {"diversity_attr": mean_distance(samples.features["_attr"]), "diversity_attr_real": mean_distance(real_features)}
    if measure is not None:
        found["lpips"] = mean_lpips(measure, samples.draw, len(samples))
        found["lpips_real"] = mean_lpips(measure, real, len(real_features))
    return found


# --- from what was learned


def nearest(small: Tensor, data: FaceData, rows: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Of each image (float [N, 3, S, S], shrunk to PIXELS) the root mean square distance of pixels to its nearest among `rows` of the
    data, and which of the rows that is (int64 [N], a place in `rows`); for a face as for its mirror image. Results are on the CPU."""
    best, place = torch.full((len(small),), torch.inf), torch.zeros(len(small), dtype=torch.int64)
    with tqdm(total=len(rows), desc="nearest training images", unit="image", disable=None) as bar:
        for start in range(0, len(rows), 2048):
            known = to_float(pixels_of(data, rows[start : start + 2048], PIXELS), device)
            for begin in range(0, len(small), 4096):
                part = slice(begin, begin + 4096)
                own = small[part].to(device).flatten(1)
                distances = torch.minimum(torch.cdist(own, known.flatten(1)), torch.cdist(own, known.flip(-1).flatten(1)))
                least, where = (found.cpu() for found in distances.min(1))
                place[part] = torch.where(least < best[part], where + start, place[part])
                best[part] = torch.minimum(best[part], least)
            bar.update(len(known))
    return best / small[0].numel() ** 0.5, place


def softened(data: FaceData, rows: np.ndarray, sharpness: float, device: torch.device) -> Tensor:
    """Copies [N, 3, S, S], on the CPU, of the faces at `rows`, blurred to `sharpness` before they are shrunk, as samples are."""

    def faces(part: np.ndarray) -> Tensor:
        return to_float(np.ascontiguousarray(data.images[part]), device)

    sigma = blur_for(faces(rows[:SHARPNESS_MOST]), sharpness)
    return torch.cat([shrink(blurred(faces(rows[start : start + 64]), sigma), PIXELS).cpu() for start in range(0, len(rows), 64)])


def memorisation(
    samples: JudgedSamples, held_out: np.ndarray, data: FaceData, rows: np.ndarray, names: Sequence[str]
) -> tuple[dict[str, Any], Image.Image]:
    """Whether `samples` are copies of the training images (`rows` of `data`), and a picture of those that come closest.

    `held_out`: rows of real faces of the same kind as the training images, which the generator never learned from.
    `ratio`: median distance to the nearest training image over that of held_out: 1 is as far as held_out are, well below 1 is
    copied. Softness alone changes distances of pixels, so the held_out are first blurred to the samples' sharpness.
    `closer_than_any_held_out`: share of the samples nearer to a training image than every held-out face; it finds a few copies among
    many originals. `by_chance`: what it is where samples are as held_out: 1 / (M + 1), as each is as likely to be the nearest.
    """
    device = samples.judge.device
    soft = softened(data, held_out, float(samples.sharpness.median()), device)
    (own, place), (theirs, _) = (nearest(small, data, rows, device) for small in (samples.small, soft))
    median, usual = float(own.median()), float(theirs.median())
    metadata = {
        "training_images": len(rows),
        "held_out": len(held_out),
        "median": median,
        "median_held_out": usual,
        "ratio": median / usual if usual > 0 else None,
        "closer_than_any_held_out": float((own < theirs.min()).float().mean()),
        "by_chance": 1 / (len(held_out) + 1),
    }
    closest = own.argsort()[:SHOWN]
    partners = to_float(np.ascontiguousarray(data.images[rows[place[closest].numpy()]]))
    shown = samples.draw(closest)
    size = shown.shape[-1]
    partners = partners if partners.shape[-1] == size else F.interpolate(partners, size=(size, size), mode="area")
    titles = [f"{names[i]}: {own[i]:.3f}" for i in closest.tolist()]
    return metadata, comparison(torch.stack([shown, partners], 1), ["sample", "learned from"], titles)
