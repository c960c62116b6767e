"""How near a restorer comes to the faces as they were, beside Lanczos and Lanczos with non-local means: `facegan evaluate W`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.restorers import STAGE, open_restorer
from facegan.checkpoints.run import RunFolder, write_json
from facegan.data.attributes import group, resolve
from facegan.data.faces import FaceData, open_faces
from facegan.data.limits import Limits
from facegan.data.splits import split
from facegan.errors import FaceganError
from facegan.evaluation.diversity import lpips_here
from facegan.evaluation.processes import main_first
from facegan.extras import NEEDED
from facegan.graphs import Graphed
from facegan.methods import config_of
from facegan.methods.restore.degradation import NUMBERS, degrade
from facegan.methods.restore.ranges import Degradation
from facegan.options import EvaluateOptions
from facegan.pixels import to_float
from facegan.plotting.comparison import comparison
from facegan.plotting.sheets import save_png, to_tensor
from facegan.randomness import Randomness, Shard
from facegan.restore.restorer import pictures, restored_faces
from facegan.schema import checked
from facegan.styles.perceptual import Lpips, distance

log = logging.getLogger("facegan.restore")

# What the faces suffer; the first two are fixed, so that figures of different restorers can be laid side by side.
FIXED = dict(blur=(0.7, 0.7), noise=(5.0, 5.0), jpeg=(75.0, 75.0), fade=(0.0, 0.0))
CONDITIONS = {
    "x2: blur 0.7 px, noise 5, JPEG 75": Degradation(downsample=(2.0, 2.0), **FIXED),
    "x4: blur 0.7 px, noise 5, JPEG 75": Degradation(downsample=(4.0, 4.0), **FIXED),
}
STRENGTHS = (1.0, 2.0, 3.0, 4.5, 6.5, 9.0)  # of non-local means, in levels of 255; the best one counts
SHOWN = 6
MOST = 512  # faces that are measured, unless fewer are asked for

Way = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Faces:
    images: Tensor  # [N, 3, R, R] in [-1, 1], which the restorer never learned from
    description: str


@dataclass(frozen=True, eq=False)
class RestorationReport:
    """Restored faces beside the faces as they were, for each way of spoiling them and of restoring.

    Attributes:
        conditions: {how faces were spoiled: {way of restoring: {figure: value}}}.
        details: everything, as report.json has it.
        picture: faces, and what each way made of them; None after `from_json`.
    """

    conditions: dict[str, dict[str, dict[str, float | None]]]
    details: dict[str, Any]
    picture: Image.Image | None = None

    @classmethod
    def from_json(cls, details: dict[str, Any], picture: Image.Image | None = None) -> RestorationReport:
        """Build the report from what `to_json` gave or report.json holds; FaceganError where it is none."""
        return cls(checked(details, _Details, "the report")["conditions"], details, picture)

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured, in the types of JSON."""
        return dict(self.details)

    def describe(self) -> str:
        """The table."""
        return table(self.details)

    def save(self, folder: str | Path) -> Path:
        """Write report.png and, last, report.json, whose path is returned."""
        out = Path(folder)
        if self.picture:
            save_png(self.picture, out / "report.png")
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "report.json", self.details)
        return out / "report.json"


class _Details(TypedDict):
    weights: str
    count: int
    conditions: dict[str, dict[str, dict[str, float | None]]]


def evaluate_restorer(path: str, options: EvaluateOptions, device: torch.device) -> RestorationReport:
    """Measure a restorer. Of several processes each measures all: it is a minute's work."""
    options.at_least(1, "samples")
    if options.judge or options.weights or options.restore or options.floor or options.faces:
        raise FaceganError(f"{path} is a restorer: `judge`, `weights`, `restore`, `floor` and `faces` go with generators")
    weights = open_restorer(path)
    restorer = Graphed(weights.restorer().to(device), device, name="the restorer")
    with main_first():
        faces, conditions = held_out(path, options.data, weights.config.resolution, min(options.samples, MOST))
    measure = lpips_here(options.lpips, device)
    rows: dict[str, dict[str, dict[str, float | None]]] = {}
    shown: dict[str, list[Tensor]] = {}
    for name, degradation in conditions.items():
        degraded = degraded_faces(faces.images, degradation, device)
        ways: dict[str, Way | None] = {"Lanczos": lambda x: x, "Lanczos + NLM": denoised(faces.images, degraded),
                                "restorer": lambda x: restored_faces(restorer, x.to(device))}  # fmt: skip
        progress = tqdm(ways.items(), desc=name, disable=None)
        results = {way: rounded_as_written(apply(degraded)) for way, apply in progress if apply is not None}
        rows[name] = {way: figures(faces.images, result, measure) for way, result in results.items()}
        shown[name] = [faces.images, *results.values()]
    report = {"weights": path, "faces": faces.description, "count": len(faces.images), "conditions": rows}
    return RestorationReport.from_json(report, sheet(shown, ["as it was", *next(iter(rows.values()))]))


def held_out(path: str, data: str, resolution: int, most: int) -> tuple[Faces, dict[str, Degradation]]:
    """Faces that the restorer did not learn from: the judge's part of a run's own data, or all of other data."""
    conditions = dict(CONDITIONS)
    if Path(path).is_dir() and (Path(path) / "ids" / f"{STAGE}.txt").exists():
        config: Any = config_of(RunFolder(path))
        conditions["as in training"] = config.degradation
        how: dict[str, Any] = dict(num=config.num, seed=config.seed, limits=Limits.of(config))
        own = open_faces(config.data, resolution, **how)
        if not data or open_faces(data, resolution, **how).fingerprint == own.fingerprint:
            parts = split(own.identities, group(own.table, resolve(config.attributes, own.table), minimum=config.minimum_images))
            return Faces(some(own, parts.judge, most), f"{own.name}, the part that no generator learns from"), conditions
    if not data:
        raise FaceganError(
            f"`data` is missing: {path} does not say what it learned from; name faces that it did not, e.g. `data=synthetic:7`"
        )
    found = open_faces(data, resolution, num=most)
    return Faces(some(found, np.arange(len(found)), most), found.name), conditions


def some(data: FaceData, rows: np.ndarray, most: int) -> Tensor:
    chosen = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return to_float(np.ascontiguousarray(data.images[chosen]))


def degraded_faces(images: Tensor, degradation: Degradation, device: torch.device) -> Tensor:
    """Every face by numbers of its own, always the same."""
    numbers, resolution = Randomness(0, Shard(), device), images.shape[-1]
    u = numbers.uniform("quality/values", 0, (len(images), NUMBERS))
    parts = []
    for start in range(0, len(images), 32):
        part = images[start : start + 32].to(device)
        noise = numbers.noise("quality/noise", start, (len(part), *degradation.noise_shape(resolution)))
        values = torch.from_numpy(u[start : start + 32]).to(device)
        parts.append(degrade(part, degradation, values, noise).cpu())
    return torch.cat(parts)


def rounded_as_written(images: Tensor) -> Tensor:
    """What `facegan restore` would have written of them."""
    return to_tensor(pictures(images))


def denoised(faces: Tensor, degraded: Tensor) -> Way | None:
    """Non-local means (Buades et al. 2005) by scikit-image, at the strength that serves these faces best; None without it.

    The strength is chosen on the first of the very faces that are measured: the baseline is given every chance.
    """
    try:
        from skimage.restoration import denoise_nl_means
    except ImportError:
        log.warning("Lanczos + NLM (non-local means): %s", NEEDED)
        return None

    def at(strength: float) -> Way:
        def apply(images: Tensor) -> Tensor:
            whole = images.permute(0, 2, 3, 1).numpy()
            cleaned = [denoise_nl_means(image, 5, 6, h=strength / 127.5, fast_mode=True, channel_axis=-1) for image in whole]
            return torch.from_numpy(np.stack(cleaned)).permute(0, 3, 1, 2).float()

        return apply

    few = slice(0, 32)
    best = max(STRENGTHS, key=lambda strength: float(psnr(faces[few], at(strength)(degraded[few])).mean()))
    return at(best)


def figures(faces: Tensor, results: Tensor, measure: Lpips | None) -> dict[str, float | None]:
    found: dict[str, float | None] = {"psnr": float(psnr(faces, results).mean()), "lpips": None}
    if measure is not None:
        pairs = zip(faces.split(16), results.split(16), strict=True)
        with torch.no_grad():
            found["lpips"] = float(torch.cat([distance(measure.features(a), measure.features(b)) for a, b in pairs]).mean())
    return found


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """[N] in decibels, of images in [-1, 1], whose peak is 2."""
    return 10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)).clamp(min=1e-10))


def sheet(shown: dict[str, list[Tensor]], columns: list[str]) -> Image.Image:
    rows = [torch.stack([images[i] for images in found]) for found in shown.values() for i in range(min(SHOWN, len(found[0])))]
    names = [name.partition(":")[0] for name, found in shown.items() for _ in range(min(SHOWN, len(found[0])))]
    return comparison(torch.stack(rows), columns, names)


def table(report: dict[str, Any]) -> str:
    lines = [f"{report['count']} faces of {report['faces']}", f"{'':36s}{'PSNR':>9s}{'gain':>8s}{'LPIPS':>8s}"]
    for name, ways in report["conditions"].items():
        lines.append(name)
        for way, found in ways.items():
            gain = found["psnr"] - ways["Lanczos"]["psnr"]
            lpips = "" if found["lpips"] is None else f"{found['lpips']:8.3f}"
            lines.append(f"  {way:34s}{found['psnr']:6.2f} dB{gain:+8.2f}{lpips}")
    if all(found["lpips"] is None for ways in report["conditions"].values() for found in ways.values()):
        lines.append("LPIPS: not measured, its weights are not on this machine")
    return "\n".join(lines)
