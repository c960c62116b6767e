"""A training's kernels are known beforehand, compiled in processes of their own, and found by the launch.

Compilers run in processes of their own, as Triton's interpreter is on for the whole of this one. No GPU is needed: Triton is told
that it stands before one, and a launch stops short of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from facegan.methods.a.config import MethodAConfig
from facegan.methods.b.config import MethodBConfig

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("triton")


def run(folder: Path, script: str) -> Any:
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "FACEGAN_CACHE": str(folder / "facegan"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    for name in ("FACEGAN_AUTOTUNE", "FACEGAN_ALGORITHM", "FACEGAN_BACKEND"):
        environment.pop(name, None)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]), ran.stderr


PRETENDED = """
import logging
logging.basicConfig(level=logging.INFO)
import json, sys
from unittest import mock
import torch
from triton.compiler import ASTSource, CompiledKernel
from facegan import backend, warmup
from facegan.ops import modulated_conv2d
from facegan.methods.b.config import MethodBConfig
from facegan.warmup.kernels import compiling_for, missing, specialisations
from facegan.warmup.launches import launcher, recorded

GPU = torch.device("cuda", 0)
mock.patch.object(torch.cuda, "get_device_capability", lambda _: (9, 0)).start()
mock.patch.object(torch.cuda, "get_device_name", lambda _: "Pretended GPU").start()
mock.patch.object(backend, "unavailable", lambda *_: None).start()

def layer():
    x = torch.empty(2, 16, 8, 8, device="meta", requires_grad=True)
    modulated_conv2d(x, torch.empty(16, 16, 3, 3, device="meta"), x[:, :, 0, 0], padding=1, act="lrelu").sum().backward()
"""

LAUNCHED = (
    PRETENDED
    + """
calls = recorded(layer)
before = missing(specialisations(calls, 90))
compiled = warmup.compile_kernels(calls, GPU, processes=2)
again = warmup.compile_kernels(calls, GPU)
on_another = missing(specialisations(calls, 80))

launched = []
def refuse(*_, **__):
    raise AssertionError("compiled anew")
with compiling_for(90), mock.patch.object(ASTSource, "make_ir", refuse), mock.patch.object(CompiledKernel, "_init_handles", lambda _: None):
    with mock.patch.object(CompiledKernel, "run", property(lambda kernel: lambda *_: launched.append(kernel.metadata.name))):
        for call in calls:
            if launcher(call.operator):
                launcher(call.operator)(*call.arguments)
print(json.dumps([len(before), compiled, again, len(on_another), sorted(set(launched)), sorted({one.name for one in before})]))
"""
)


def test_a_launch_finds_what_was_compiled_before(tmp_path):
    (missing, compiled, again, on_another, launched, names), log = run(tmp_path, LAUNCHED)
    assert missing == compiled == on_another > 2
    assert again == 0
    assert launched == names
    assert f"compiling {compiled} kernels for Pretended GPU (once; kept in {tmp_path / 'triton'})" in log


PREPARED = (
    PRETENDED
    + """
config = MethodBConfig(out="a", resolution=16, preset="tiny", batch=8, phase2_epochs=0)
needed = mock.Mock(side_effect=warmup.needed_by)
warmup.needed_by = needed
counts = [warmup.prepare(config, GPU, progress=False)]
import dataclasses
for changed in (dict(), dict(out="b", seed=7), dict(mixed_precision="bf16")):
    counts.append(warmup.prepare(dataclasses.replace(config, **changed), GPU, progress=False))
with backend.use_backend("native"):
    counts.append(warmup.prepare(config, GPU))
counts.append(warmup.prepare(config, torch.device("cpu")))
print(json.dumps([counts, needed.call_count]))
"""
)


def test_what_a_configuration_needs_is_remembered(tmp_path):
    (counts, asked), log = run(tmp_path, PREPARED)
    assert counts[0] > 10 and counts[1:3] == [0, 0]  # the same again, and under another name
    assert counts[3] > 0  # other arithmetic, other kernels
    assert counts[4:] == [0, 0]
    assert asked == 2
    assert "compiling" not in log


FAILING = (
    PRETENDED
    + """
from facegan.warmup.compiler import compile_in_processes
from facegan.warmup.kernels import Specialisation
good = missing(specialisations(recorded(layer), 90))[0]
bad = Specialisation(good.module, good.name, 90, good.data.replace('"num_warps": ', '"num_warps": 3'))
print(json.dumps(sorted(compile_in_processes([bad, good], 2))))
"""
)


def test_a_kernel_that_does_not_compile_is_said(tmp_path):
    ((first, reason), (second, fine)), _ = run(tmp_path, FAILING)
    assert (first, second, fine) == (0, 1, None)
    assert reason


CONFIGURATIONS = [
    MethodBConfig(out="x", method="b", resolution=16, preset="tiny", batch=8),
    MethodBConfig(
        out="x", method="b", resolution=16, preset="tiny", batch=8, mixed_precision="bf16", architecture="resnet", conditional=True
    ),
    MethodBConfig(out="x", method="b", resolution=32, preset="tiny", batch=8, growing=8, architecture="stylegan1", augment="none"),
    MethodBConfig(out="x", method="b", resolution=16, preset="tiny", batch=8, noise="concat", accumulate=2, r1_gamma=0.0),
    MethodBConfig(out="x", method="b", resolution=16, preset="narrow", batch=8, noise="none", d_architecture="orig", share_fakes=True),
    MethodAConfig(out="x", resolution=16, batch=8, width=0.25),
    MethodAConfig(out="x", resolution=16, batch=8, width=0.25, mixed_precision="bf16", merge="regional", switch_epoch=1, conditional=True),
    MethodAConfig(out="x", resolution=16, batch=8, width=0.25, merge="image", switch_epoch=1, modulate=False, grow=False),
]


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: f"{config.method}{CONFIGURATIONS.index(config)}")
def test_steps_call_the_same_operators_on_numbers(config):
    """What is recorded on `meta` tensors is what the same steps call on a CPU, in the same dtypes and shapes."""
    from facegan import backend
    from facegan.warmup import needed_by
    from facegan.warmup.launches import _Caught
    from facegan.warmup.steps import steps

    called: set[Any] = set()

    def note(func: Any, args: Any) -> Any:
        shapes = tuple((tuple(a.shape), a.dtype) if isinstance(a, torch.Tensor) else None for a in args)
        called.add((func._schema.name.split("::")[1], shapes))
        return func(*args)

    torch.manual_seed(0)
    with backend.use_backend("native"), _Caught(note):
        for _, step in steps(config, device=torch.device("cpu")):
            step()
    recorded = {
        (one.operator, tuple((tuple(a.shape), a.dtype) if isinstance(a, torch.Tensor) else None for a in one.arguments))
        for one in needed_by(config)
    }
    of_some = {"pointwise", "pointwise_backward", "prepacked_conv2d", "prepacked_demodulation", "modulated_conv2d_fused"}
    of_some.add("conv2d_weight_grad")  # on a GPU cuDNN's
    assert {one for one in called if one[0] not in of_some} <= recorded
    assert {name for name, _ in recorded} >= {"bias_act", "bias_act_backward"}


def test_layers_with_a_choice_are_measured_and_kept(monkeypatch, capsys, tmp_path):
    from facegan import backend
    from facegan.cli import training
    from facegan.errors import FaceganError
    from facegan.ops.modulated_conv2d import measured
    from facegan.warmup import tune

    config = MethodBConfig(out="x", resolution=64, preset="tiny", batch=8, mixed_precision="bf16", phase2_epochs=0, augment="none")
    shapes = tune.choices(config)
    layer = "64, 64], [16, 16, 3, 3], 'torch"
    assert sorted(shape.split(", True")[0] for shape in shapes) == [
        f"([4, 16, {layer}.float32'", f"([8, 16, {layer}.bfloat16'",  # the path length's half batch, and the batch
    ]  # fmt: skip

    with pytest.raises(FaceganError, match="nothing to measure, as Triton's kernels run on CUDA devices"):
        training.run_tune({"method": "b", "resolution": 64})

    asked: list[tuple[Any, str]] = []

    def choose(key: Any, device: Any, candidates: Any) -> str:
        assert measured.measuring() and backend.requested_backend() == "triton"
        asked.append((key, device.type))
        return "fused" if len(key[0]) == 4 else "library"

    def steps(config: Any, device: torch.device) -> Any:
        for key in (([8, 16, 64, 64],), ([8, 16, 64, 64],), ([4],)):
            yield "G", lambda key=key: measured.choose(key, device, {})

    monkeypatch.setattr(tune, "why_not", lambda device: None)
    monkeypatch.setattr(tune, "choices", lambda config: shapes)
    monkeypatch.setattr(measured, "choose", choose)
    monkeypatch.setattr(tune, "steps", steps)
    monkeypatch.setenv("FACEGAN_CACHE", str(tmp_path))
    training.run_tune({"method": "b", "resolution": 64})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["fused", "library", "2"]
    assert str(tmp_path / "algorithms.json") in printed[-1]
    assert len(asked) == 3 and not measured.measuring()
