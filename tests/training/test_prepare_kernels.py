"""Kernels compiled before the first step: a training starts whatever becomes of it, on every process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from facegan import warmup
from facegan.session import prepare_kernels


def test_a_failure_leaves_no_process_waiting(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    met: list[str] = []

    @contextmanager
    def first() -> Iterator[None]:  # as that of `Peers`: what lets the others go comes after the block, and not where it raised
        yield
        met.append("barrier")

    def fail(*_: object, **__: object) -> int:
        raise RuntimeError("no space left for kernels")

    monkeypatch.setattr(warmup, "prepare", fail)
    accelerator = SimpleNamespace(is_local_main_process=True, num_processes=2)
    peers = SimpleNamespace(local_main_first=first)
    groups = SimpleNamespace(attributes=("bald", "beard"))
    with caplog.at_level(logging.WARNING):
        prepare_kernels(SimpleNamespace(accelerator=accelerator, peers=peers, groups=groups, config=None, device=torch.device("cpu")))  # type: ignore[arg-type]
    assert met == ["barrier"]
    assert "no space left for kernels" in caplog.text
