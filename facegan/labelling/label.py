"""From labelled faces and unlabelled ones to a list of values and probabilities."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from facegan.data.attributes import names as names_of
from facegan.data.formats import is_image, without_masks
from facegan.data.images import Decoded, build
from facegan.data.loaders import MARKED
from facegan.data.sources import Source, open_source
from facegan.devices import resolve_device
from facegan.errors import FaceganError
from facegan.files import quoted, read_bytes, write_whole
from facegan.labelling.calibration import Figures, figures, moved, platt, share_among, sigmoid, verdicts
from facegan.labelling.examples import FEWEST, Examples, digest, read_examples
from facegan.labelling.features import features
from facegan.labelling.metadata import Written, metadata, read_written
from facegan.labelling.rater import fitted, folds
from facegan.labelling.sheet import SHEET, label_sheet
from facegan.options import DataLabel
from facegan.plotting.sheets import save_png

log = logging.getLogger("facegan.data")

METADATA = "metadata.csv"
TOGETHER = 64  # faces whose features are in memory at a time


@dataclass(frozen=True, eq=False)
class Labels:
    """What faces were rated as, the most uncertain first and those that a person has checked last.

    Attributes:
        names: files, relative to the folder or archive.
        attributes: what they were rated for.
        values: float32 [N, K]: 1, 0, or NaN for unknown; what a person has checked or changed stays.
        scores: float64 [N, K]: probabilities among these faces.
        said: float32 [N, K]: what the scores alone say.
        checked: bool [N]: a person has looked at the row.
        figures: of each attribute, how good its scores are on labelled faces held out.
        unreadable: (file, reason) of the pictures that could not be read.
        out: the file that `save` writes.
    """

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    values: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    said: np.ndarray = field(repr=False)
    checked: np.ndarray = field(repr=False)
    figures: tuple[Figures, ...]
    unreadable: tuple[tuple[str, str], ...]
    out: Path
    _images: np.ndarray = field(repr=False)  # uint8 [M, 3, R, R]
    _index: np.ndarray = field(repr=False)  # [N]: where in them each face is
    _before: Written = field(repr=False)  # what `out` was

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sheet(self) -> Image.Image:
        """A picture to check them by eye: of each attribute, faces that have it, that are uncertain, that have it not."""
        return label_sheet(self.attributes, self.scores, self.said, lambda i: self._images[self._index[i]])

    def save(self, path: str | Path = "") -> Path:
        """Write the list, by default to `out`, and the sheet beside it, whose path is returned.

        Raises:
            FaceganError: another file is at `path`, or `out` has changed since the faces were rated.
        """
        target = Path(path) if path else self.out
        before = self._before if target == self.out else Written()
        columns = {name: (self.values[:, k], self.scores[:, k], self.said[:, k]) for k, name in enumerate(self.attributes)}
        content = metadata(self.names, self.attributes, columns, self.checked, before.others(self.attributes))
        if target.exists() and target.read_bytes() not in (before.content, content):
            since = (
                "has changed since the faces were rated: rate them again" if target == self.out else "is there already: name another file"
            )
            raise FaceganError(f"{target} {since}")
        try:
            write_whole(target, content)
        except OSError as error:
            raise FaceganError(f"{target} cannot be written ({error.strerror}); make room, or name another file with `out`") from error
        save_png(self.sheet, target.parent / SHEET)
        return target.parent / SHEET

    def describe(self) -> str:
        """Return a table: of each attribute, what it was learned from, how good that is, and what came of it."""
        rows: list[list[str]] = [["", *self.attributes]]

        def add(title: str, *cells: str) -> None:
            rows.append([title, *cells])

        each = self.figures
        add("labelled faces with it, without", *(f"{f.positives:,}, {f.negatives:,}" for f in each))
        add("balanced accuracy, held out", *(f"{f.balanced_accuracy:.3f}" for f in each))
        add("accuracy, held out", *(f"{f.accuracy:.3f}" for f in each))
        add("area under the curve, held out", *(f"{f.auc:.3f}" for f in each))
        add("unknown among labelled faces", *(f"{f.unknown:.1%}" for f in each))
        add("errors among the sure of them", *("none is sure" if np.isnan(f.sure_error) else f"{f.sure_error:.1%}" for f in each))
        add("calibration error, held out", *(f"{f.calibration_error:.3f}" for f in each))
        add("share with it, labelled faces", *(f"{f.labelled_share:.1%}" for f in each))
        add("share with it here, estimated", *(f"{f.share:.1%}" for f in each))
        for title, where in (("faces here: 1", self.values == 1), ("0", self.values == 0), ("unknown", np.isnan(self.values))):
            add(title, *(f"{int(count):,}" for count in where.sum(0)))
        add("errors expected among the 1", *(_expected(1 - self.scores[self.said[:, k] == 1, k]) for k in range(len(each))))
        add("errors expected among the 0", *(_expected(self.scores[self.said[:, k] == 0, k]) for k in range(len(each))))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            row[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)) for row in rows
        ]
        if self.checked.any():
            lines.append(f"{int(self.checked.sum()):,} faces were checked by a person: their values are kept, and were learned from")
        if self.unreadable:
            lines.append(f"{len(self.unreadable):,} files cannot be read, such as {quoted(self.unreadable[0][0])}: {self.unreadable[0][1]}")
        return "\n".join(line.rstrip() for line in lines)


def _expected(chances: np.ndarray) -> str:
    return f"{chances.mean():.1%}" if len(chances) else "-"


def label(options: DataLabel, progress: bool = True) -> Labels:
    """Rate the faces; nothing is written. Raises FaceganError for what cannot be rated, learned from or written."""
    options.check()
    device = resolve_device(options.device)
    source, members = _unlabelled(options.faces)
    out = _target(options, source, members)
    before = Written()
    if out.exists():
        before = Written(read_bytes(out)) if options.overwrite else read_written(out)
    attributes = tuple(names_of(options.attributes))
    if len(set(attributes)) < len(attributes):
        raise FaceganError(f"`attributes` is {','.join(options.attributes)}: expected each of them once")
    decoded = build(source.read, members, [source.stamp(name) for name in members], options.resolution, progress=progress)
    names = tuple(members[i] for i in decoded.kept)
    kept, looked_at = _kept(before, names, attributes)
    own = np.flatnonzero(~np.isnan(kept).all(1))
    examples = read_examples(
        options.from_, options.attributes, options.resolution, options.seed, (kept[own], decoded.images[own]), progress
    )
    scores, held_out = _rated(options, examples, decoded, device, progress)
    probabilities, found = _calibrated(options, examples, scores, held_out)
    said = verdicts(probabilities, options.yes, options.no)
    changed = _changed(before, names, attributes)
    values = np.where(changed, kept, said).astype(np.float32)
    certainty = np.where(changed, np.inf, np.abs(probabilities - 0.5)).min(1)
    order = np.lexsort((np.arange(len(names)), np.where(looked_at, np.inf, certainty)))
    return Labels(
        tuple(names[i] for i in order), attributes, values[order], probabilities[order], said[order], looked_at[order], found,
        decoded.skipped, out, decoded.images, order, before,
    )  # fmt: skip


def _unlabelled(path: str) -> tuple[Source, list[str]]:
    """The pictures of a folder or archive, masks and sheets left out."""
    if not path or not os.path.exists(Path(path).expanduser()):
        raise FaceganError(f"faces {path or 'are missing'}: expected a folder or .zip of faces, and there is none of that name")
    source = open_source(Path(path).expanduser())
    members, _ = without_masks([name for name in source.names if is_image(name)])
    if not members:
        raise FaceganError(f"faces {path}: contains no image; expected a folder or .zip of faces")
    return source, members


def _target(options: DataLabel, source: Source, members: list[str]) -> Path:
    """Where the list goes; refuses places that cannot be written, or where the list would not be read or would hide other labels."""
    if not options.out and not source.path.is_dir():
        raise FaceganError(f"faces {source.path} are an archive, in which nothing is written: name a file with `out`, e.g. labels.csv")
    out = Path(options.out).expanduser() if options.out else source.path / METADATA
    if out.is_dir():
        raise FaceganError(f"`out` is {out}, a folder: expected a file, e.g. {out / METADATA}")
    if out.parent.is_dir() and not os.access(out.parent, os.W_OK):
        raise FaceganError(f"{out.parent} cannot be written to: name a file elsewhere with `out`")
    if out.resolve() == (source.path / METADATA).resolve():
        markers = [marker for marker, _, _ in MARKED]
        others = [name for name in source.names if posixpath.basename(name) in markers and name != METADATA]
        if others:
            raise FaceganError(
                f"faces {source.path} have labels already, {quoted(others[0])}, beside which {METADATA} would not count: move them away, "
                "or name a file elsewhere with `out`"
            )
    return out


def _kept(before: Written, names: tuple[str, ...], attributes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What people have checked or changed: values float32 [N, K], NaN where they have not; bool [N], which rows are marked."""
    kept = np.full((len(names), len(attributes)), np.nan, np.float32)
    for k, attribute in enumerate(attributes):
        found = before.kept(attribute)
        kept[:, k] = [found.get(name, np.nan) for name in names]
    checked = before.checked()
    gone = sorted({*checked, *(name for each in attributes for name in before.kept(each))} - set(names))
    if gone:
        log.warning(
            "%d rows that a person has checked or changed are of files that are no longer there, such as %s: they are left out",
            *(len(gone), quoted(gone[0])),
        )
    return kept, np.array([name in checked for name in names], bool)


def _changed(before: Written, names: tuple[str, ...], attributes: tuple[str, ...]) -> np.ndarray:
    """bool [N, K]: where a person's value, or their not knowing it, stays."""
    found: list[Mapping[str, float]] = [before.kept(attribute) for attribute in attributes]
    return np.array([[name in each for each in found] for name in names], bool).reshape(len(names), len(attributes))


def _rated(
    options: DataLabel, examples: Examples, decoded: Decoded, device: torch.device, progress: bool
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Scores float64 [N, K] of the faces, by the mean of the folds' raters; scores [n, K] of the labelled ones, each by the rater that
    has not seen it, and their folds [n]. A labelled face among the others has the score that it got held out."""
    x = np.concatenate([
        features(examples.images[i : i + TOGETHER], device).cpu().numpy() for i in range(0, len(examples.images), TOGETHER)
    ]).astype(np.float64)  # fmt: skip
    part = folds(examples.people, examples.values, options.folds, options.seed)
    held_out = np.zeros(examples.values.shape)
    weights, constants = np.zeros((x.shape[1], examples.values.shape[1])), np.zeros(examples.values.shape[1])
    for k, y in enumerate(examples.values.T):
        for fold in range(options.folds):
            learned = (part != fold) & ~np.isnan(y)
            if not (y[learned] == 1).any() or not (y[learned] == 0).any():
                name = names_of(options.attributes)[k]
                raise FaceganError(
                    f"the labelled faces with or without {name} are of too few persons for {options.folds} parts: lower `folds`"
                )
            w, c = fitted(x[learned], y[learned])
            held_out[part == fold, k] = x[part == fold] @ w + c
            weights[:, k] += w / options.folds
            constants[k] += c / options.folds
    matrix = torch.from_numpy(weights).float().to(device)
    scores = np.empty((len(decoded.images), len(constants)))
    with tqdm(total=len(scores), desc="rating", unit="face", disable=None if progress else True) as bar:
        for start in range(0, len(scores), TOGETHER):
            images = decoded.images[start : start + TOGETHER]
            scores[start : start + len(images)] = (features(images, device) @ matrix).cpu().double().numpy() + constants
            for i, image in enumerate(images):
                at = examples.row.get(digest(image))
                if at is not None:
                    scores[start + i] = held_out[at]
            bar.update(len(images))
    return scores, (held_out, part)


def _calibrated(
    options: DataLabel, examples: Examples, scores: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, tuple[Figures, ...]]:
    """Probabilities [N, K] for the share that these faces have, and figures, for which a fold's calibration has not seen it either.

    Faces that people checked because they were uncertain are learned from, but are harder than the rest: they would make scores seem
    worse, and the share seem smaller, than they are. So the others alone calibrate, where there are enough of them.
    """
    probabilities, found, attributes = np.empty(scores.shape), [], names_of(options.attributes)
    for k, y in enumerate(examples.values.T):
        known = ~np.isnan(y) & examples.sampled
        if min((y[known] == 1).sum(), (y[known] == 0).sum()) < FEWEST:
            known = ~np.isnan(y)
            log.warning("%s: probabilities are less to be relied on, as most labelled faces were picked for being uncertain", attributes[k])
        s, labels, part = held_out[0][known, k], y[known].astype(np.float64), held_out[1][known]
        a, b = platt(s, labels)
        share, labelled = share_among(sigmoid(a * scores[:, k] + b), labels.mean()), float(labels.mean())
        probabilities[:, k] = moved(sigmoid(a * scores[:, k] + b), labelled, share)
        crossed = np.empty(len(s))
        for fold in np.unique(part):
            inside, rest = part == fold, part != fold
            fold_a, fold_b = platt(s[rest], labels[rest])
            crossed[inside] = sigmoid(fold_a * s[inside] + fold_b)
        learned = dict(positives=int((y == 1).sum()), negatives=int((y == 0).sum()))
        found.append(replace(figures(crossed, labels, options.yes, options.no, share), **learned))
    return probabilities, tuple(found)
