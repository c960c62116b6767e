"""Two gloo processes measure what one measures, and only one of them writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import facegan
from facegan.checkpoints.trained import TrainedRun
from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces
from facegan.data.splits import split
from facegan.evaluation import processes
from facegan.evaluation.evaluator import Evaluator
from facegan.evaluation.judge.judge import load_or_train
from facegan.evaluation.judge.network import JudgeConfig
from facegan.evaluation.processes import distributed_map

SAMPLES = 71  # not a multiple of anything
OWN = {"seconds", "command", "machine"}
ROOT = Path(__file__).parents[2]


def test_one_process_goes_its_plain_way_with_a_bar_or_without() -> None:
    rows, state = torch.arange(200.0), torch.random.get_rng_state()
    for what in ("", "squares"):
        assert torch.equal(distributed_map(torch.square, rows, what), rows.square())
        assert distributed_map(torch.square, rows[:0], what).shape == (0,)
    assert torch.equal(state, torch.random.get_rng_state()) and processes.is_main()


def flat(report: object, path: str = "") -> dict[str, object]:
    """{path: leaf} of a nested report."""
    if not isinstance(report, dict):
        return {path: report}
    return {name: leaf for key, value in report.items() if key not in OWN for name, leaf in flat(value, f"{path}/{key}").items()}


def test_two_processes_give_the_one_process_figures(train: Callable[..., Path], tmp_path: Path) -> None:
    run = train(phase1_epochs=2, epochs=2, phase2_epochs=2)
    judge = str(judge_for(run, tmp_path / "judge"))
    assert Evaluator(TrainedRun(run).config, judge=judge).lpips is None
    facegan.load(run).evaluate(samples=SAMPLES, judge=judge).save(tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
              "GLOO_SOCKET_IFNAME": "lo"}  # fmt: skip
    words = ["evaluate", str(run), "--samples", str(SAMPLES), "--judge", judge, "--out", str(tmp_path / "two")]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "facegan.cli", *words], env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [worker.communicate(timeout=300) for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], said
    finally:
        for worker in workers:
            worker.kill()
    assert ["joint rate" in out for out, _ in said] == [True, False]
    one, two = (flat(json.loads((tmp_path / name / "report.json").read_text())) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == (pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value), name


def judge_for(run: Path, folder: Path) -> Path:
    """A judge of a few steps for the data of a run, saved."""
    config = TrainedRun(run).config
    data = open_faces(config.data, config.resolution, num=config.num, seed=config.seed)
    groups = group(data.table, resolve(config.attributes, data.table), minimum=config.minimum_images)
    tiny = JudgeConfig(steps=6, batch=20, width=4, checks=1)
    load_or_train(data, groups, split(data.identities, groups), tiny, cache_dir=folder / "cache").save(folder)
    return folder
