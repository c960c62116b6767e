from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facegan.errors import FaceganError
from facegan.metrics.report import measure, picture


class StubJudge:
    """Classifier 0 believes red > 0 is `bald`, classifier 1 wants > 0.5; both take green > 0 for `beard`."""

    attributes = ("bald", "beard")
    card = {"seed": 1}

    def pair_verdicts(self, images):
        red, green = images[:, 0].mean((1, 2)).numpy(), images[:, 1].mean((1, 2)).numpy()
        yes = np.stack([np.stack([red > level, green > 0], -1) for level in (0.0, 0.5)])
        return np.concatenate([yes, yes.all(-1, keepdims=True)], -1)

    def verdicts(self, images):
        return self.pair_verdicts(images).mean(0)


def flat(*colours):
    return torch.tensor(colours, dtype=torch.float32).reshape(-1, 3, 1, 1).expand(-1, 3, 12, 12)


BOTH, UNSURE, NONE = (0.8, 0.8, 0.0), (0.2, 0.8, 0.0), (-0.8, -0.8, 0.0)
BALD, BEARD = (0.8, -0.8, 0.0), (-0.8, 0.8, 0.0)


def test_measure_puts_every_part_in_its_place():
    samples = flat(BOTH, BOTH, UNSURE, BALD, BEARD, NONE, NONE, NONE)
    # UNSURE is joint to classifier 0 alone, which rates half 1; half 0 is rated by classifier 1
    joint = flat(BOTH, UNSURE, UNSURE, BOTH)
    report = measure(StubJudge(), samples, g1_samples=flat(BALD, BALD, BALD, UNSURE), held_out_x1=flat(BALD, NONE),
                     joint_reference=(joint, np.array([0, 0, 1, 1])))  # fmt: skip
    assert report["joint"]["rate"] == pytest.approx(2.5 / 8)
    assert report["marginals"] == {"bald": pytest.approx(3.5 / 8), "beard": pytest.approx(4 / 8)}
    for name, interval in report["marginal_intervals"].items():
        assert interval["low"] < interval["rate"] == report["marginals"][name] < interval["high"]
    assert report["ceiling"] == pytest.approx(3 / 4)
    assert report["floors"] == {"phase1": pytest.approx(0.5 / 4), "blurred": 0.0}
    assert report["floor"] == pytest.approx(0.125)
    assert report["normalised"]["rate"] == pytest.approx((2.5 / 8 - 0.125) / (0.75 - 0.125))
    assert report["samples"] == 8 and report["judge"] == {"seed": 1}
    json.dumps(report, allow_nan=False)


def test_without_a_phase1_generator_the_blurred_faces_are_the_floor():
    report = measure(StubJudge(), flat(BOTH, NONE), g1_samples=None, held_out_x1=flat(BOTH, NONE),
                     joint_reference=(flat(BOTH, NONE), np.array([0, 1])))  # fmt: skip
    assert report["floors"] == {"blurred": 0.5}
    assert report["normalised"] == {"rate": None, "low": None, "high": None}  # no span: nothing can be said
    json.dumps(report, allow_nan=False)


def test_real_faces_are_blurred_to_the_samples_sharpness_before_they_make_the_floor():
    seen = []

    class Spy(StubJudge):
        def verdicts(self, images):
            seen.append(images)
            return super().verdicts(images)

    noise = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    soft = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    report = measure(Spy(), soft, g1_samples=None, held_out_x1=noise, joint_reference=(noise, np.zeros(6, int)))
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]

    def sharpness(images):
        luma = (images * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
        return torch.nn.functional.conv2d(luma, kernel).flatten(1).var(1, unbiased=False).median().item()

    assert sharpness(seen[1]) == pytest.approx(sharpness(soft), rel=0.02)
    assert report["sharpness"] == pytest.approx(sharpness(soft), rel=1e-5)


def test_bad_references_are_named():
    joint = flat(BOTH, BOTH)
    for half in (np.array([0]), np.array([0, 2])):
        with pytest.raises(FaceganError, match="half"):
            measure(StubJudge(), joint, g1_samples=None, held_out_x1=joint, joint_reference=(joint, half))
    with pytest.raises(FaceganError, match="held_out_x1"):
        measure(StubJudge(), joint, g1_samples=None, held_out_x1=joint[:0], joint_reference=(joint, np.zeros(2, int)))


def test_frames_of_the_picture_tell_the_verdict():
    judge = StubJudge()
    samples = flat(BOTH, BALD, BEARD, NONE, UNSURE)
    joint = (flat(BOTH), np.array([0]))
    report = measure(judge, samples, g1_samples=None, held_out_x1=flat(BALD), joint_reference=joint)
    sheet = picture(judge, samples, report, title="five faces")
    assert sheet.mode == "RGB"
    # the frames are the first full-height coloured rectangles: read one pixel inside each frame's corner
    found = [sheet.getpixel((24 + i * 86 + 1, 86 + 40)) for i in range(5)]
    joint, bald, beard, none, unsure = found
    assert len({joint, bald, beard, none}) == 4 and unsure == beard  # one classifier's "bald" is not enough
    assert sheet.getpixel((24 + 4 + 36, 86 + 4 + 36)) == (230, 230, 128)  # the face itself, 0.8 0.8 0.0
    assert picture(judge, samples, report).size == sheet.size


def test_the_picture_survives_a_report_without_limits():
    judge = StubJudge()
    interval = {"rate": None, "low": None, "high": None}
    rates = {"rate": 0.5, "low": 0.1, "high": 0.9}
    report = SimpleNamespace(d={"joint": rates, "floor": 0.9, "ceiling": 0.2, "normalised": interval,
                                "marginal_intervals": {"bald": rates, "beard": rates}, "samples": 1}).d  # fmt: skip
    assert picture(judge, flat(BOTH), report).width > 1000
