"""The contenders of one measurement, each as a call without arguments, and the race between them.

All contenders of a case run in turn in every round, so that they see the same machine; a speed-up is the median over the rounds
of a rival's time over the operator's beside it.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.timer import Clock, seconds
from facegan.backend import use_backend
from facegan.ops import no_weight_gradients

Run = Callable[[], Sequence[Tensor | None]]
Function = Callable[..., Tensor]

WINDOW = {"cpu": 1.5, "cuda": 0.5}  # seconds of rounds per case
ROUNDS = 5, 40  # at least, at most
# Error allowed in the norm against the reference in float32, of results and of gradients: float32 convolutions may run in TF32, and
# a pre-activation that rounding takes across zero has the other slope.
TOLERANCE = {torch.float32: (2e-3, 2e-2), torch.bfloat16: (2e-2, 6e-2), torch.float16: (2e-2, 6e-2)}


@dataclass(frozen=True)
class Work:
    """What an operator has to do at the least: bytes of inputs read once and results written once, forward, backward and double
    backward (0: not stated), and the operations of the first two."""

    forward: int
    backward: int
    double: int = 0
    flop: tuple[int, int] = (0, 0)

    def bytes(self, order: str) -> int | None:
        return None if order == "double" and not self.double else self._of(order, self.forward, self.backward, self.double)

    def flops(self, order: str) -> int | None:
        return None if order == "double" else self._of(order, *self.flop, 0) or None

    @staticmethod
    def _of(order: str, forward: int, backward: int, double: int) -> int:
        parts = {"fwd": (1, 0, 0), "bwd": (0, 1, 0), "double": (1, 1, 1)}.get(order, (1, 1, 0))
        return sum(part * cost for part, cost in zip(parts, (forward, backward, double), strict=True))


def served_by(backend: str, function: Function) -> Function:
    def call(*inputs: Tensor) -> Tensor:
        with use_backend(backend):
            return function(*inputs)

    return call


def runner(function: Function, inputs: Sequence[Tensor], order: str) -> Run:
    """What `order` computes of `function(*inputs)`, with a fixed random cotangent; see `cases.ORDERS`."""
    if order == "fwd":
        constants = [x.detach() for x in inputs]
        return torch.no_grad()(lambda: (function(*constants),))
    y = function(*inputs)
    cotangent, second = _noise_like(y, 1), _noise_like(inputs[0], 2)
    if order == "bwd":
        return lambda: torch.autograd.grad(y, inputs, cotangent, retain_graph=True)
    if order == "double":
        cotangent.requires_grad_()
        return lambda: penalty(function, inputs, cotangent, second)
    both: Run = lambda: torch.autograd.grad(function(*inputs), inputs, cotangent)  # noqa: E731
    return captured(both) if order == "graph" else both


def _noise_like(x: Tensor, seed: int) -> Tensor:
    """The same numbers for every dtype, up to its rounding."""
    noise = torch.empty_like(x, dtype=torch.float32, requires_grad=False)
    return noise.normal_(generator=torch.Generator(x.device).manual_seed(seed)).to(x.dtype)


def penalty(function: Function, inputs: Sequence[Tensor], cotangent: Tensor, second: Tensor) -> Sequence[Tensor | None]:
    """R1's pattern: the gradient by x, then the gradients of that, also by the cotangent, which the layers above made."""
    y = function(*inputs)
    with no_weight_gradients():
        (dx,) = torch.autograd.grad(y, inputs[:1], cotangent, create_graph=True)
    found = torch.autograd.grad(dx, (cotangent, *inputs), second, allow_unused=True)
    return found


def captured(run: Run) -> Run:
    """`run` as the replay of a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()

    def replay() -> Sequence[Tensor | None]:
        graph.replay()
        return results

    return replay


def eager_rivals(function: Function, inputs: Sequence[Tensor], order: str) -> dict[str, Run]:
    """The reference backend; of a CUDA graph's replay as users have it without graphs, and once more from a graph of its own."""
    eager = served_by("reference", function)
    if order == "graph":
        return {"eager": runner(eager, inputs, "fwd+bwd"), "eager graph": runner(eager, inputs, order)}
    return {"eager": runner(eager, inputs, order)}


def add_compiled(rivals: dict[str, Run], notes: dict[str, str], function: Function, inputs: Sequence[Tensor], order: str) -> None:
    """Adds the reference under torch.compile, or a note why it cannot be had."""
    start = time.perf_counter()
    try:
        compiled = runner(served_by("reference", torch.compile(function, dynamic=False)), inputs, order)
        compiled()
    except Exception as error:  # no compiler, an unsupported GPU: the other rivals are still worth measuring
        notes["compiled"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return
    rivals["compiled"], notes["seconds to compile"] = compiled, f"{time.perf_counter() - start:.1f}"


def copying(count: int, device: str) -> Run:
    """A copy that reads and writes `count` bytes in all."""
    source = torch.ones(count // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: (target.copy_(source),)


def expect_close(found: Sequence[Tensor | None], truth: Sequence[Tensor | None], dtype: torch.dtype, order: str, name: str) -> None:
    """Fails unless the results agree: a fast wrong answer is not measured. None is a gradient of zero."""
    allowed = TOLERANCE[dtype][order != "fwd"]
    for index, (result, expected) in enumerate(zip(found, truth, strict=True)):
        if result is None or expected is None:
            rest = expected if result is None else result
            assert rest is None or not rest.any(), f"{name}, result {index}: zero expected, or found, alone"
            continue
        assert result.shape == expected.shape, f"{name}, result {index}: shape {list(result.shape)}, expected {list(expected.shape)}"
        error = (result.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-12)
        assert error <= allowed, f"{name}, result {index}: relative error {error:.1e}, expected {allowed:.0e} at most"


def truth(function: Function, inputs: Sequence[Tensor], order: str) -> Sequence[Tensor | None]:
    """The reference's results in float32."""
    wide = [x.detach().float().requires_grad_() for x in inputs]
    return runner(served_by("reference", function), wide, "fwd+bwd" if order == "graph" else order)()


def race(benchmark: Any, run: Run, rivals: Mapping[str, Run], ticks: Clock, window: float) -> dict[str, list[float]]:
    """Seconds of each round, of every rival and of `run` itself ("op"), which pytest-benchmark times."""
    for contender in (*rivals.values(), run):
        contender()
    once = sum(seconds(contender, ticks) for contender in (*rivals.values(), run))
    rounds = max(ROUNDS[0], min(ROUNDS[1], int(window / once)))
    times: dict[str, list[float]] = {name: [] for name in rivals}

    def rivals_round() -> None:  # setup of each round: not part of the operator's time
        for name, rival in rivals.items():
            times[name].append(seconds(rival, ticks))

    benchmark.pedantic(run, setup=rivals_round, rounds=rounds)
    return {**times, "op": list(benchmark.stats.stats.data)}


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def peak_bytes(run: Run, device: str) -> int:
    """Memory that one call needs at its peak beyond what was allocated before it, by PyTorch's own account."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = sorted((event.start_ns(), event.nbytes()) for event in profile.profiler.kineto_results.events() if event.name() == "[memory]")
    return max(itertools.accumulate((size for _, size in events), initial=0))
