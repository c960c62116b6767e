"""What a call costs the host: microseconds of every public op on a map of 1 x 4 x 4 x 4, beside the reference in the same run.

Counted is the time of this process on a processor, which other programs on the machine do not lengthen; with one thread, so that
nothing waits for another. On a GPU it is the time to launch, as nothing waits for the results.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from benchmarks import record
from benchmarks.cases import BACKENDS, Case
from facegan import backend as backends
from facegan import ops
from facegan.backend import use_backend

CALLS, ROUNDS, WARM_UP = 20, 25, 5
SHAPE = (1, 4, 4, 4)
# op -> (the call of x [1, 4, 4, 4], weight [4, 4, 3, 3], toRGB's weight [3, 4, 1, 1], styles [1, 4], bias [4] and a filter, its dispatch)
Call = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
OPS: dict[str, tuple[Call, str | None]] = {
    "bias_act": (lambda x, w, rgb, s, b, f: ops.bias_act(x, b), "bias_act"),
    "upfirdn2d": (lambda x, w, rgb, s, b, f: ops.upfirdn2d(x, f, padding=(2, 1, 2, 1)), "upfirdn2d"),
    "upsample2d": (lambda x, w, rgb, s, b, f: ops.upsample2d(x, f), "upfirdn2d"),
    "downsample2d": (lambda x, w, rgb, s, b, f: ops.downsample2d(x, f), "upfirdn2d"),
    "filter2d": (lambda x, w, rgb, s, b, f: ops.filter2d(x, f), "upfirdn2d"),
    "filtered_lrelu": (lambda x, w, rgb, s, b, f: ops.filtered_lrelu(x, f, f, b, 2, 2, 3), "filtered_lrelu"),
    "adain": (lambda x, w, rgb, s, b, f: ops.adain(x, x), "adain"),
    "adain_affine": (lambda x, w, rgb, s, b, f: ops.adain_affine(x, s, s), "adain_affine"),
    "modulated_conv2d": (lambda x, w, rgb, s, b, f: ops.modulated_conv2d(x, w, s, padding=1, bias=b, act="lrelu"), "modulated_conv2d"),
    "modulated_conv2d_up": (
        lambda x, w, rgb, s, b, f: ops.modulated_conv2d(x, w, s, padding=1, up=2, resample_filter=f, bias=b, act="lrelu"),
        "modulated_conv2d",
    ),
    "to_rgb": (lambda x, w, rgb, s, b, f: ops.modulated_conv2d(x, rgb, s, demodulate=False), "modulated_conv2d"),
    "conv2d": (lambda x, w, rgb, s, b, f: ops.conv2d(x, w, padding=1), None),
    "conv2d_bias_act": (lambda x, w, rgb, s, b, f: ops.conv2d_bias_act(x, w, b, padding=1), "bias_act"),
    "conv2d_layer": (lambda x, w, rgb, s, b, f: ops.conv2d_layer(x, w, b, f, down=2, padding=1), "upfirdn2d"),
    "conv2d_resample": (lambda x, w, rgb, s, b, f: ops.conv2d_resample(x, w, f, down=2, padding=1), "upfirdn2d"),
}
SERVED = ("auto", *dict.fromkeys(name for names in BACKENDS.values() for name in names))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def arguments(device: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [SHAPE, (4, 4, 3, 3), (3, 4, 1, 1), (1, 4), (4,)]
    made = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    leaves = [torch.nn.Parameter(t) if t.ndim == 4 and t.shape != SHAPE else t.requires_grad_() for t in made]
    return [*leaves, ops.setup_filter(device=device)]


def reference_of(name: str, call: Call) -> Call:
    """The same call as PyTorch alone serves it."""
    if name != "conv2d":
        return call
    return lambda x, w, rgb, s, b, f: ops.conv2d_ref(x, w, padding=1)


def run_of(call: Call, arguments: list[Tensor], order: str, backend: str) -> Callable[[], None]:
    """CALLS calls on a backend: forward without a graph, with one, or with its backward as well."""
    leaves = arguments[:-1]
    cotangent = torch.ones_like(call(*arguments))  # type: ignore[call-arg]

    def run() -> None:
        with use_backend(backend), torch.set_grad_enabled(order != "fwd"):
            for _ in range(CALLS):
                y = call(*arguments)  # type: ignore[call-arg]
                if order == "fwd+bwd":
                    torch.autograd.grad(y, leaves, cotangent, allow_unused=True)

    return run


@pytest.mark.parametrize("order", ["fwd", "fwd with a graph", "fwd+bwd"])
@pytest.mark.parametrize("served", SERVED)
@pytest.mark.parametrize("name", OPS)
def test_overhead(benchmark, device, arguments, keep, name, served, order):
    call, dispatched = OPS[name]
    if served != "auto" and served not in BACKENDS[device]:
        pytest.skip(f"{served} does not serve {device}")
    if served not in ("auto", *BACKENDS[device][:1]) and dispatched is None:
        pytest.skip("there is one implementation on every device")
    reason = served != "auto" and dispatched and backends.unavailable(dispatched, served, device)
    if reason:
        pytest.skip(reason)
    runs = {"op": run_of(call, arguments, order, served), "eager": run_of(reference_of(name, call), arguments, order, "reference")}
    if benchmark.disabled:
        for run in runs.values():
            run()
        return benchmark(lambda: None)
    times: dict[str, list[float]] = {rival: [] for rival in runs}
    for index in range(WARM_UP + ROUNDS):
        for rival, run in runs.items():
            if device == "cuda":
                torch.cuda.synchronize()  # an empty queue to launch into
            start = time.process_time()
            run()
            if index >= WARM_UP:
                times[rival].append((time.process_time() - start) / CALLS)
    benchmark.pedantic(runs["op"], rounds=1)
    case = Case(f"call_{name}", order, "overhead", *SHAPE[:3], SHAPE[1], "float32", "nchw")
    keep(record.row(case, served, times, notes={"microseconds": f"{1e6 * statistics.median(times['op']):.1f}"}))
