"""How many operators a training step asks the dispatcher for: what the host has to launch where no graph does it.

`pytest -s` prints the count of each kind of step; forward and backward together, as on a CPU both run in one thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import record
from benchmarks.cases import Case, stylegan2_channels
from benchmarks.training_step import TrainingStep
from facegan import backend as backends
from facegan.methods import configured
from facegan.methods.a.phase1 import Phase1
from facegan.methods.b.config import PRESETS
from facegan.methods.b.stage import StyleGAN2Training
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.session import accelerator_for, make_context
from facegan.training.stage import Context, Stage

# By method and kind of step: at most so many operators at 64 px, batch 32.
MOST = {("a", "plain"): 750, ("a", "r1"): 950, ("b", "plain"): 1700, ("b", "path"): 3650, ("b", "path and r1"): 4150}
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
            flags = dict(method=method, data="synthetic", num=240, minimum_images=4, batch=32, resolution=64, device="cpu")
            config = configured(**{**flags, "out": str(tmp_path_factory.mktemp(method))})
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


def test_operators_of_stylegan2_256(device: str, keep: Callable[[record.Row], None]) -> None:
    """One G and D step of the published configuration, without penalties; at batch 1, as the number does not go by it."""
    served = "native" if device == "cpu" else backends.PREFERENCE["cuda"][0]
    if reason := backends.unavailable("modulated_conv2d", served, device):
        pytest.skip(reason)
    latent, layers, base, most = PRESETS["paper"][256]
    training = TrainingStep(StyleGAN2Config(256, latent, latent, mapping_layers=layers, channel_base=base, channel_max=most), 1, device)
    with backends.use_backend(served):
        training.step()
        start = time.perf_counter()
        with Counted() as counted:
            training.step()
        seconds = time.perf_counter() - start
    total = sum(counted.calls.values())
    print(f"\nStyleGAN2-256: {total} operators; {dict(counted.calls.most_common(12))}")
    c = stylegan2_channels(base, 256)
    case = Case("operators", "step", "stylegan2-paper", 1, c, 256, c, "float32", "nhwc")
    keep(record.row(case, served, {"op": [seconds]}, operators=total))
    if device == "cpu":
        assert total <= 2000
