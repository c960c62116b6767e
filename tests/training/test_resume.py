"""Stopping at any moment and running the same command again ends where an undisturbed run ends, bit by bit."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facegan.training import loop

ROOT = Path(__file__).parents[2]
# Of everything that has a state. Method A: the running average, lazy R1, harvest, critics, both halves of phase 3, own samples.
# Method B: the same average, penalties and critics, the mean style, the mean path length and the strength of the augmentation.
# Restoration: its own average and penalty.
FLAGS = {
    "a": dict(
        pretrain_epochs=4, ema_images=60.0, r1_gamma=0.1, r1_every=3, augment="color,translation", merge="regional",
        self_augment=True, self_augment_buffer=16, phase2_epochs=8, log_every=4,
    ),
    "b": dict(method="b", kimg=10 * 8 / 1000, ada_kimg=0.1, conditional=True, accumulate=2, growing=4, grow_kimg=0.03, log_every=4),
    "restore": dict(method="restore", kimg=8 * 8 / 1000, r1_every=3, accumulate=2, log_every=4),
}  # fmt: skip
MOMENTS = {
    "a": [
        ("pretrain", 2, signal.SIGINT), ("pretrain", 4, signal.SIGINT), ("phase1", 1, signal.SIGTERM), ("phase1", 5, signal.SIGINT),
        ("phase2-bald", 4, signal.SIGTERM), ("phase3-beard", 3, signal.SIGINT), ("phase3-beard", 5, signal.SIGTERM),
    ],
    "b": [("phase2-beard", 3, signal.SIGINT), ("stylegan2", 1, signal.SIGTERM), ("stylegan2", 6, signal.SIGINT)],
    "restore": [("restorer", 1, signal.SIGTERM), ("restorer", 5, signal.SIGINT)],
}  # fmt: skip
STAGES = {
    "a": {"pretrain", "phase1", "phase2-bald", "phase3-beard"},
    "b": {"phase2-bald", "phase2-beard", "stylegan2"},
    "restore": {"restorer"},
}
Rows = Callable[[Path], list[dict]]


def identical(run: Path, other: Path, stages: int) -> None:
    files = sorted(file.relative_to(run) for file in [*run.glob("stages/*/model.safetensors"), *run.glob("ids/*.txt")])
    assert len(files) == 2 * stages and all((run / file).read_bytes() == (other / file).read_bytes() for file in files)


@pytest.fixture(scope="module", params=FLAGS)
def undisturbed(
    configure: Callable, train: Callable[..., Path], request: pytest.FixtureRequest
) -> tuple[str, Path, dict[str, dict[str, torch.Tensor]]]:
    """The method, a run that nobody disturbs, and all that its stages held (weights, averages, optimisers) when they ended."""
    held: dict[str, dict[str, torch.Tensor]] = {}
    configure(out="-", **FLAGS[request.param])  # a restorer's prior is trained here, if it has not been before
    with pytest.MonkeyPatch.context() as patch:
        keep_final_states(patch, held)
        return request.param, train(**FLAGS[request.param]), held


def keep_final_states(patch: pytest.MonkeyPatch, held: dict[str, dict[str, torch.Tensor]]) -> None:
    finish = loop.StageRun._finish

    def watched(self: loop.StageRun, step: int) -> None:
        tensors, metadata = self.stage.state()
        held[self.stage.name] = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        finish(self, step)

    patch.setattr(loop.StageRun, "_finish", watched)


def stop_at(patch: pytest.MonkeyPatch, stage: str, step: int, signum: int) -> None:
    """The signal arrives while this step is computed."""
    timed = loop.StageRun._timed_step

    def stopping(self: loop.StageRun, at: int) -> None:
        timed(self, at)
        if (self.stage.name, at + 1) == (stage, step):
            os.kill(os.getpid(), signum)

    patch.setattr(loop.StageRun, "_timed_step", stopping)


def test_a_run_stopped_in_every_stage_ends_bit_by_bit_like_an_undisturbed_one(
    undisturbed: tuple, train: Callable[..., Path], rows: Rows, tmp_path: Path
) -> None:
    method, whole, whole_held = undisturbed
    flags, held = FLAGS[method], dict[str, dict[str, torch.Tensor]]()
    for stage, step, signum in MOMENTS[method]:
        with pytest.MonkeyPatch.context() as patch:
            keep_final_states(patch, held)
            stop_at(patch, stage, step, signum)
            with pytest.raises(loop.Interrupted, match=f"stopped in {stage} at step {step}") as stopped:
                train(tmp_path / "run", **flags)
            assert stopped.value.signum == signum
    with pytest.MonkeyPatch.context() as patch:
        keep_final_states(patch, held)
        run = train(tmp_path / "run", **flags)
    identical(whole, run, len(STAGES[method]))
    assert rows(run) == rows(whole)
    assert held.keys() == whole_held.keys() == STAGES[method]
    for stage, tensors in whole_held.items():
        assert tensors.keys() == held[stage].keys()
        assert {name.split("/")[0] for name in tensors} >= {"network", "optimizer"}
        for name, tensor in tensors.items():
            assert torch.equal(tensor, held[stage][name]), (stage, name)
    last = {"a": [], "b": ["stylegan2-0000010"], "restore": ["restorer-0000008"]}[method]  # to go on from, should it be made longer
    assert [path.name for path in run.glob("checkpoints/*")] == last and not list(run.glob("*/.*"))


def test_a_finished_run_is_left_as_it_is(undisturbed: tuple, train: Callable[..., Path]) -> None:
    method, run, _ = undisturbed
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and "tensorboard" not in file.parts}
    train(run, **FLAGS[method])
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and "tensorboard" not in file.parts}


def test_only_the_newest_checkpoints_are_kept_and_leftovers_swept(train: Callable[..., Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, "phase1", 11, signal.SIGINT)
        with pytest.raises(loop.Interrupted):
            train(run, phase1_epochs=12, epochs=0, snapshot_every=2, keep_checkpoints=2)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["phase1-0000010", "phase1-0000011"]
    (run / "checkpoints/.phase1-0000012.deadbeef.tmp").mkdir()  # what a kill while saving leaves
    train(run, phase1_epochs=12, epochs=0, snapshot_every=2, keep_checkpoints=2)
    assert list((run / "checkpoints").iterdir()) == []


def test_sigterm_ends_a_process_in_good_order(faces: Path, train: Callable[..., Path], configure: Callable, tmp_path: Path) -> None:
    config = configure(out=str(tmp_path / "run"), phase1_epochs=500, epochs=0, snapshot_every=1000)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_json().items()
             if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != ""]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *flags, "--device=cpu"], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT,
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "run/metrics.jsonl").exists():
        time.sleep(0.02)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in errors
    assert errors.rstrip().splitlines()[-1].startswith("facegan: stopped in phase1 at step ")
    (saved,) = (tmp_path / "run/checkpoints").iterdir()
    assert load_file(saved / "model.safetensors")


def test_a_run_killed_without_warning_loses_nothing(tmp_path: Path) -> None:
    """The short form of benchmarks/kill_test.py."""
    spec = importlib.util.spec_from_file_location("kill_test", ROOT / "benchmarks/kill_test.py")
    assert spec and spec.loader
    kill_test = importlib.util.module_from_spec(spec)
    sys.modules["kill_test"] = kill_test  # dataclasses look their module up
    spec.loader.exec_module(kill_test)
    flags = [*kill_test.FLAGS.split(), "--pretrain-epochs=0", "--phase1-epochs=8", "--phase2-epochs=6", "--epochs=10"]
    kills, differences = kill_test.compare(tmp_path, flags, kills=2, seed=4)
    assert len(kills) == 2 and differences == []
