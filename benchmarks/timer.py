"""The clocks of the benchmarks, in the form that pytest-benchmark asks for: called once before and once after what is timed."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]


class CudaClock:
    """Seconds on the GPU between its two calls: the first returns 0, the second what has passed since.

    The first call overwrites the L2 cache, so that every round reads its inputs from memory as a training step does; while the
    GPU is at it, the host runs ahead and enqueues, so that launches are not counted unless they are longer than the kernels.
    """

    FLUSH_BYTES = 256 << 20  # several times any L2 (H100: 50 MB, B200: 126 MB)

    def __init__(self, device: torch.device | str = "cuda") -> None:
        self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.scratch = torch.empty(self.FLUSH_BYTES, dtype=torch.int8, device=device)
        self.running = False

    def __call__(self) -> float:
        self.running = not self.running
        if self.running:
            self.scratch.zero_()
            self.start.record()
            return 0.0
        self.end.record()
        self.end.synchronize()
        return self.start.elapsed_time(self.end) / 1000


_clocks: dict[str, Clock] = {"cpu": time.perf_counter}


def clock(device: str) -> Clock:
    """The clock of "cpu" or "cuda", stopped; the same object each time, as pytest-benchmark is told of it at collection."""
    if device not in _clocks:
        _clocks[device] = CudaClock(device)
    ticks = _clocks[device]
    if isinstance(ticks, CudaClock):
        ticks.running = False  # a call that failed between the two ticks left it on
    return ticks


def seconds(function: Callable[[], object], ticks: Clock) -> float:
    """One timed call, as pytest-benchmark times one."""
    start = ticks()
    function()
    return ticks() - start
