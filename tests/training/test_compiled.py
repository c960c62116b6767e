"""`--compile`: the same training, its networks compiled where no second derivative is taken.

Traced and run operator by operator ("aot_eager"): Inductor's code would take minutes to make, and is PyTorch's to test.
"""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from facegan.training import compiled

needs_compiler = pytest.mark.skipif(compiled.unavailable(torch.device("cpu")) is not None, reason="no C++ compiler")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    "flags",
    [
        dict(phase1_epochs=3, phase2_epochs=0, epochs=0, r1_gamma=0.1, r1_every=3, width=0.1, modulate=False),
        dict(method="b", kimg=0.024, phase2_epochs=0, r1_gamma=0.5, pl_every=3, r1_every=3, preset="tiny", augment="none"),
    ],
    ids=["a", "b"],
)
def test_a_compiled_training_is_the_plain_one_but_for_rounding(flags: dict[str, Any], train: Callable[..., Path], rows: Callable) -> None:
    calls: list[torch.nn.Module] = []
    with pytest.MonkeyPatch.context() as patch:
        compile_ = compiled.compiled
        patch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
        patch.setattr("facegan.training.stage.compiled", lambda network, device: calls.append(network) or compile_(network, device))
        ours = train(compile=True, log_every=1, **flags)
    theirs = train(compile=False, log_every=1, **flags)
    assert len(calls) >= 2  # both networks, each once
    assert len(calls) == len(set(calls))
    for mine, plain in zip(rows(ours), rows(theirs), strict=True):
        where = mine.pop("stage"), plain.pop("stage"), mine["step"]
        assert mine == pytest.approx(plain, rel=1e-2, abs=1e-3), where
    for file in theirs.glob("stages/*/model.safetensors"):
        a, b = load_file(ours / file.relative_to(theirs)), load_file(file)
        assert a.keys() == b.keys()  # the compiled form adds nothing to a name


def test_without_a_compiler_it_is_left_out_with_a_sentence(
    train: Callable[..., Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        train(compile=True, phase1_epochs=1, phase2_epochs=0, epochs=0)
    assert {record.message for record in caplog.records if "compile" in record.message} == {
        "`compile` is left out: torch.compile needs a C++ compiler, and there is none on the path"
    }
    assert compiled.unavailable(torch.device("cpu")) is not None
