"""Which registered operators the benchmarks' cases call, with which arguments: nothing about a kernel is written down twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.cases import Case
from benchmarks.kernel_check.steps import run
from facegan.warmup.launches import Launch, launcher, recorded

__all__ = ["Launch", "launcher", "launches"]


def launches(cases: Iterable[Case]) -> list[Launch]:
    """The distinct calls that the steps of `cases` make, without computing anything; a layer with a choice of algorithms runs all."""
    found: dict[tuple[Any, ...], Launch] = {}
    for case in cases:
        for launch in recorded(lambda case=case: run(case, "meta"), str(case)):  # type: ignore[misc]
            found.setdefault(launch.key, launch)
    return list(found.values())
