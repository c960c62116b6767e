"""Every benchmark measures an operator, backend by backend, beside its rivals, alternating in one run.

    pytest benchmarks --benchmark-only                  # what this machine has: a GPU's `check` set, else the `cpu` set
    pytest benchmarks --benchmark-only --results benchmarks/results     # and keep the figures, each as soon as it is measured
    pytest benchmarks --benchmark-only --cases full     # the whole grid, hours
    pytest benchmarks --benchmark-only --peer-nvidia ~/stylegan3        # NVIDIA's operators from your own clone as a rival

Rivals: `eager`, the reference backend; `compiled`, the same under torch.compile; `peer`; for whole networks `grouped`, their form
with weights of every sample's own; and what nothing of this kind can beat: `copy`, a copy of as many bytes as the operator must
move, or for convolutions `library`, the plain convolution without anything around it. A test is named test_<operator>; a case that
it asks for by `case` brings shape, dtype, layout and order of gradient.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # pytest's importlib mode leaves the folder of the package `benchmarks` out

from benchmarks import cases, contest, plan, record, timer
from benchmarks.budget import Budget
from benchmarks.cases import Case
from benchmarks.contest import Function, Work
from benchmarks.peer import Peer, peer_dtype
from facegan import backend as backends
from facegan.memory import keep_memory


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("facegan benchmarks")
    group.addoption("--cases", choices=list(cases.SETS), help="default: check with a CUDA GPU, else cpu")
    group.addoption("--peer-nvidia", metavar="PATH", help="your clone of NVlabs/stylegan3: its operators become a rival")
    group.addoption("--results", metavar="DIR", help="write the figures into DIR, one JSON per machine, whole after every row")
    group.addoption("--budget", type=float, default=float("inf"), metavar="SECONDS", help="skip what is not expected to end within this")
    group.addoption("--only", metavar="PATTERN", help="of the cases only those that match, by names as `gpu_check.py --plan` has them")
    group.addoption("--groups", metavar="A,B", help=f"only cases of these groups: {', '.join(plan.GROUPS)}")
    group.addoption("--first", choices=plan.GROUPS, help="the group to begin with")


def chosen_set(config: pytest.Config) -> str:
    return config.getoption("--cases") or ("check" if torch.cuda.is_available() else "cpu")


def pytest_configure(config: pytest.Config) -> None:
    if device_of(config) == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError(f"--cases {chosen_set(config)} needs a CUDA GPU that PyTorch can see; expected --cases cpu here")
    keep_memory()  # as facegan's commands do: page faults of fresh memory would be half of what is measured
    config.stash[BUDGET], config.stash[ROWS] = Budget(config.getoption("--budget")), []
    folder = config.getoption("--results")
    config.stash[RESULTS] = record.Results(Path(folder), device_of(config)) if folder else None
    path = config.getoption("--peer-nvidia")
    config.stash[PEER] = Peer(path) if path else None


BUDGET, ROWS, PEER = pytest.StashKey[Budget](), pytest.StashKey[list[record.Row]](), pytest.StashKey[Peer | None]()
RESULTS = pytest.StashKey[record.Results | None]()
MEASURES = pytest.StashKey[plan.Measurement]()  # of a test
OTHER = 10.0  # seconds, as guessed, of a benchmark without a case


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", [device_of(metafunc.config)], scope="session")
    op = metafunc.function.__name__.removeprefix("test_")
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", [case for case in cases.select(chosen_set(metafunc.config)) if case.op == op], ids=str)
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", plan.backends_of(op, device_of(metafunc.config)))


def device_of(config: pytest.Config) -> str:
    return cases.DEVICE[chosen_set(config)]


def measurement_of(item: pytest.Item) -> plan.Measurement:
    """What a test measures; those without a case are a group of their own."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if isinstance(parameters.get("case"), Case) and "backend" in parameters:
        return plan.of_case(parameters["case"], parameters["backend"], device_of(item.config))
    return plan.Measurement("other", item.name, item.name, OTHER)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the order of the set, the most important case first; what is no case last."""
    position = {str(case): index for index, case in enumerate(cases.select(chosen_set(config)))}
    ticks, only, first = timer.clock(device_of(config)), config.getoption("--only"), config.getoption("--first")
    groups = config.getoption("--groups")

    def case_of(item: pytest.Item) -> str:
        return str(item.callspec.params.get("case")) if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""

    for item in items:
        item.stash[MEASURES] = measurement_of(item)
        if "ticks" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.benchmark(timer=ticks, group=case_of(item)))
    kept = [item for item in items if plan.wanted(item.stash[MEASURES].id, only)]
    kept = [item for item in kept if groups is None or item.stash[MEASURES].group in groups.split(",")]
    kept.sort(key=lambda item: (item.stash[MEASURES].group != first, position.get(case_of(item), len(position))))
    chosen = {id(item) for item in kept}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in chosen])
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Nothing starts that would not end within the budget."""
    budget, measures = item.config.stash[BUDGET], item.stash[MEASURES]
    if not budget.allows(measures.kind, measures.guess):
        expected = budget.expected(measures.kind, measures.guess)
        pytest.skip(f"no time: {expected:.0f} s expected of {budget.left:.0f} s left")
    with budget.spending(measures.kind, measures.guess):
        return (yield)


@pytest.fixture
def ticks(device: str) -> timer.Clock:
    """The device's clock."""
    return timer.clock(device)


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Peer | None:
    return request.config.stash[PEER]


@pytest.fixture
def draw(device: str, case: Case) -> Callable[..., Tensor]:
    """Random leaves that want gradients, by default in the case's dtype; the ones with four dimensions in its layout."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype | None = None) -> Tensor:
        x = torch.randn(shape, device=device, dtype=dtype or case.dtype, generator=generator)
        return (x.contiguous(memory_format=case.memory_format) if x.ndim == 4 else x).requires_grad_()

    return draw


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[record.Row], None]:
    """Adds a row to the results, on disk at once."""
    rows, results = request.config.stash[ROWS], request.config.stash[RESULTS]

    def keep(row: record.Row) -> None:
        rows.append(row)
        if results:
            results.add(row)

    return keep


@pytest.fixture
def measure(benchmark: Any, case: Case, backend: str, device: str, ticks: timer.Clock, keep: Any) -> Iterator[Callable[..., None]]:
    """`measure(function, inputs, work)` checks the function against the reference, races it and keeps a row.

    `reference`: what to compare with, by default the function itself on the reference backend; `peer`: the same in NVIDIA's words;
    `library`: a plain convolution and its inputs, in place of the copy; `more`: further rivals, with the same results; `unlike`: with
    results of their own; `compiled`: whether torch.compile is one.
    """
    reason = case.dispatched and backends.unavailable(case.dispatched, backend, device)
    if reason:
        pytest.skip(reason)

    def measure(
        function: Function,
        inputs: Sequence[Tensor],
        work: Work,
        *,
        reference: Function | None = None,
        peer: Function | None = None,
        library: tuple[Function, Sequence[Tensor]] | None = None,
        more: Mapping[str, Function] | None = None,
        unlike: Mapping[str, Function] | None = None,
        compiled: bool = True,
    ) -> None:
        order, plain = case.order, reference or function
        start = time.perf_counter()
        run = contest.runner(contest.served_by(backend, function), inputs, order)
        found = run()
        notes = {"seconds to first call": f"{time.perf_counter() - start:.1f}"}  # tuning, where there is any, included
        truth = contest.truth(plain, inputs, order)
        contest.expect_close(found, truth, case.dtype, order, backend)
        if benchmark.disabled:
            return benchmark(run)
        rivals = contest.eager_rivals(plain, inputs, order)
        if compiled and order in cases.COMPILED_ORDERS:
            contest.add_compiled(rivals, notes, plain, inputs, order)
        for name, other in (more or {}).items():
            rivals[name] = contest.runner(other, inputs, order)
            contest.expect_close(rivals[name](), truth, case.dtype, order, name)
        rivals |= {name: contest.runner(other, inputs, order) for name, other in (unlike or {}).items()}
        if peer:
            theirs = [x.detach().to(peer_dtype(x.dtype)).requires_grad_() for x in inputs]
            rivals["peer"] = contest.runner(peer, theirs, order)
            contest.expect_close(rivals["peer"](), truth, case.dtype, order, "peer")
        count = work.bytes(order)
        if library and order != "double":  # PyTorch's double backward of a convolution is no ceiling
            rivals["library"] = contest.runner(*library, order)
        elif count and not library:
            rivals["copy"] = contest.copying(count, device)
        del found, truth
        times = contest.race(benchmark, run, rivals, ticks, contest.WINDOW[device])
        peaked = {"op": run, **rivals} if device == "cuda" or case.op in cases.NETWORK_OPS else {}
        peaks = {name: contest.peak_bytes(call, device) for name, call in peaked.items()}
        keep(record.row(case, backend, times, count, work.flops(order), peaks, notes))

    def measure_or_skip(*args: Any, **rest: Any) -> None:
        try:
            measure(*args, **rest)
        except torch.OutOfMemoryError:
            pytest.skip(f"{case} and its rivals need more memory than this GPU has")

    yield measure_or_skip
    torch._dynamo.reset()  # one shape, one compilation: nothing is compiled for dynamic shapes
    if device == "cuda":
        torch.cuda.empty_cache()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    from benchmarks.report import lines

    terminalreporter.section("operators beside their rivals")
    for line in lines(rows):
        terminalreporter.write_line(line)
    results = config.stash[RESULTS]
    if results:
        terminalreporter.write_line(f"written: {results.file}")
