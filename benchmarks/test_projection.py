"""A step of a projection of eight photos beside one of a single photo: together they should cost less than one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.styles.perceptual import DiscriminatorFeatures
from facegan.styles.projection import Projection, Settings

SIZES = {
    "cpu": StyleGAN2Config(resolution=64, z_dim=128, w_dim=128, channel_base=1024, channel_max=96, mapping_layers=4),
    "cuda": StyleGAN2Config(resolution=256),
}
PHOTOS = 8


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def projections(request: pytest.FixtureRequest) -> Iterator[list[Projection]]:
    """One of `PHOTOS` photos and one of a single photo, by the network's own discriminator."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = SIZES[request.param]
    generator, discriminator = (network(config).to(request.param).requires_grad_(False) for network in (Generator, Discriminator))
    photos = torch.rand(PHOTOS, 3, config.resolution, config.resolution, device=request.param) * 2 - 1
    perceptual = DiscriminatorFeatures(discriminator)
    keys = [str(index) for index in range(PHOTOS)]
    yield [Projection(generator, perceptual, photos[:count], keys[:count], Settings()) for count in (PHOTOS, 1)]
    torch.set_num_threads(threads)


def step(projection: Projection) -> float:
    start = time.perf_counter()
    projection.advance()
    if projection.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@pytest.mark.benchmark(group="projection")
def test_projection(benchmark: Any, projections: list[Projection]) -> None:
    """`extra_info["eight / one"]` is the median ratio of two steps taken in turn; `ms` are per photo and step."""
    together, alone = projections
    times: dict[str, list[float]] = {"eight": [], "one": []}
    benchmark.pedantic(
        lambda: times["eight"].append(step(together)), setup=lambda: times["one"].append(step(alone)), rounds=30, warmup_rounds=5
    )
    if benchmark.disabled:
        return
    ratios = [eight / one for eight, one in zip(times["eight"], times["one"], strict=True)]
    benchmark.extra_info["eight / one"] = round(statistics.median(ratios[5:]), 2)
    for name, count in (("eight", PHOTOS), ("one", 1)):
        benchmark.extra_info[f"ms, {name}"] = round(1e3 * statistics.median(times[name][5:]) / count, 2)
