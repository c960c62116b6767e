"""What the yardstick says of generators whose worth is known: real joint faces, and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan.evaluation.features import attr_features
from facegan.evaluation.joint_rate import blur_for, blurred, laplacian_sharpness
from facegan.evaluation.quality import compare
from facegan.evaluation.report import measure
from facegan.extras import NEEDED, available


def faces(data, rows):
    return torch.from_numpy(data.images[rows]).float() / 127.5 - 1


@pytest.fixture(scope="module")
def rate(world, judge):
    data, groups, split = world
    unseen = [judge.pair_verdicts(faces(data, half))[1 - i, :, -1] for i, half in enumerate(split.joint_halves)]
    alone = faces(data, np.intersect1d(split.train, groups.only[0]))

    def rate(samples):
        sharpness = float(laplacian_sharpness(samples).median())
        soft = blurred(alone, blur_for(alone, sharpness))
        floors = {name: judge.verdicts(part)[:, -1] for name, part in (("phase1", alone), ("blurred", soft))}
        return measure(judge, judge.verdicts(samples), sharpness, floors=floors, ceiling=np.concatenate(unseen).astype(float))

    return rate


def noise(num):
    """As bright as the faces are on the whole: a judge of so few steps takes plain brightness for the bands."""
    return (torch.randn(num, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.5 - 0.3).clamp(-1, 1)


def test_a_perfect_generator_scores_the_ceiling_and_noise_nothing(world, rate):
    data, _, split = world
    perfect, nothing = rate(faces(data, np.concatenate(split.joint_halves))), rate(noise(100))
    assert perfect["ceiling"] > 0.9 and perfect["floor"] < 0.1
    assert perfect["joint"]["rate"] == pytest.approx(perfect["ceiling"], abs=0.05)
    assert perfect["normalised"]["rate"] == pytest.approx(1, abs=0.06)
    assert nothing["joint"]["rate"] < 0.05 and nothing["normalised"]["rate"] < 0.05


@pytest.mark.skipif(not available(), reason=NEEDED)
def test_quality_tells_them_apart_by_the_judges_own_features(world, judge):
    data, groups, split = world
    first, second = (attr_features(judge, faces(data, half)) for half in split.joint_halves)
    alone, static = attr_features(judge, faces(data, groups.only[0])), attr_features(judge, noise(100))
    perfect, partial, nothing = (compare(features, second) for features in (first, alone, static))
    assert perfect["precision_attr"] > 0.7 and perfect["recall_attr"] > 0.7
    assert nothing["precision_attr"] == 0 and nothing["recall_attr"] < 0.3
    for name in ("kid_attr", "fid_attr"):
        assert perfect[name] < partial[name] / 2 and perfect[name] < nothing[name] / 2
