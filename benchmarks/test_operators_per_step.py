"""How many operators a training step asks the dispatcher for: what the host has to launch where no graph does it.

`pytest -s` prints the count of each kind of step; forward and backward together, as on a CPU both run in one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facegan.methods.a.phase1 import Phase1
from facegan.methods.b.stage import StyleGAN2Training
from facegan.training.config import from_arguments
from facegan.training.session import accelerator_for, make_context
from facegan.training.stage import Context, Stage

# By method and kind of step: at most so many operators at 64 px, batch 32.
MOST = {("a", "plain"): 960, ("a", "r1"): 1150, ("b", "plain"): 2470, ("b", "path"): 4800, ("b", "path and r1"): 5380}
STEPS = {("a", "plain"): 1, ("a", "r1"): 4, ("b", "plain"): 1, ("b", "path"): 4, ("b", "path and r1"): 16}
STAGES: dict[str, Callable[[Context], Stage]] = {"a": lambda context: Phase1(context, None), "b": StyleGAN2Training}


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[operator.name()] += 1
        return operator(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def stage_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stage]:
    """The stage of a method as its defaults have it, one step done."""
    stages: dict[str, Stage] = {}

    def stage_of(method: str) -> Stage:
        if method not in stages:
            torch.manual_seed(0)
            flags = dict(method=method, data="synthetic", num=240, minimum_images=4, batch=32, resolution=64, cpu=True)
            config = from_arguments({**flags, "out": str(tmp_path_factory.mktemp(method))})
            stages[method] = STAGES[method](make_context(config, accelerator_for(config)))
            stages[method].step(1)
        return stages[method]

    return stage_of


@pytest.mark.parametrize(("method", "kind"), MOST)
def test_operators_per_step(method: str, kind: str, stage_of: Callable[[str], Stage]) -> None:
    stage = stage_of(method)
    with Counted() as counted:
        stage.step(STEPS[method, kind])
    total = sum(counted.calls.values())
    print(f"\nmethod {method}, {kind}: {total} operators; {dict(counted.calls.most_common(12))}")
    assert total <= MOST[method, kind]
