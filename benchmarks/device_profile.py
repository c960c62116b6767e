"""What a GPU did during a call, by PyTorch's profiler: how long it was busy, which kernels took the time, and for which operators.

An operator's bytes are counted by a dispatch mode: its tensor arguments read once, its results written once. Over the time of the
kernels that it launched they give a bandwidth, beside which a copy's stands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode

TOP = 12  # kernels told of


@dataclass(frozen=True)
class Activity:
    """A kernel, a copy or a fill on the device; `op` is the operator that launched it, "" where the profiler cannot say."""

    name: str
    op: str
    start: int  # ns
    end: int


class OperatorBytes(TorchDispatchMode):
    """Bytes by operator of all that is dispatched inside, views and bare allocations aside; the backward pass counts too."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_view = any(output.alias_info is not None and not output.alias_info.is_write for output in func._schema.returns)
        if not is_view and "empty" not in func._schema.name:
            self.bytes[func._schema.name] += size([*args, *(kwargs or {}).values()]) + size(result)
        return result


def size(values: Any) -> int:
    """Bytes of all tensors in a value, a list or a tuple; an expanded tensor's memory counts once."""
    if isinstance(values, Tensor):
        return min(values.numel() * values.itemsize, values.untyped_storage().nbytes())
    return sum(size(value) for value in values) if isinstance(values, (list, tuple)) else 0


def activities(call: Callable[[], object], counted: Iterable[str] = ()) -> list[Activity]:
    """Runs `call` and tells what the device did meanwhile, in the order of starting.

    `counted`: names of operators as a dispatch mode sees them; what one of them launches through others counts as its own.
    """
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        call()
        torch.cuda.synchronize()
    return collect(profile.profiler.kineto_results.events(), frozenset(counted))


def collect(events: Iterable[Any], counted: frozenset[str]) -> list[Activity]:
    """The device's activities among a profile's events (those of `torch.autograd._KinetoEvent`)."""
    events = list(events)
    launched_by = operators([event for event in events if event.device_type() == DeviceType.CPU], counted)
    found = [
        Activity(event.name(), launched_by.get(event.linked_correlation_id(), ""), event.start_ns(), event.end_ns())
        for event in events
        if event.device_type() == DeviceType.CUDA and not event.is_user_annotation()
    ]
    return sorted(found, key=lambda activity: activity.start)


def operators(events: Iterable[Any], counted: frozenset[str]) -> dict[int, str]:
    """Correlation id of a host's event -> the outermost counted operator around it on its thread, else its own name."""
    found: dict[int, str] = {}
    around: dict[int, list[tuple[int, str]]] = defaultdict(list)  # thread -> (end, operator) of the events that are open
    for event in sorted(events, key=lambda event: (event.start_ns(), -event.end_ns())):
        open_events = around[event.start_thread_id()]
        while open_events and open_events[-1][0] < event.end_ns():
            open_events.pop()
        outer = open_events[-1][1] if open_events else ""
        operator = outer or (event.name() if event.name() in counted else "")
        open_events.append((event.end_ns(), operator))
        found[event.correlation_id()] = operator or event.name()
    return found


def busy_seconds(found: Sequence[Activity]) -> float:
    """Time in which the device did anything: what overlaps counts once."""
    total = end = 0
    for activity in sorted(found, key=lambda activity: activity.start):
        total += max(0, activity.end - max(activity.start, end))
        end = max(end, activity.end)
    return 1e-9 * total


def weighted(parts: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """The sum of several counts, each times its weight."""
    total: dict[str, float] = defaultdict(float)
    for weight, counts in parts:
        for name, value in counts.items():
            total[name] += weight * value
    return dict(total)


def top_kernels(
    parts: Sequence[tuple[float, Sequence[Activity], Mapping[str, int]]], copy_gb_s: float, most: int = TOP
) -> list[dict[str, Any]]:
    """The kernels that take the most time of a step.

    Args:
        parts: (weight, activities, bytes by operator) of every kind of step; the weights sum to 1.
        copy_gb_s: what a copy reaches.

    Returns:
        name, op, calls and seconds per step, share of all kernels' time, and `copy_share`: the bytes of all calls of its operator
        over the time of all their kernels, as a share of a copy's bandwidth; None where the operator's bytes are not known.
    """
    calls = weighted((weight, Counter(f"{a.name}\n{a.op}" for a in found)) for weight, found, _ in parts)
    seconds = weighted((weight, _seconds(found, lambda a: f"{a.name}\n{a.op}")) for weight, found, _ in parts)
    of_operator = weighted((weight, _seconds(found, lambda a: a.op)) for weight, found, _ in parts)
    moved = weighted((weight, counts) for weight, _, counts in parts)
    total = sum(seconds.values())
    table = []
    for key in sorted(seconds, key=seconds.__getitem__, reverse=True)[:most]:
        name, op = key.split("\n")
        reached = moved[op] / of_operator[op] / (1e9 * copy_gb_s) if moved.get(op) else None
        table.append(dict(name=name, op=op, calls=calls[key], seconds=seconds[key], share=seconds[key] / total, copy_share=reached))
    return table


def _seconds(found: Iterable[Activity], key: Callable[[Activity], str]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for activity in found:
        total[key(activity)] += 1e-9 * (activity.end - activity.start)
    return total
