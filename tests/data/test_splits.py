"""Splits: disjoint, complete, one person on one side, indifferent to the order of rows, near the sizes asked for."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan.data.attributes import Groups, partition, resolve
from facegan.data.splits import holdout, split
from facegan.data.table import AttributeTable
from facegan.errors import FaceganError

people = st.lists(st.integers(0, 12).map(lambda i: f"person {i}"), min_size=1, max_size=60)


def _groups(rng: np.random.Generator, n: int) -> Groups:
    values = (rng.random((n, 2)) < (0.3, 0.5)).astype(np.float32)
    table = AttributeTable(tuple(map(str, range(n))), ("a", "b"), values)
    return partition(table, resolve("a,b", table))


@settings(deadline=None)
@given(people, st.integers(0, 99), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_holdout_properties(identities: list[str], seed: int, random: Random, fraction: float) -> None:
    n = len(identities)
    index = np.arange(n)[:: 1 + seed % 2]
    rest, held = holdout(identities, index, fraction, seed, "test")
    assert sorted([*rest, *held]) == sorted(index)
    assert not {identities[i] for i in rest} & {identities[i] for i in held}
    if fraction in (0.0, 1.0):
        assert len(held) == fraction * len(index)
    largest = max(identities.count(person) for person in identities)
    assert abs(len(held) - fraction * len(index)) <= largest

    order = list(range(n))
    random.shuffle(order)
    position = {old: new for new, old in enumerate(order)}
    shuffled = [identities[i] for i in order]
    _, held_again = holdout(shuffled, np.array([position[i] for i in index], np.int64), fraction, seed, "test")
    assert {order[i] for i in held_again} == set(held.tolist())


def test_split_is_disjoint_pure_and_balanced_in_every_group() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    identities = [f"p{i}" for i in rng.integers(0, 400, n)]
    groups = _groups(rng, n)
    parts = split(identities, groups, seed=3)
    assert sorted([*parts.train, *parts.judge]) == groups.usable.tolist()
    assert sorted([*parts.joint_halves[0], *parts.joint_halves[1]]) == groups.joint.tolist()
    for one, other in ((parts.train, parts.judge), parts.joint_halves):
        assert not {identities[i] for i in one} & {identities[i] for i in other}
    for index in (*groups.only, groups.usable):
        assert abs(np.isin(index, parts.judge).mean() - 0.25) < 0.03
    assert abs(len(parts.joint_halves[0]) - len(parts.joint_halves[1])) <= 8


@pytest.mark.parametrize("seed", range(5))
def test_the_judge_gets_its_quarter_of_a_rare_attribute(seed: int) -> None:
    """Sixteen persons of 500 carry it: chance alone would give the judge anything from none to ten of them."""
    values = np.zeros((1000, 2), np.float32)
    values[:32, 0] = 1
    values[100:300, 1] = 1
    table = AttributeTable(tuple(map(str, range(1000))), ("a", "b"), values)
    groups = partition(table, resolve("a,b", table))
    judge = split([str(i // 2) for i in range(1000)], groups, seed).judge
    assert [int(np.isin(index, judge).sum()) for index in groups.only] == [8, 50]
    assert len(judge) == 250


def test_seed_and_purpose_draw_anew() -> None:
    identities = [str(i) for i in range(200)]
    index = np.arange(200)
    draws = {tuple(holdout(identities, index, 0.5, seed, purpose)[1]) for seed in (0, 1) for purpose in ("a", "b")}
    assert len(draws) == 4
    assert all(len(draw) == 100 for draw in draws)


def test_known_draw_stays_the_same_on_every_machine() -> None:
    """A change of the hash would silently move images between the generator and its judge."""
    from hashlib import sha256

    names = ["ann", "bob", "cem", "dag"]
    first = min(names, key=lambda name: sha256(f"7\0judge\0{name}".encode()).hexdigest())
    _, held = holdout(names, np.arange(4), 0.25, 7, "judge")
    assert [names[i] for i in held] == [first]


def test_empty_index_and_bad_fraction() -> None:
    rest, held = holdout(["a"], np.array([], np.int64), 0.5, 0, "x")
    assert len(rest) == len(held) == 0
    with pytest.raises(FaceganError, match="fraction"):
        holdout(["a"], np.arange(1), 1.5, 0, "x")
