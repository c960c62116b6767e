"""What is kept of faces is what is measured on all of them at once, and never more than a batch is in memory."""

from __future__ import annotations

import numpy as np
import torch

from facegan.evaluation.features import Attributes
from facegan.evaluation.joint_rate import laplacian_sharpness
from facegan.evaluation.processes import BATCH
from facegan.evaluation.samples import FIRST, logits_of, score_samples, verdicts_of


def test_a_batch_at_a_time_gives_the_figures_of_all_at_once(world, judge):
    data, _, split = world
    images, drawn = torch.from_numpy(data.images[split.train[:150]]).float() / 127.5 - 1, []

    def draw(places):
        drawn.append(len(places))
        return images[places]

    features = Attributes(judge)
    seen = score_samples(draw, len(images), judge, [features], lambda faces: faces.mean((1, 2, 3)))
    assert len(seen) == 150 and max(drawn) == BATCH < 150
    np.testing.assert_array_equal(seen.verdicts, judge.verdicts(images))
    np.testing.assert_array_equal(judge.columns_said(seen.logits), judge.column_verdicts(images))
    np.testing.assert_array_equal(verdicts_of(judge, logits_of(judge, draw, 150, "faces")), judge.pair_verdicts(images))
    torch.testing.assert_close(seen.features, {"_attr": features(images)}, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.sharpness, laplacian_sharpness(images))
    torch.testing.assert_close(seen.scores, images.mean((1, 2, 3)))
    torch.testing.assert_close(seen.small, images)
    torch.testing.assert_close(seen.first(FIRST), images[:FIRST])


def test_without_critics_or_features_there_are_none(world, judge):
    images = torch.zeros(3, 3, 16, 16)
    seen = score_samples(images.__getitem__, 3, judge)
    assert seen.scores is None and seen.features == {} and seen.first(FIRST).shape == images.shape
