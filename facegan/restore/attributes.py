"""Whether restoration keeps what a face carries: the judge's verdict before and after (`facegan evaluate RUN --restore W`).

A prior of faces knows what faces usually look like, and may shave a beard or cover a bald head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facegan.metrics.extra import available
from facegan.metrics.joint_rate import laplacian_sharpness
from facegan.metrics.quality import compare
from facegan.restore.faces import Face
from facegan.restore.restore import Network, before_and_after
from facegan.styles.critics import resized
from facegan.training.batches import to_float
from facegan.training.pictures import to_pil

if TYPE_CHECKING:
    from facegan.evaluate import Evaluator

SHOWN = 12


def before_and_after_rates(evaluator: Evaluator, images: Tensor, names: Sequence[str], weights: str) -> tuple[dict[str, Any], Image.Image]:
    """What the judge finds in faces [N, 3, R, R] and in the same restored, as a report and as a sheet of some of them.

    `kept`: the joint rate after, as a share of that before; `kept_marginals`: of the faces that carried an attribute, those that
    still do. `identity_drift`: the distance that a face moves among the classifier's features, as a share of the mean distance
    between two faces: 0 is the same face, 1 another one.
    """
    network = Network(weights, 0)
    faces = [Face(name, name, to_pil(image)) for name, image in zip(names, images, strict=True)]
    written = [picture for start in range(0, len(faces), 32) for picture in network(faces[start : start + 32])]
    large = to_float(np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in written]))
    restored = resized(large, evaluator.judge.resolution, "the judge")
    verdicts = [evaluator.judge.verdicts(part) for part in (images, restored)]
    features = [evaluator.extractors[0](part) for part in (images, restored)]
    carried = [(before == 1) for before in verdicts[0].T]
    kept = [float(after[had].mean()) if had.any() else None for had, after in zip(carried, verdicts[1].T, strict=True)]
    before, after = (_part(evaluator, *each) for each in zip((images, restored), features, strict=True))
    rate = before["joint"]["rate"]
    report = {
        "weights": weights,
        "before": before,
        "after": after | {"sharpness_as_written": float(laplacian_sharpness(large).median())},
        "kept": after["joint"]["rate"] / rate if rate else None,
        "kept_marginals": dict(zip([*evaluator.judge.attributes, "joint"], kept, strict=True)),
        "identity_drift": float((features[1] - features[0]).norm(dim=1).mean() / torch.pdist(features[0][:2000]).mean()),
    }
    return report, before_and_after(list(zip(faces, written, strict=True))[:SHOWN])


def _part(evaluator: Evaluator, images: Tensor, features: Tensor) -> dict[str, Any]:
    measured = evaluator.measure(images)
    kid = compare(features, torch.cat(evaluator.joint_features(evaluator.extractors[0])))["kid_attr"] if available() else None
    return {name: measured[name] for name in ("samples", "joint", "marginals", "marginal_intervals", "sharpness")} | {"kid_attr": kid}


def summary(report: dict[str, Any]) -> str:
    """The table of `facegan evaluate --restore`."""
    before, after = report["before"], report["after"]

    def row(name: str, a: float | None, b: float | None, digits: int = 3) -> str:
        cells = ("not measured" if value is None else f"{value:.{digits}f}" for value in (a, b))
        return f"{name:16s}" + "".join(f"{cell:>14s}" for cell in cells)

    lines = [f"restored by {report['weights']}", f"{'':16s}{'before':>14s}{'after':>14s}"]
    lines.append(row("joint rate", before["joint"]["rate"], after["joint"]["rate"]))
    lines += [row(name, value, after["marginals"][name]) for name, value in before["marginals"].items()]
    lines += [row("sharpness", before["sharpness"], after["sharpness"], 4), row("kid_attr", before["kid_attr"], after["kid_attr"], 4)]
    kept = ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in report["kept_marginals"].items())
    share = "-" if report["kept"] is None else f"{report['kept']:.3f}"
    lines.append(f"{'kept':16s}{share} of the joint rate; of the faces that carried it before: {kept}")
    lines.append(f"{'identity drift':16s}{report['identity_drift']:.3f} (0: the same face, 1: another one)")
    return "\n".join(lines)
