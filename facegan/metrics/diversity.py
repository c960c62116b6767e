"""Whether samples differ: from each other (LPIPS, or distances of features), and from the images the generator learnt from."""

from __future__ import annotations

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
from facegan.metrics.degrade import stream
from facegan.metrics.extra import library
from facegan.metrics.features import checked
from facegan.metrics.joint_rate import blur_to_sharpness, laplacian_sharpness
from facegan.metrics.judge_data import pixels_of, shrink
from facegan.metrics.processes import share
from facegan.styles.comparison import comparison
from facegan.styles.perceptual import Lpips, distance, perceptual_for
from facegan.training.batches import to_float

VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
VGG16_SHA256 = "397923af"
PAIRS = 500  # of LPIPS
MOST = 2000  # vectors whose distances are all taken
PIXELS = 32  # width at which images are compared
SHOWN = 8


# --- from each other

def lpips_with(weights: str | Path) -> Lpips:
    """LPIPS over VGG16 with the weights in a file; nothing is downloaded."""
    path = Path(weights)
    checked(path, VGG16_SHA256, VGG16_URL, "--lpips")
    model = library("lpips").LPIPS(net="vgg", pnet_rand=True, verbose=False)
    given = torch.load(path, map_location="cpu", weights_only=True)
    # `lpips` cuts the network into slices and keeps the places: slice2.7.weight is features.7.weight
    state = {name: given[f"features.{name.partition('.')[2]}"] for name in model.net.state_dict()}
    model.net.load_state_dict(state)
    return Lpips(model)


def lpips_here(weights: str = "") -> Lpips | None:
    """LPIPS by --lpips, or by what is on this machine; None without either."""
    if weights:
        return lpips_with(weights)
    try:
        library("lpips")  # in the way that copes with a torchvision built for another torch
    except FaceganError:
        return None
    found = perceptual_for(None, torch.device("cpu"))
    return found if isinstance(found, Lpips) else None


@torch.no_grad()
def mean_lpips(measure: Lpips, images: Tensor) -> float | None:
    """Mean LPIPS of random disjoint pairs; images float [N, 3, R, R] in [-1, 1]; None for fewer than two."""
    order = torch.randperm(len(images), generator=stream(len(images)))
    pairs = order[: 2 * min(PAIRS, len(images) // 2)].reshape(-1, 2)

    def of(pair: Tensor) -> Tensor:
        return torch.cat([distance(*(measure.features(images[part[:, side]]) for side in (0, 1))) for part in pair.split(16)])

    return float(share(of, pairs, "LPIPS").mean()) if len(pairs) else None


def mean_distance(features: Tensor) -> float | None:
    """Mean Euclidean distance of all pairs of (the first 2000) rows [N, D]; None for fewer than two."""
    return float(torch.pdist(features[:MOST]).mean()) if len(features) > 1 else None


def diversity(
    samples: Tensor, real: Tensor, sample_features: Tensor, real_features: Tensor, measure: Lpips | None
) -> dict[str, float | None]:
    """`diversity_attr`, and `lpips` where it can be had, each beside the same of the real joint faces (`..._real`)."""
    found = {"diversity_attr": mean_distance(sample_features), "diversity_attr_real": mean_distance(real_features)}
    if measure is not None:
        found |= {"lpips": mean_lpips(measure, samples), "lpips_real": mean_lpips(measure, real)}
    return found


# --- from what was learnt

def nearest(images: Tensor, data: FaceData, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Of each image (float [N, 3, R, R]) the root mean square distance of pixels to its nearest among `rows` of the data,
    and which of the rows that is (int64 [N], a place in `rows`); both at no more than 32 px, and for a face as for its mirror image.
    """
    own = shrink(images.float().clamp(-1, 1), PIXELS).flatten(1)
    best, place = torch.full((len(own),), torch.inf), torch.zeros(len(own), dtype=torch.int64)
    with tqdm(total=len(rows), desc="nearest training images", unit="image", disable=None) as bar:
        for start in range(0, len(rows), 2048):
            known = to_float(pixels_of(data, rows[start : start + 2048], PIXELS))
            distances = torch.minimum(torch.cdist(own, known.flatten(1)), torch.cdist(own, known.flip(-1).flatten(1)))
            least, where = distances.min(1)
            place = torch.where(least < best, where + start, place)
            best = torch.minimum(best, least)
            bar.update(len(known))
    return best / own.shape[1] ** 0.5, place


def memorisation(
    samples: Tensor, held_out: Tensor, data: FaceData, rows: np.ndarray, names: list[str]
) -> tuple[dict[str, Any], Image.Image]:
    """Whether `samples` are copies of the training images (`rows` of `data`), and a picture of those that come closest.

    `ratio`: median distance to the nearest training image over that of held-out real faces: 1 is as far as strangers are, well
    below 1 is copied. Softness alone changes distances of pixels, so the held-out faces are first blurred to the samples' sharpness.
    `closer_than_any_held_out`: share of the samples nearer to a training image than every held-out face; it finds a few copies
    among many strangers.
    """
    strangers = blur_to_sharpness(held_out, float(laplacian_sharpness(samples).median()))
    (own, place), (theirs, _) = nearest(samples, data, rows), nearest(strangers, data, rows)
    median, usual = float(own.median()), float(theirs.median())
    facts = {
        "training_images": len(rows),
        "median": median,
        "median_held_out": usual,
        "ratio": median / usual if usual > 0 else None,
        "closer_than_any_held_out": float((own < theirs.min()).float().mean()),
    }
    closest = own.argsort()[:SHOWN]
    partners = to_float(np.ascontiguousarray(data.images[rows[place[closest].numpy()]]))
    size = samples.shape[-1]
    partners = partners if partners.shape[-1] == size else F.interpolate(partners, size=(size, size), mode="area")
    pairs = torch.stack([samples[closest], partners], 1)
    titles = [f"{names[i]}: {own[i]:.3f}" for i in closest.tolist()]
    return facts, comparison(pairs, ["sample", "learnt from"], titles)
