"""Forward + backward of an op next to a plain PyTorch form of it, alternating in one run, so that both see the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SHAPES = {"cpu": [(32, 64, 16, 16), (32, 32, 32, 32)], "cuda": [(16, 128, 128, 128), (16, 64, 256, 256)]}
CASES = [(device, shape) for device in DEVICES for shape in SHAPES[device]]
FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"device", "shape", "memory_format"} <= set(metafunc.fixturenames):
        cases = [
            pytest.param(device, shape, memory_format, id=f"{device}-{'x'.join(map(str, shape))}-{name}")
            for device, shape in CASES
            for name, memory_format in FORMATS.items()
        ]
        metafunc.parametrize("device,shape,memory_format", cases)


@pytest.fixture
def draw(device: str, memory_format: torch.memory_format) -> Callable[..., Tensor]:
    """Random leaves that want gradients; the ones with four dimensions in the case's memory format."""

    def draw(*shape: int) -> Tensor:
        x = torch.randn(shape, device=device)
        return (x.contiguous(memory_format=memory_format) if x.ndim == 4 else x).requires_grad_()

    return draw


@pytest.fixture
def compare(benchmark: Any, device: str) -> Callable[..., None]:
    """Benchmarks `op(*inputs)` forward + backward; `extra_info["naive / op"]` is the median time of `naive` over that of `op`."""

    def run(function: Callable[..., Tensor], inputs: Sequence[Tensor], cotangent: Tensor) -> None:
        torch.autograd.grad(function(*inputs), inputs, cotangent)
        if device == "cuda":
            torch.cuda.synchronize()

    def compare(op: Callable[..., Tensor], naive: Callable[..., Tensor], *inputs: Tensor) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            y = op(*inputs)
            torch.testing.assert_close(y, naive(*inputs), rtol=1e-3, atol=1e-3)
            cotangent = torch.randn_like(y)
            naive_seconds = []

            def naive_round() -> None:  # setup of each round of the op: not part of its time
                start = time.perf_counter()
                run(naive, inputs, cotangent)
                naive_seconds.append(time.perf_counter() - start)

            benchmark.pedantic(run, args=(op, inputs, cotangent), setup=naive_round, rounds=30, warmup_rounds=3)
            if benchmark.stats is not None:
                ratio = statistics.median(naive_seconds[3:]) / benchmark.stats.stats.median
                benchmark.extra_info["naive / op"] = round(ratio, 3)
        finally:
            torch.set_num_threads(threads)

    return compare
