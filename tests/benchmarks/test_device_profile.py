"""What the profiler's events say of a GPU: busy time, kernels, and the bytes of the operators that launched them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.device_profile import Activity, OperatorBytes, busy_seconds, collect, top_kernels

ON_HOST, ON_DEVICE = DeviceType.CPU, DeviceType.CUDA


@dataclass
class Event:
    """The part of `torch.autograd._KinetoEvent` that is read."""

    place: DeviceType
    title: str
    start: int
    end: int
    correlation: int = 0
    linked: int = 0
    thread: int = 1
    annotation: bool = False

    def device_type(self) -> DeviceType:
        return self.place

    def name(self) -> str:
        return self.title

    def start_ns(self) -> int:
        return self.start

    def end_ns(self) -> int:
        return self.end

    def correlation_id(self) -> int:
        return self.correlation

    def linked_correlation_id(self) -> int:
        return self.linked

    def start_thread_id(self) -> int:
        return self.thread

    def is_user_annotation(self) -> bool:
        return self.annotation


def test_the_real_event_has_what_is_read() -> None:
    methods = {name for name in vars(Event) if not name.startswith("_")} - set(Event.__dataclass_fields__)
    assert methods and all(hasattr(torch.autograd._KinetoEvent, name) for name in methods)


def test_a_kernel_belongs_to_the_outermost_counted_operator_around_its_launch() -> None:
    events = [
        Event(ON_HOST, "aten::linear", 0, 100, correlation=1),
        Event(ON_HOST, "facegan::adain", 10, 90, correlation=2),
        Event(ON_HOST, "aten::sum", 20, 30, correlation=3),
        Event(ON_HOST, "aten::sum", 200, 210, correlation=4),
        Event(ON_HOST, "aten::mul", 15, 25, correlation=5, thread=2),  # at the same time on another thread
        Event(ON_DEVICE, "reduce", 300, 310, linked=3),
        Event(ON_DEVICE, "reduce", 320, 330, linked=4),
        Event(ON_DEVICE, "multiply", 340, 350, linked=5),
        Event(ON_DEVICE, "unknown", 360, 370, linked=99),
        Event(ON_DEVICE, "Optimizer.step", 0, 1000, annotation=True),
    ]
    found = collect(events, frozenset({"facegan::adain", "aten::sum"}))
    assert [(activity.name, activity.op) for activity in found] == [
        ("reduce", "facegan::adain"), ("reduce", "aten::sum"), ("multiply", "aten::mul"), ("unknown", ""),
    ]  # fmt: skip


def test_busy_time_counts_overlap_once() -> None:
    spans = [(0, 10), (5, 20), (6, 8), (30, 40), (40, 41)]
    assert busy_seconds([Activity("kernel", "", *span) for span in spans]) == pytest.approx(31e-9)
    assert busy_seconds([]) == 0


def test_kernels_are_weighted_by_how_often_their_kind_of_step_comes() -> None:
    plain = [Activity("copy", "aten::copy_", 0, 1000), Activity("copy", "aten::copy_", 2000, 3000), Activity("gemm", "aten::mm", 0, 4000)]
    lazy = [Activity("gemm", "aten::mm", 0, 8000)]
    table = top_kernels([(0.75, plain, {"aten::copy_": 6000}), (0.25, lazy, {})], copy_gb_s=10.0)
    gemm, copy = table
    assert (gemm["name"], gemm["calls"], gemm["copy_share"]) == ("gemm", 1.0, None)
    assert gemm["seconds"] == pytest.approx(0.75 * 4e-6 + 0.25 * 8e-6)
    assert (copy["op"], copy["calls"]) == ("aten::copy_", 1.5)
    assert copy["share"] == pytest.approx(1.5 / 6.5)
    assert copy["copy_share"] == pytest.approx(6000 / 2e-6 / 1e10)  # 3 GB/s
    assert len(top_kernels([(1.0, plain, {})], 10.0, most=1)) == 1


def test_bytes_of_operators_are_arguments_and_results_and_views_have_none() -> None:
    x, y = torch.ones(10, 4, requires_grad=True), torch.ones(4)
    with OperatorBytes() as counting:
        (x * y).view(40).sum().backward()
    assert counting.bytes["aten::mul"] >= (40 + 4 + 40) * 4  # the backward multiplies too
    assert counting.bytes["aten::sum"] == (40 + 1) * 4
    assert "aten::view" not in counting.bytes and "aten::expand" not in counting.bytes
