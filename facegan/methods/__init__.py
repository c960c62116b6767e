"""Methods by name: each is a plan, the list of stages that a run goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from facegan.methods import a, b, restore
from facegan.training.stage import Context, Stage

Plan = Iterator[tuple[str, Callable[[], Stage]]]
METHODS: dict[str, Callable[[Context], Plan]] = {"a": a.plan, "b": b.plan, "restore": restore.plan}
