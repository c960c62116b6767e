"""Whether restoration keeps what a face carries: the judge's verdict before and after (`facegan evaluate RUN --restore W`).

A prior of faces knows what faces usually look like, and may shave a beard or cover a bald head.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from facegan.checkpoints.critics import resized
from facegan.checkpoints.restorers import STAGE
from facegan.checkpoints.run import RunFolder
from facegan.data.attributes import names as attribute_names
from facegan.errors import FaceganError
from facegan.evaluation.joint_rate import wilson
from facegan.evaluation.quality import compare
from facegan.evaluation.samples import JudgedSamples, SampleFn
from facegan.extras import available
from facegan.plotting.before_after import SHOWN, BeforeAfter
from facegan.plotting.sheets import to_pil, to_tensor
from facegan.restore.faces import Face
from facegan.restore.restorer import RestorerPipeline

if TYPE_CHECKING:
    from facegan.evaluation.evaluator import Evaluator


def before_and_after_rates(
    evaluator: Evaluator, draw: SampleFn, number: int, network: RestorerPipeline
) -> tuple[dict[str, Any], Image.Image]:
    """What the judge finds in `number` faces that `draw` gives by their seeds, and in the same restored, as a report and as a sheet.

    `kept`: the joint rate after, as a share of that before; `kept_marginals`: of the faces that carried an attribute, those that
    still do. `identity_drift`: the distance that a face moves among the judge's features, as a share of the mean distance between
    two faces: 0 is the same face, 1 another one; None of fewer than two.
    """
    known = may_have_seen(evaluator, network)

    def faces(seeds: Tensor) -> list[Face]:
        names = [f"seed {seed}" for seed in seeds.tolist()]
        return [Face(name, name, to_pil(image)) for name, image in zip(names, draw(seeds), strict=True)]

    def restored(seeds: Tensor) -> Tensor:
        return resized(to_tensor(network(faces(seeds))), evaluator.judge.resolution, "the judge")

    seen = [evaluator.score_samples(draw, number), evaluator.score_samples(restored, number, what="faces, restored")]
    had, has = (each.verdicts.T == 1 for each in seen)
    kept = [float(after[before].mean()) if before.any() else None for before, after in zip(had, has, strict=True)]
    before, after = (_part(evaluator, each) for each in seen)
    rate = before["joint"]["rate"]
    report = {
        "weights": network.path,
        "may_have_seen_joint_faces": known,
        "samples": number,
        "before": before,
        "after": after,
        "kept": after["joint"]["rate"] / rate if rate else None,
        "kept_marginals": dict(zip([*evaluator.judge.attributes, "joint"], kept, strict=True)),
        "identity_drift": _drift(*(each.features["_attr"] for each in seen)),
    }
    sheet, shown = BeforeAfter(), faces(torch.arange(min(SHOWN, number)))
    for face, picture in zip(shown, network(shown), strict=True):
        sheet.add(face.name, face.image, picture)
    return report, sheet.picture()


def may_have_seen(evaluator: Evaluator, network: RestorerPipeline) -> bool:
    """Whether the restorer may know faces that carry all attributes; FaceganError where its run says that it does."""
    if not (Path(network.path) / "ids" / f"{STAGE}.txt").exists():
        return network.may_have_seen_joint_faces
    run = RunFolder(network.path)
    if run.record()["data_fingerprint"] == evaluator.data.fingerprint:
        excluded = {evaluator.data.table.ids[row] for row in evaluator.groups.excluded}
        found = excluded.intersection(run.ids(STAGE))
        if found:
            raise FaceganError(
                f"`restore={network.path}` learned from {len(found)} faces that carry, or may carry, all of "
                f"{', '.join(evaluator.judge.attributes)}, such as {min(found)}: train one for these attributes"
            )
    others = not {*attribute_names(run.config().attributes)} <= {*evaluator.judge.attributes}
    return network.may_have_seen_joint_faces or others


def _part(evaluator: Evaluator, seen: JudgedSamples) -> dict[str, Any]:
    *marginals, joint = (wilson(float(column.sum()), len(column))._asdict() for column in seen.verdicts.T)
    intervals = dict(zip(evaluator.judge.attributes, marginals, strict=True))
    part = {
        "joint": joint,
        "marginals": {name: interval["rate"] for name, interval in intervals.items()},
        "marginal_intervals": intervals,
        "sharpness": float(seen.sharpness.median()),
    }
    for extractor in evaluator.extractors if available() else ():
        name, reference = f"kid{extractor.suffix}", torch.cat(evaluator.joint_features(extractor))
        part[name] = compare(seen.features[extractor.suffix], reference, extractor.suffix)[name]
    return part


def _drift(before: Tensor, after: Tensor) -> float | None:
    if len(before) < 2:
        return None
    return float((after - before).norm(dim=1).mean() / torch.pdist(before[:2000]).mean())


def summary(report: dict[str, Any]) -> str:
    """The table of `facegan evaluate --restore`."""
    before, after = report["before"], report["after"]

    def row(name: str, a: float | None, b: float | None, digits: int = 3) -> str:
        return f"{name:16s}" + "".join(f"{'-' if value is None else format(value, f'.{digits}f'):>10s}" for value in (a, b))

    known = "; may have seen faces with all attributes in its training" if report["may_have_seen_joint_faces"] else ""
    lines = [f"{report['samples']} faces restored by {report['weights']}{known}", f"{'':16s}{'before':>10s}{'after':>10s}"]
    lines.append(row("joint rate", before["joint"]["rate"], after["joint"]["rate"]))
    lines += [row(name, value, after["marginals"][name]) for name, value in before["marginals"].items()]
    lines += [row(name, before[name], after[name], 4) for name in before if name == "sharpness" or name.startswith("kid")]
    kept = ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in report["kept_marginals"].items())
    share = "-" if report["kept"] is None else f"{report['kept']:.3f}"
    lines.append(f"{'kept':16s}{share} of the joint rate; of the faces that carried it before: {kept}")
    drift = "-" if report["identity_drift"] is None else f"{report['identity_drift']:.3f}"
    lines.append(f"{'identity drift':16s}{drift} (0: the same face, 1: another one)")
    return "\n".join(lines)
