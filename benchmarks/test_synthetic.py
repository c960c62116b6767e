"""How many faces a second one core paints; at 64 px it should be at least 300."""

from __future__ import annotations

import pytest

from facegan.data.synthetic import render_dataset

FACES = 64


@pytest.mark.benchmark(group="synthetic faces")
@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_render_dataset(benchmark, resolution: int) -> None:
    images, _ = benchmark(render_dataset, FACES, resolution, 0, workers=1)
    benchmark.extra_info["faces_per_second"] = FACES / benchmark.stats.stats.median
    assert images.shape == (FACES, 3, resolution, resolution)
