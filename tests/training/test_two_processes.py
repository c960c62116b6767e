"""Two processes with half a batch each compute what one computes with the whole.

Plain gradient descent takes Adam's place on both sides: it is linear in the gradient, so that rounding stays rounding (Adam
turns the sign of a vanishing gradient into a whole step) and a gradient summed instead of averaged would show. One backend serves
both sides by name: `auto` goes by a map's size, which is half of the whole's here, and backends round differently.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import facegan.ops  # noqa: F401  (registers the operators)
from facegan import backend

SERVED = "native" if backend.unavailable("modulated_conv2d", "native", "cpu") is None else "reference"
VARIANTS: dict[str, dict[str, Any]] = {
    "full": dict(
        pretrain_epochs=2, merge="feature", self_augment=True, self_augment_buffer=16, critics="all", critic_views=2,
        critic_gradient_penalty=0.05, r1_gamma=0.05, r1_every=2, augment="color,translation", ema_images=40.0,
    ),
    # Without replay, whose |G - H| has at the switch, where G is H, a gradient of nothing but the signs of rounding errors.
    "regional": dict(
        discriminators="both", merge="regional", masks="regression", blurry_negatives=False, critics="all", replay=0.0
    ),
    # R1 and path length at every other step, through prepared networks; two parts a batch; a network that grows.
    "styles": dict(method="b", kimg=0.08, r1_gamma=0.5, ada_kimg=0.2, accumulate=2, lr=0.002),
    "growing": dict(method="b", kimg=0.08, conditional=True, growing=8, grow_kimg=0.03, augment="none", lr=0.002),
    "restorer": dict(method="restore", kimg=0.08, r1_gamma=0.5, accumulate=2, lr=0.005),
    "conditional": dict(conditional=True, epochs=0, phase2_epochs=0, d_loss_weights="1,1,0", g_loss_weights="1,0"),
}  # fmt: skip
COMMON = dict(batch=16, images_per_epoch=16, lr=0.02, log_every=1)
COMMON_OF = {"a": dict(phase1_epochs=3, phase2_epochs=3, epochs=4, inherit_lr=1.0), "b": dict(phase2_epochs=3), "restore": {}}
STAGES = {"full": 5, "regional": 4, "conditional": 1, "styles": 3, "growing": 3, "restorer": 1}


def flags_of(variant: str) -> dict[str, Any]:
    flags = VARIANTS[variant]
    return {**COMMON, **COMMON_OF[flags.get("method", "a")], **flags}


WORKER = """
import json, os, sys, torch
from accelerate.state import AcceleratorState, PartialState
from facegan.methods import configured
from facegan.session import run
torch.set_num_threads(1)
torch.optim.Adam = lambda params, lr=0.0, **_: torch.optim.SGD(params, lr=lr)  # a restorer's rates are its groups'
for port, config in json.loads(sys.stdin.read()):
    os.environ["MASTER_PORT"] = str(port)
    run(configured(**config))
    AcceleratorState._reset_state(True)
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def together(configure: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of every variant by two processes (one start for all: importing torch takes its time)."""
    folder = tmp_path_factory.mktemp("two")
    configs = [configure(out=str(folder / name), **flags_of(name)).to_json() for name in VARIANTS]
    task = json.dumps(list(zip(free_ports(len(configs)), configs, strict=True)))
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = []
    for rank in range(2):
        environment = {**os.environ, **shared, "FACEGAN_BACKEND": SERVED, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert process.stdin
        process.stdin.write(task)
        process.stdin.close()
        processes.append(process)
    try:
        codes = [process.wait(timeout=300) for process in processes]
        errors = "\n".join((process.stderr.read() if process.stderr else "")[-3000:] for process in processes)
        assert codes == [0, 0], errors
        yield folder
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_as_one(
    variant: str, together: Path, train: Callable[..., Path], rows: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim, "Adam", lambda params, lr=0.0, **_: torch.optim.SGD(params, lr=lr))
    with backend.use_backend(SERVED):
        one, two = train(**flags_of(variant)), together / variant
    ours, theirs = rows(one), rows(two)
    assert [(row["stage"], row["step"]) for row in ours] == [(row["stage"], row["step"]) for row in theirs]
    assert len({row["stage"] for row in ours}) == STAGES[variant]
    for mine, other in zip(ours, theirs, strict=True):
        where = mine.pop("stage"), other.pop("stage"), mine["step"]
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-4), where
    for file in sorted(one.glob("stages/*/model.safetensors")):
        a, b = load_file(file), load_file(two / file.relative_to(one))
        assert a.keys() == b.keys()
        for name, tensor in a.items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor, b[name], rtol=1e-3, atol=1e-4)
