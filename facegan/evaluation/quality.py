"""KID, FID, precision and recall of two sets of features, by torch-fidelity's own functions.

KID: Binkowski et al. 2018, "Demystifying MMD GANs". FID: Heusel et al. 2017. Precision and recall: Kynkaanniemi et al. 2019,
"Improved Precision and Recall Metric for Assessing Generative Models", with their 3 neighbours.
"""

from __future__ import annotations

from torch import Tensor

from facegan.errors import FaceganError
from facegan.extras import library

SUBSETS, LARGEST_SUBSET = 100, 1000  # of KID, as in the paper's own code
NEIGHBOURS = 3
_QUIET = {"verbose": False}


def compare(features_a: Tensor, features_b: Tensor, suffix: str = "_attr") -> dict[str, float | None]:
    """How far the images of `features_a` [N, D] (generated) are from those of `features_b` [M, D] (real); float, on the CPU.

    `kid`, `kid_sd`, `fid`, `precision`, `recall`, each name followed by `suffix` (`kid_attr`, `kid_attr_sd`), which says
    whose features these are: none stands for Inception's alone. None where a set is too small to tell: 2 images for KID
    and FID, 4 for precision and recall. The same features give the same figures. Raises FaceganError without the extra
    `facegan[metrics]`, and for features that do not fit together or are not finite.
    """
    _check(features_a, features_b)
    kid, kid_sd = _kid(features_a, features_b)
    precision, recall = _precision_recall(features_a, features_b)
    named = {"kid": kid, "kid_sd": kid_sd, "fid": _fid(features_a, features_b), "precision": precision, "recall": recall}
    return {_named(name, suffix): value for name, value in named.items()}


def _named(name: str, suffix: str) -> str:
    return f"kid{suffix}_sd" if name == "kid_sd" else name + suffix


def _check(features_a: Tensor, features_b: Tensor) -> None:
    for name, features in (("features_a", features_a), ("features_b", features_b)):
        if features.ndim != 2 or not features.is_floating_point() or features.shape[1] != features_a.shape[1]:
            raise FaceganError(
                f"{name} is {features.dtype} {list(features.shape)}: expected float [images, {features_a.shape[-1]}], features of one kind"
            )
        if not bool(features.isfinite().all()):
            raise FaceganError(f"{name} holds values that are not finite: the images were not, or their network is damaged")


def _kid(a: Tensor, b: Tensor) -> tuple[float | None, float | None]:
    """Mean and standard deviation over subsets; small sets take subsets of half the smaller one, so that these differ at all."""
    smaller = min(len(a), len(b))
    if smaller < 2:
        return None, None
    size = min(LARGEST_SUBSET, max(2, smaller // 2))
    metric = library("torch_fidelity.metric_kid")
    found = metric.kid_features_to_metric(a.double(), b.double(), kid_subsets=SUBSETS, kid_subset_size=size, **_QUIET)
    return found[metric.KEY_METRIC_KID_MEAN], found[metric.KEY_METRIC_KID_STD]


def _fid(a: Tensor, b: Tensor) -> float | None:
    if min(len(a), len(b)) < 2:
        return None
    metric = library("torch_fidelity.metric_fid")
    statistics = [metric.fid_features_to_statistics(features.double()) for features in (a, b)]
    return metric.fid_statistics_to_metric(*statistics, **_QUIET)[metric.KEY_METRIC_FID]


def _precision_recall(a: Tensor, b: Tensor) -> tuple[float | None, float | None]:
    """On equal numbers, as in the paper: recall uses balls that shrink as samples are added. The larger set is cut
    into pieces as large as the smaller one, and the figures are their means."""
    size = min(len(a), len(b))
    if size <= NEIGHBOURS:
        return None, None
    metric = library("torch_fidelity.metric_prc")
    pieces = [[part for part in features.float().split(size) if len(part) == size] for features in (a, b)]
    count = max(map(len, pieces))
    settings = {"prc_neighborhood": NEIGHBOURS, "prc_batch_size": 2000, "save_cpu_ram": True, **_QUIET}
    found = [metric.prc_features_to_metric(pieces[0][i % len(pieces[0])], pieces[1][i % len(pieces[1])], **settings) for i in range(count)]
    keys = (metric.KEY_METRIC_PRECISION, metric.KEY_METRIC_RECALL)
    precision, recall = (sum(each[key] for each in found) / count for key in keys)
    return precision, recall
