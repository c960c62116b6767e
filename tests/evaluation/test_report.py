from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facegan.evaluation.report import measure, picture


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


def joint(*images):
    return StubJudge().verdicts(flat(*images))[:, -1]


def report_on(*samples, floors=(NONE,), ceiling=(BOTH,)):
    return measure(StubJudge(), StubJudge().verdicts(flat(*samples)), 0.25, floors={"blurred": joint(*floors)}, ceiling=joint(*ceiling))


def test_measure_puts_every_part_in_its_place():
    samples = StubJudge().verdicts(flat(BOTH, BOTH, UNSURE, BALD, BEARD, NONE, NONE, NONE))
    floors = {"blurred": joint(BALD, NONE), "phase1": joint(BALD, BALD, BALD, UNSURE)}
    report = measure(StubJudge(), samples, 0.25, floors=floors, ceiling=np.array([1.0, 0, 1, 1]))
    # UNSURE is joint to classifier 0 alone
    assert report["joint"]["rate"] == pytest.approx(2.5 / 8)
    assert report["marginals"] == {"bald": pytest.approx(3.5 / 8), "beard": pytest.approx(4 / 8)}
    for name, interval in report["marginal_intervals"].items():
        assert interval["low"] < interval["rate"] == report["marginals"][name] < interval["high"]
    assert report["ceiling"] == pytest.approx(3 / 4)
    assert report["floors"] == {"phase1": pytest.approx(0.5 / 4), "blurred": 0.0}
    assert report["floor"] == pytest.approx(0.125)
    assert report["normalised"]["rate"] == pytest.approx((2.5 / 8 - 0.125) / (0.75 - 0.125))
    assert report["samples"] == 8 and report["judge"] == {"seed": 1} and report["sharpness"] == 0.25
    json.dumps(report, allow_nan=False)


def test_without_a_span_nothing_can_be_said():
    report = report_on(BOTH, NONE, floors=(BOTH, NONE), ceiling=(BOTH, NONE))
    assert report["floors"] == {"blurred": 0.5}
    assert report["normalised"] == {"rate": None, "low": None, "high": None}
    json.dumps(report, allow_nan=False)


def test_frames_of_the_picture_tell_the_verdict():
    judge = StubJudge()
    samples = flat(BOTH, BALD, BEARD, NONE, UNSURE)
    report = report_on(BOTH, BALD, BEARD, NONE, UNSURE)
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
