"""Scores to probabilities, those to what holds among other faces, and what may be expected of them; numpy in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 5  # of the calibration error: as many faces in each
WEIGHT, LEAST = 0.02, 10.0  # share of the faces, and least number, that the labelled share counts for where that of others is estimated


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(np.asarray(x, np.float64) / 2))


def logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.log(p) - np.log1p(-p)


def platt(scores: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(a, b) with P(y = 1 | s) = sigmoid(a s + b), by maximum likelihood (Platt 1999), Newton's steps halved where they overshoot
    (Lin, Lin & Weng 2007).

    Targets are Platt's, (n1 + 1) / (n1 + 2) and 1 / (n0 + 2): perfectly parted scores of few faces do not become certainties. `a` is
    never negative: scores that say the opposite on faces held out say nothing.
    """
    yes, no = np.count_nonzero(y == 1), np.count_nonzero(y == 0)
    target = np.where(y == 1, (yes + 1) / (yes + 2), 1 / (no + 2))
    rate, middle, spread = float(target.mean()), float(np.mean(scores)), float(np.std(scores))
    if spread < 1e-9 * (1 + abs(middle)):  # all are the same
        return 0.0, float(logit(np.array(rate)))
    x = np.stack([(scores - middle) / spread, np.ones(len(scores))], 1)

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - target * z).sum())

    w = np.array([0.0, np.log((yes + 1) / (no + 1))])
    for _ in range(100):
        p = sigmoid(x @ w)
        gradient = x.T @ (p - target)
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + 1e-12 * np.eye(2), gradient)
        length = 1.0
        while length > 1e-10 and loss(w - length * step) > loss(w) - 1e-4 * length * (gradient @ step):
            length /= 2
        w = w - length * step
        if np.abs(length * step).max() < 1e-10:
            break
    if w[0] < 0:
        return 0.0, float(logit(np.array(rate)))
    return float(w[0] / spread), float(w[1] - w[0] * middle / spread)


def share_among(p: np.ndarray, known: float) -> float:
    """The share of ones among faces whose probabilities p hold where the share is `known`, by EM (Saerens et al. 2002).

    The known share counts as `WEIGHT` of the faces, `LEAST` at least: few faces do not decide alone, and scores that part the sides worse
    here than they should do not make a rare attribute vanish, which would make every face a sure 0.
    """
    z, share, weight = logit(p) - logit(np.array(known)), known, max(LEAST, WEIGHT * len(p))
    for _ in range(10_000):
        new = float((sigmoid(z + logit(np.array(share))).sum() + weight * known) / (len(p) + weight))
        if abs(new - share) < 1e-9:
            break
        share = new
    return share


def moved(p: np.ndarray, known: float, share: float) -> np.ndarray:
    """Probabilities that hold where a share `known` has the attribute, for where `share` has it (Bayes' rule)."""
    return sigmoid(logit(p) + logit(np.array(share)) - logit(np.array(known)))


def verdicts(p: np.ndarray, yes: float, no: float) -> np.ndarray:
    """float32 of 1 from `yes` on, 0 up to `no`, NaN between."""
    return np.where(p >= yes, 1.0, np.where(p <= no, 0.0, np.nan)).astype(np.float32)


@dataclass(frozen=True)
class Figures:
    """What held-out scores of the labelled faces say of one attribute's rater.

    Attributes:
        positives: labelled faces with the attribute, all that are learned from.
        negatives: those without it.
        accuracy: share of them on whose side their probability is.
        balanced_accuracy: mean of the shares of right ones with and without it, were both as common.
        auc: share of pairs, one with and one without it, that scores order rightly.
        unknown: share of them between the thresholds.
        sure_error: share of wrong ones among those beyond the thresholds; NaN where there are none.
        calibration_error: mean distance of a probability from the share that it stands for, over five bins of as many faces.
        labelled_share: of the faces with it among the labelled ones.
        share: of the faces with it among those rated, as estimated.
    """

    positives: int
    negatives: int
    accuracy: float
    balanced_accuracy: float
    auc: float
    unknown: float
    sure_error: float
    calibration_error: float
    labelled_share: float
    share: float


def figures(p: np.ndarray, y: np.ndarray, yes: float, no: float, share: float) -> Figures:
    """Of probabilities [n] that were given to faces held out, and their labels [n] in {0, 1}."""
    right = (p >= 0.5) == (y == 1)
    said = verdicts(p, yes, no)
    sure = ~np.isnan(said)
    positive, negative = p[y == 1], p[y == 0]
    even = ((positive >= y.mean()).mean() + (negative < y.mean()).mean()) / 2  # the threshold of 1/2, moved to equal shares
    above = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    bins = [part for part in np.array_split(np.argsort(p, kind="stable"), BINS) if len(part)]
    apart = sum(len(part) * abs(p[part].mean() - y[part].mean()) for part in bins) / len(p)
    return Figures(
        len(positive), len(negative), float(right.mean()), float(even), float(above),
        float((~sure).mean()), float((said != y)[sure].mean()) if sure.any() else float("nan"), float(apart), float(y.mean()), share,
    )  # fmt: skip
