"""The independent judge: a cross-fitted pair of attribute classifiers that rates generated faces.

Both classifiers learn from the quarter of the non-joint images that the generator side never gets, and each from one
half of the joint images; real joint faces are then rated by the classifier that never saw them (the ceiling), and
generated faces by the mean of the two verdicts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from facegan.data.images import cache_directory
from facegan.devices import described, resolve_device
from facegan.errors import FaceganError
from facegan.evaluation.judge.data import binary_columns, labels_of, material_of, pixels_of, shrink
from facegan.evaluation.judge.degradation import gaussian_blur
from facegan.evaluation.judge.network import JudgeConfig, JudgeNet, fit, logits_of, temperature, to_float
from facegan.files import RECORD_LIMIT, read_bytes, read_json, write_whole, written
from facegan.schema import Range, checked
from facegan.tensors import read_tensors, rebuilt, refuse_other_shapes

if TYPE_CHECKING:
    from facegan.data.attributes import Groups
    from facegan.data.faces import FaceData
    from facegan.data.splits import Split

FORMAT = 3  # of the files
VERSION = 1  # raise when a judge learns otherwise: those trained before are then never found again
LARGEST = 1 << 28  # bytes of a judge's weights
CARD_BLURS = (0.0, 0.02, 0.04, 0.08)  # sigmas of the card's false-joint test, as a share of the width
CARD_LIMIT = 1000  # images of each kind that the card's figures are taken on


_Share = Annotated[float, Range(0, 1)]


class _Settings(TypedDict):
    width: Annotated[int, Range(1, 1024)]
    resolution: Annotated[int, Range(8, 1024)]


class _Member(TypedDict):
    columns: list[str]


class _Data(TypedDict):
    name: str
    fingerprint: str


class Card(TypedDict):
    """What judge.json must say; how trustworthy the judge is stands beside it."""

    attributes: list[str]
    resolution: Annotated[int, Range(4, 4096)]
    config: _Settings
    data: _Data
    members: list[_Member]
    weights_sha256: str
    ceiling: _Share | None
    balanced_accuracy: dict[str, _Share | None]
    calibration_error: dict[str, _Share | None]
    column_accuracy: dict[str, _Share | None]


class Judge:
    """Two classifiers, how trustworthy they are (``card``), and the ids of the images each learned from."""

    def __init__(
        self,
        attributes: tuple[str, ...],
        nets: tuple[JudgeNet, JudgeNet],
        temperatures: Tensor,  # [2, K]
        learnt_ids: tuple[tuple[str, ...], tuple[str, ...]],
        card: dict[str, Any],
    ) -> None:
        self.attributes = attributes
        self.nets = nets
        self.temperatures = temperatures
        self.learnt_ids = learnt_ids
        self.card = card
        self.over: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] = _at_once

    @property
    def device(self) -> torch.device:
        """Where the classifiers are; what they say comes back to the CPU."""
        return next(self.nets[0].parameters()).device

    @property
    def resolution(self) -> int:
        """Height and width of the images it rates."""
        return self.card["resolution"]

    def prepared(self, images: Tensor, batch: int = 256) -> Tensor:
        """Float images [N, 3, R, R] in [-1, 1] as the classifiers take them: [N, 3, S, S], on their device.

        Values beyond the range are clamped, as saving a picture would. Raises FaceganError for another shape or dtype
        and for values that are not finite.
        """
        expected = (3, self.resolution, self.resolution)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected or not images.is_floating_point():
            raise FaceganError(
                f"images must be float [N, {', '.join(map(str, expected))}] in [-1, 1] for this judge, got "
                f"{images.dtype} {list(images.shape)}; use a judge trained at the samples' resolution."
            )
        if not bool(torch.isfinite(images).all()):
            raise FaceganError("images hold values that are not finite: the generator diverged; rate an earlier one.")
        size = self.card["config"]["resolution"]
        parts = [shrink(part.detach().to(self.device).float().clamp(-1, 1), size) for part in images.split(batch)]
        return torch.cat(parts) if parts else images

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data's table, beside the attributes, that both classifiers learned to tell."""
        first, second = (member["columns"] for member in self.card["members"])
        return tuple(name for name in first if name in second)

    @torch.no_grad()
    def logits(self, images: Tensor, batch: int = 256) -> Tensor:
        """float32 [N, 2, K + C], on the CPU: what each classifier says of the attributes and then of `columns`."""
        small, wanted, found = self.prepared(images, batch), len(self.attributes), []
        for net, member in zip(self.nets, self.card["members"], strict=True):
            places = [*range(wanted), *(wanted + member["columns"].index(name) for name in self.columns)]
            found.append(logits_of(net, small, batch)[:, places])
        return torch.stack(found, 1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Calibrated probabilities float32 [2, N, K], on the CPU, of float images [N, 3, R, R] in [-1, 1]."""
        return self.calibrated(self.over(self.logits, images))

    def calibrated(self, logits: Tensor) -> Tensor:
        """The probabilities [2, N, K] that `logits` [N, 2, K + C] say."""
        return torch.sigmoid(logits[..., : len(self.attributes)].transpose(0, 1) / self.temperatures[:, None])

    def column_verdicts(self, images: Tensor) -> np.ndarray:
        """bool [2, N, C]: per classifier whether it sees each of `columns`; none of these is calibrated."""
        return self.columns_said(self.over(self.logits, images))

    def columns_said(self, logits: Tensor) -> np.ndarray:
        """The column verdicts [2, N, C] of `logits` [N, 2, K + C]."""
        return (logits[..., len(self.attributes) :].transpose(0, 1) >= 0).numpy()

    def pair_verdicts(self, images: Tensor) -> np.ndarray:
        """bool [2, N, K + 1]: per classifier whether each attribute is there (p >= 0.5), then whether all are."""
        return decided(self.probabilities(images))

    def verdicts(self, images: Tensor) -> np.ndarray:
        """float64 [N, K + 1] in {0, 0.5, 1}: the mean of the two classifiers' verdicts, each attribute, then joint."""
        return self.pair_verdicts(images).mean(0)

    def tensors(self) -> dict[str, Tensor]:
        """Everything learned, as saved."""
        named = {f"{i}.{name}": value for i, net in enumerate(self.nets) for name, value in net.state_dict().items()}
        return {name: value.contiguous().cpu() for name, value in (named | {"temperatures": self.temperatures}).items()}

    def save(self, folder: str | Path) -> None:
        """Write ``judge.safetensors``, ``judge.json`` (the card), ``judge_ids.json``; a crash leaves no half files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "judge_ids.json", json.dumps(self.learnt_ids))
        write_whole(folder / "judge.safetensors", safetensors.torch.save(self.tensors()))
        write_whole(folder / "judge.json", json.dumps({"format": FORMAT, **self.card}, indent=1))

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Judge:
        """Read a saved judge. Raises FaceganError when a file is missing, damaged or does not fit its card."""
        folder = Path(folder)
        try:
            card = read_json(folder / "judge.json", RECORD_LIMIT)
            if not isinstance(card, dict) or card.pop("format", None) != FORMAT:
                raise FaceganError(f"it is not in format {FORMAT}")
            card = checked(card, Card, folder / "judge.json")
            if len(card["members"]) != 2:
                raise FaceganError(f"{folder / 'judge.json'} names {len(card['members'])} classifiers, not a pair")
            blob = read_bytes(folder / "judge.safetensors", LARGEST, "judge")
            if hashlib.sha256(blob).hexdigest() != card["weights_sha256"]:
                raise FaceganError("the weights are not those of its card")
            tensors = read_tensors(folder / "judge.safetensors")
            path = folder / "judge_ids.json"
            ids = checked(read_json(path, 4 * RECORD_LIMIT), tuple[tuple[str, ...], tuple[str, ...]], path)
            nets = [net_of(card, i, tensors, folder) for i in range(2)]
            own = {name: value for name, value in tensors.items() if name == "temperatures"}
            refuse_other_shapes(folder, "", own, {"temperatures": torch.empty(2, len(card["attributes"]))})
        except FaceganError as error:
            raise FaceganError(f"judge: {folder} does not hold a complete judge ({error}); train it again with this version.") from error
        placed = [net.to(resolve_device(device)).eval().requires_grad_(False) for net in nets]
        return cls(tuple(card["attributes"]), (placed[0], placed[1]), tensors["temperatures"], ids, card)


def net_of(card: dict[str, Any], member: int, tensors: dict[str, Tensor], folder: Path) -> JudgeNet:
    """Classifier `member` of a saved pair."""
    outputs = len(card["attributes"]) + len(card["members"][member]["columns"])
    state = {name.removeprefix(f"{member}."): value for name, value in tensors.items() if name.startswith(f"{member}.")}
    return rebuilt(lambda: JudgeNet(outputs, card["config"]["width"]), state, folder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def decided(probabilities: Tensor) -> np.ndarray:
    """bool [2, N, K + 1] of probabilities [2, N, K]: each attribute, then all of them."""
    yes = (probabilities >= 0.5).numpy()
    return np.concatenate([yes, yes.all(-1, keepdims=True)], axis=-1)


def _at_once(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """How a judge maps images; `processes.share` in its place lets several processes do it together."""
    return function(images)


def train_judge(
    data: FaceData,
    groups: Groups,
    split: Split,
    config: JudgeConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Judge:
    """Train the pair and measure it on images it never learned from.

    On a CPU the same seed gives the same bits (with the same number of threads); the global random state is untouched.
    Raises FaceganError when a group has no images to learn from, or when the split hands joint images to both sides.
    """
    config, device = config or JudgeConfig(), resolve_device(device)
    if np.isin(split.judge, groups.excluded).any() or np.intersect1d(*split.joint_halves).size:
        raise FaceganError(
            "split: the judge's non-joint images hold joint ones, or the joint halves overlap, so no ceiling can be "
            "measured; make the split with facegan.data.splits.split for the same groups."
        )
    nets, temperatures, ids, members = [], [], [], []
    with tqdm(total=2 * config.steps, desc="judge", unit="step", disable=not progress or None) as bar:
        for member, half in enumerate(split.joint_halves):
            material, rows, columns = material_of(data, groups, split.judge, half, config)
            net, record = fit(material, config, member, device, bar)
            held, wanted = material.validation, len(groups.attributes)
            held_labels, held_logits = material.labels[held][:, :wanted], logits_of(net, material.images[held])[:, :wanted]
            temperatures.append(temperature(held_logits, held_labels))
            nets.append(net)
            ids.append(tuple(data.table.ids[row] for row in rows))
            strata = [len(s) for s in material.strata]
            members.append(record | {"images": len(rows), "strata": strata, "columns": columns, "ids_sha256": _digest(list(ids[-1]))})
    names = tuple(attribute.name for attribute in groups.attributes)
    card = {
        "attributes": list(names),
        "definitions": [asdict(attribute) for attribute in groups.attributes],
        "resolution": int(data.images.shape[-1]),
        "config": asdict(config) | {"shares": list(config.shares)},  # as JSON has it
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "version": VERSION,
        "device": described(device),
        "members": members,
    }
    judge = Judge(names, (nets[0], nets[1]), torch.stack(temperatures), (ids[0], ids[1]), card)
    card["weights_sha256"] = hashlib.sha256(safetensors.torch.save(judge.tensors())).hexdigest()
    card |= _figures(judge, data, groups, split)
    return judge


def _figures(judge: Judge, data: FaceData, groups: Groups, split: Split) -> dict[str, Any]:
    """The card's measurements: on the generator side's images, which the judge never learned from, and for the ceiling
    on the joint half that the classifier in question never saw."""
    names = judge.attributes
    order = np.random.Generator(np.random.Philox(judge.card["config"]["seed"]))

    def some(rows: np.ndarray) -> np.ndarray:
        return np.sort(order.permutation(rows)[:CARD_LIMIT])

    def faces(rows: np.ndarray) -> Tensor:
        return to_float(pixels_of(data, rows, judge.resolution))

    alone = [some(np.intersect1d(split.train, only)) for only in groups.only]
    others = some(np.setdiff1d(split.train, np.concatenate(groups.only)))
    rows = np.concatenate([*alone, others])
    labels = labels_of(data.table, groups.attributes, groups.joint)[rows]
    images = faces(rows)
    probabilities, columns = judge.probabilities(images).numpy(), judge.column_verdicts(images)
    others_labels = binary_columns(data.table, rows)[:, [data.table.columns.index(name) for name in judge.columns]]
    unseen = [judge.pair_verdicts(faces(half))[1 - i] for i, half in enumerate(split.joint_halves)]
    false_joint = {}
    for name, only in zip(names, alone, strict=True):
        carriers = faces(only)
        blurred = {f"{blur:g}": gaussian_blur(carriers, torch.tensor([blur * judge.resolution])) for blur in CARD_BLURS}
        false_joint[name] = {blur: _mean(judge.verdicts(part)[:, -1]) for blur, part in blurred.items()}
    return {
        "measured_on": {"non_joint": len(rows), "joint": [len(half) for half in split.joint_halves]},
        "balanced_accuracy": {n: _balanced(probabilities[..., k] >= 0.5, labels[:, k]) for k, n in enumerate(names)},
        "column_accuracy": {n: _balanced(columns[..., c], others_labels[:, c]) for c, n in enumerate(judge.columns)},
        "calibration_error": {n: _ece(probabilities[..., k], labels[:, k]) for k, n in enumerate(names)},
        "ceiling": _mean(np.concatenate(unseen)[:, -1]),
        "ceilings": [_mean(part[:, -1]) for part in reversed(unseen)],  # of classifier 0, of classifier 1
        "ceiling_marginals": {n: _mean(np.concatenate(unseen)[:, k]) for k, n in enumerate(names)},
        "false_joint": false_joint,  # {attribute k: {blur as a share of the width: rate of "joint" on X_k}}
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _balanced(yes: np.ndarray, labels: np.ndarray) -> float | None:
    """Balanced accuracy, mean of the pair; verdicts bool [2, N], labels [N] with NaN; None without both sides."""
    sides = [(yes[:, labels == side] == side) for side in (0, 1)]
    return float(np.mean([side.mean() for side in sides])) if all(side.size for side in sides) else None


def _ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float | None:
    """Expected calibration error (Guo et al. 2017) over equal bins, positives and negatives weighing the same."""
    counts = [max(1, int((labels == side).sum())) for side in (0, 1)]
    weight = np.where(labels == 1, 0.5 / counts[1], np.where(labels == 0, 0.5 / counts[0], 0.0))
    if not ((labels == 0).any() and (labels == 1).any()):
        return None
    errors = []
    for member in probabilities:
        place = np.minimum((member * bins).astype(int), bins - 1)
        gap = weight * (member - np.nan_to_num(labels))
        errors.append(np.abs(np.bincount(place, gap, bins)).sum())
    return float(np.mean(errors))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def load_or_train(
    data: FaceData,
    groups: Groups,
    split: Split,
    config: JudgeConfig | None = None,
    *,
    cache_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Judge:
    """The judge of these images, attributes, split and settings, trained once on this kind of device and kept under
    ``cache_dir``/<key> (default ``$FACEGAN_CACHE``/judge or ``~/.cache/facegan/judge``)."""
    config, device = config or JudgeConfig(), resolve_device(device)
    root = Path(cache_dir) if cache_dir else cache_directory() / "judge"
    rows = [part.tolist() for part in (split.train, split.judge, *split.joint_halves)]
    definitions = [asdict(attribute) for attribute in groups.attributes]
    folder = root / _digest([data.fingerprint, definitions, asdict(config), rows, device.type, VERSION, torch.__version__])[:32]
    if (folder / "judge.json").exists():
        return Judge.load(folder, device)
    judge = train_judge(data, groups, split, config, device=device, progress=progress)
    with written(folder) as aside:  # another process may be quicker: its judge is the same
        judge.save(aside)
    return judge


def refuse_partial(judge: Judge, data: FaceData, split: Split) -> None:
    """Raise FaceganError unless ``judge`` is of these images, and learned from none that it must not know: the generator
    side's, and the joint half on which each classifier gives the ceiling."""
    if judge.card["data"]["fingerprint"] != data.fingerprint:
        raise FaceganError(
            f"judge: it learned from {judge.card['data']['name']!r}, and the images of {data.name!r} are others, or "
            "differ in size or labels; train a judge on these, as happens where none is named."
        )
    for learned, unseen in zip(judge.learnt_ids, reversed(split.joint_halves), strict=True):
        for rows, owner in ((split.train, "the generator's side"), (unseen, "the joint half that measures the ceiling")):
            shared = {data.table.ids[row] for row in rows}.intersection(learned)
            if shared:
                raise FaceganError(
                    f"judge: it learned from {len(shared)} images of {owner}, such as {min(shared)}, so its verdict would "
                    "mean nothing; train a judge on this split, as happens where none is named."
                )


def refuse_learnt(judge: Judge, ids: set[str], owner: str) -> None:
    """Raise FaceganError where ``ids``, the images that a run says it learned from, and those of ``judge`` overlap."""
    shared = ids.intersection(set().union(*judge.learnt_ids))
    if shared:
        raise FaceganError(
            f"judge: it learned from {len(shared)} images that {owner} learned from too, such as {min(shared)}, so its verdict "
            "would mean nothing; rate the run by the data and labels that it was trained on."
        )
