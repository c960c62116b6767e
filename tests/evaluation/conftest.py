"""A world of crude faces that a judge of a few steps learns at once."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facegan.data.attributes import Attribute, partition
from facegan.data.splits import Split
from facegan.data.table import AttributeTable
from facegan.evaluation.judge.judge import train_judge
from facegan.evaluation.judge.network import JudgeConfig

TOP, LOW = Attribute("top", "Top", "!Top", "Top", "Top"), Attribute("low", "Low", "!Low", "Low", "Low")


@pytest.fixture(scope="session")
def tiny():
    return JudgeConfig(steps=40, batch=20, width=4, checks=2, seed=3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny nets gain nothing from more, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def world():
    """Crude stand-in faces of 16 px: attribute `top` is a bright band above, `low` one below; `Male` shows as a dark left edge."""
    draw = np.random.Generator(np.random.Philox(11))
    num = 400
    values = (draw.random((num, 2)) < 0.4).astype(np.float32)
    images = draw.integers(60, 120, (num, 3, 16, 16), dtype=np.uint8)
    images[values[:, 0] == 1, :, 1:6] += 110
    images[values[:, 1] == 1, :, 10:15] += 110
    ids = tuple(f"{i:04d}.png" for i in range(num))
    male = draw.random(num) < 0.3
    images[male, :, :, :4] //= 3
    table = AttributeTable(ids, ("Top", "Low", "Male"), np.concatenate([values, male[:, None].astype(np.float32)], 1))
    data = SimpleNamespace(table=table, images=images, identities=ids, name="bands", skipped=(), fingerprint="bands-1")
    groups = partition(table, (TOP, LOW))
    usable, joint = draw.permutation(groups.usable), draw.permutation(groups.joint)
    half = len(joint) // 2
    split = Split(np.sort(usable[120:]), np.sort(usable[:120]), (np.sort(joint[:half]), np.sort(joint[half:])))
    return data, groups, split


@pytest.fixture(scope="session")
def judge(world, tiny):
    return train_judge(*world, tiny, progress=False)
