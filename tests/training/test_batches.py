"""Randomness, batches and the running average: functions of the step, whatever the number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facegan import randomness
from facegan.pixels import to_float, to_uint8
from facegan.randomness import Randomness, Shard, generator, permuted, scattered
from facegan.training.batches import DataClock, RealBatches
from facegan.training.ema import Average

CPU = torch.device("cpu")


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_shards_together_are_the_batch_of_one_process(world: int) -> None:
    for draw in ("normal", "uniform", "noise"):
        whole = getattr(Randomness(4, Shard(), CPU), draw)("z", 31, (12, 5))
        parts = [getattr(Randomness(4, Shard(rank, world), CPU), draw)("z", 31, (12, 5)) for rank in range(world)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_noise_is_normal_and_a_function_of_seed_stream_step_and_row() -> None:
    random = Randomness(4, Shard(), CPU)
    noise = random.noise("n", 3, (20, 3, 64, 64))
    assert noise.mean().abs() < 0.01 and abs(noise.std() - 1) < 0.01
    rows = {row.numpy().tobytes() for row in noise}
    assert len(rows) == 20 and torch.equal(noise, random.noise("n", 3, (20, 3, 64, 64)))
    for other in (random.noise("n", 4, (20, 3, 64, 64)), random.noise("m", 3, (20, 3, 64, 64)),
                  Randomness(5, Shard(), CPU).noise("n", 3, (20, 3, 64, 64))):  # fmt: skip
        assert not rows & {row.numpy().tobytes() for row in other}


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide over 3 processes"):
        Shard(0, 3).of(np.zeros(8))


def test_streams_steps_and_seeds_differ_and_repeat() -> None:
    keys = [(seed, stream, step) for seed in (0, 1) for stream in ("a", "b") for step in (0, 1, 2)]
    draws = {key: generator(*key).random(64) for key in keys}
    assert len({values.tobytes() for values in draws.values()}) == len(keys)
    assert all(np.array_equal(generator(*key).random(64), values) for key, values in draws.items())
    # a long draw of one step does not run into the next step's
    assert not np.isin(generator(0, "a", 0).random(100_000), generator(0, "a", 1).random(1000)).any()


@pytest.mark.parametrize(("size", "count"), [(7, 3), (7, 7), (5, 12), (1, 4)])
def test_a_walk_visits_each_item_once_a_pass_in_changing_order(size: int, count: int) -> None:
    walk = np.concatenate([permuted(3, "x", step * count, count, size) for step in range(6 * size)])
    passes = walk[: len(walk) // size * size].reshape(-1, size)
    assert (np.sort(passes, axis=1) == np.arange(size)).all()
    assert size == 1 or len({tuple(row) for row in passes}) > len(passes) // 2
    # the position is a function of the start alone, not of the slices by which one came there
    assert np.array_equal(permuted(3, "x", 0, len(walk), size), walk)


def test_walks_of_up_to_65536_items_are_the_permutations_that_they_always_were() -> None:
    for size in (13_944, 1 << 16):
        whole = generator(5, "phase1/reals/permutation", 2).permutation(size)
        assert np.array_equal(permuted(5, "phase1/reals", 2 * size + 17, 64, size), whole[17 : 17 + 64])


@pytest.mark.parametrize("size", [65_537, 99_991, 100_000, 2**17, 2**17 + 1])
def test_longer_walks_visit_each_item_once_a_pass_too(size: int) -> None:
    passes = permuted(3, "x", 0, 2 * size, size).reshape(2, size)
    assert (np.sort(passes, axis=1) == np.arange(size)).all()
    assert (passes[0] == passes[1]).sum() < 12  # as chance has it: 1 on average
    assert np.array_equal(permuted(3, "x", size - 5, 10, size), passes.ravel()[size - 5 : size + 5])
    assert not np.array_equal(permuted(4, "x", 0, 50, size), passes[0, :50]) and not np.array_equal(
        permuted(3, "y", 0, 50, size), passes[0, :50]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 17, 30])
def test_the_bijection_holds_at_any_size(size: int) -> None:
    for seed in range(20):
        keys = generator(seed, "keys").integers(1 << 64, size=8, dtype=np.uint64)
        assert sorted(scattered(np.arange(size), size, keys)) == list(range(size))


def test_longer_walks_are_uniform() -> None:
    """Where items of each fortieth of the walk lie: chi-square with 39 * 39 degrees of freedom, within four deviations; and steps."""
    size, times = 70_000, 12
    counts = np.zeros((40, 40))
    for seed in range(times):
        walk = permuted(seed, "u", 0, size, size)
        np.add.at(counts, (np.arange(size) * 40 // size, walk * 40 // size), 1)
    expected = times * size / 1600
    chi, freedom = ((counts - expected) ** 2 / expected).sum(), 39 * 39
    assert abs(chi - freedom) < 4 * (2 * freedom) ** 0.5
    assert abs(np.corrcoef(walk[1:], walk[:-1])[0, 1]) < 4 / size**0.5
    # Of n steps drawn at random from n differences 1 - 1/e occur.
    assert abs(len(np.unique(np.diff(walk) % size)) / size - (1 - np.exp(-1))) < 0.01


def test_a_batch_of_a_long_walk_costs_what_its_images_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    mixed = randomness._mixed
    monkeypatch.setattr(randomness, "_mixed", lambda x: sent.append(len(x)) or mixed(x))
    monkeypatch.setattr(randomness, "_order", None)  # no whole order is drawn
    for size in (100_000, 10**6, 10**9):
        sent.clear()
        walk = permuted(0, "x", 3 * size // 2, 32, size)
        assert len(set(walk.tolist())) == 32 and walk.min() >= 0 and walk.max() < size
        assert sum(sent) <= 8 * (32 + 2)  # eight rounds each, of hardly any more than once


def images(count: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)


def test_real_batches_walk_over_their_subset_and_flip_half() -> None:
    source, index = images(), np.array([1, 4, 8, 9, 2])
    batches = RealBatches(source, index, "reals", Randomness(0, Shard(), CPU), DataClock())
    plain = {source[i].tobytes(): i for i in index}
    mirrored = {np.ascontiguousarray(source[i, :, :, ::-1]).tobytes(): i for i in index}
    seen, flips = [], 0
    for step in range(40):
        for image in batches(step, 5):
            key = image.tobytes()
            flips += key in mirrored
            seen.append({**plain, **mirrored}[key])
    assert all(sorted(seen[i : i + 5]) == sorted(index) for i in range(0, 200, 5))
    assert 70 < flips < 130  # 200 fair coins
    assert np.array_equal(batches(3, 5), batches(3, 5)) and not np.array_equal(batches(3, 5), batches(4, 5))


def test_real_batches_of_two_processes_are_the_halves_of_one() -> None:
    whole, *parts = (
        RealBatches(images(), np.arange(10), "reals", Randomness(0, shard, CPU), DataClock())(7, 6)
        for shard in (Shard(), Shard(0, 2), Shard(1, 2))
    )
    assert np.array_equal(np.concatenate(parts), whole) and whole.dtype == np.uint8
    assert to_float(whole).is_contiguous(memory_format=torch.channels_last)


def test_bytes_survive_the_way_to_floats_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    values = to_float(every)
    assert values.min() == -1 and values.max() == 1
    assert np.array_equal(to_uint8(values).numpy(), every)
    assert to_uint8(torch.tensor([[[[-7.0, 7.0]]]])).flatten().tolist() == [0, 255]


def test_running_average_in_closed_form() -> None:
    """Constant weights w after a start at w0: w + (w0 - w) * product of the betas, beta = 0.5^(batch / half-life)."""
    network = torch.nn.Linear(2, 1).double()
    network.register_buffer("count", torch.zeros(1))
    with torch.no_grad():
        network.weight.fill_(3.0)
    average, batch, half_life = Average(network, 160.0), 32, 160.0
    with torch.no_grad():
        network.weight.fill_(-1.0)
        network.count.fill_(5.0)
    left = 1.0
    for step in range(1, 120):
        average.update(torch.from_numpy(average.weight(batch, step * batch)))
        left *= 0.5 ** (batch / min(half_life, 0.1 * step * batch))
        assert average.network.weight.flatten().tolist() == pytest.approx([-1 + 4 * left] * 2, rel=1e-12)
    assert average.network.count.item() == 5.0 and not average.network.weight.requires_grad
    assert network.weight.requires_grad and network.weight[0, 0] == -1
