"""The audit's rates, counted by hand with a judge whose verdicts are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facegan.data.table import AttributeTable
from facegan.evaluation.audit import audit, audit_table, label_rates, real_rates

NAN = float("nan")


class StubJudge:
    """Knows `Male` alone: classifier 0 sees it where a logit is above 0, classifier 1 where above 0.5."""

    columns = ("Male",)
    card = {"column_accuracy": {"Male": 0.875}}

    def columns_said(self, logits):
        return np.stack([logits[:, :1].numpy() > 0, logits[:, :1].numpy() > 0.5])


def faces(*logits):
    return torch.tensor(logits).reshape(-1, 1)


@pytest.fixture
def data():
    values = np.array([[1, 0, 1], [1, NAN, 0], [0, 1, 1], [1, NAN, 0]], np.float32)
    return SimpleNamespace(table=AttributeTable(tuple("abcd"), ("Male", "Young", "Bald"), values))


def test_labels_count_where_they_are_known(data):
    assert label_rates(data, np.array([0, 1, 2])) == {"Male": pytest.approx(2 / 3), "Young": 0.5}
    assert label_rates(data, np.array([1, 3])) == {"Male": 1.0, "Young": None}


def test_every_group_beside_the_generated_faces(data):
    halves = [(np.array([0]), faces(0.2)), (np.array([1, 2]), faces(0.2, -0.1))]
    real = real_rates(StubJudge(), data, {"bald only": (np.array([0, 3]), faces(0.7, 0.2))}, halves)
    assert real["bald only"]["Male"] == {"judge": 0.75, "labels": 1.0}
    # half 0 by classifier 1 (no), half 1 by classifier 0 (yes, no)
    assert real["joint"]["Male"] == {"judge": pytest.approx(1 / 3), "labels": pytest.approx(2 / 3)}
    assert real["joint"]["Young"] == {"judge": None, "labels": 0.5}
    table = audit(StubJudge(), real, faces(0.9, 0.9, 0.2, 0.9))
    assert table["Male"]["generated"] == 0.875 and table["Male"]["shift"] == pytest.approx(0.875 - 1 / 3)
    assert table["Male"]["accuracy"] == 0.875 and table["Young"]["accuracy"] is table["Young"]["shift"] is None
    head, male, young, note = audit_table(table).splitlines()
    assert head.split() == ["audit", "bald", "only", "joint", "generated", "shift", "accuracy"]
    assert male.split() == ["Male", "75", "(100)", "33", "(67)", "88", "+54", "88"]
    assert young.split() == ["Young", "?", "(0)", "?", "(50)", "?", "?", "?"] and "labelled" in note


def test_data_without_these_columns_say_so(data):
    bare = SimpleNamespace(table=AttributeTable(("a",), ("Bald",), np.ones((1, 1), np.float32)))
    real = real_rates(StubJudge(), bare, {}, [(np.array([0]), faces(0.2)), (np.array([], np.int64), faces()[:0])])
    table = audit(StubJudge(), real, faces(0.9))
    assert table == {} and "none of Male, Young, Pale_Skin, Smiling" in audit_table(table)


def test_the_judge_tells_a_column_that_it_learnt_beside_the_attributes(world, judge):
    data, _, split = world
    assert judge.columns == ("Top", "Low", "Male") and judge.card["column_accuracy"]["Male"] > 0.9
    rows = split.train[:100]
    images = torch.from_numpy(data.images[rows]).float() / 127.5 - 1
    yes = judge.column_verdicts(images)[:, :, 2]
    truth = data.table.column("Male")[rows] == 1
    assert yes.shape == (2, 100) and (yes == truth).mean() > 0.9
