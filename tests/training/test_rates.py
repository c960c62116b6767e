"""Learning rates that fall at the end of a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facegan.errors import FaceganError
from facegan.training import loop
from facegan.training.optimizer import Rates, adam

RUNS = {
    "a": dict(recipe="best", phase1_epochs=2, epochs=3, phase2_epochs=2, harvest_every=1),
    "b": dict(method="b", kimg=0.056, phase2_epochs=2),
    "restore": dict(method="restore", kimg=0.056),
}
STAGES = {"a": ("phase1", "phase2-bald", "phase3-beard"), "b": ("phase2-bald", "stylegan2"), "restore": ("restorer",)}


def test_steps_are_as_long_as_the_line_says() -> None:
    # With both betas 0 Adam moves each weight by its rate, whatever the gradient is.
    weight = torch.nn.Parameter(torch.zeros(3))
    other = torch.nn.Parameter(torch.zeros(2))
    optimizer = adam([{"params": [weight], "lr": 0.1}, {"params": [other], "lr": 0.01}], 1.0, (0.0, 0.0), "cpu")
    rates, moved = Rates([optimizer], steps=8, decay=0.5), []
    for step in range(8):
        before = weight.detach().clone(), other.detach().clone()
        rates.set(step)
        weight.grad, other.grad = torch.rand(3) + 1, -torch.rand(2) - 1
        optimizer.step()
        moved.append(((before[0] - weight).mean().item(), (other - before[1]).mean().item()))
    expected = [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [first for first, _ in moved] == pytest.approx([0.1 * share for share in expected], rel=1e-4)
    assert [second for _, second in moved] == pytest.approx([0.01 * share for share in expected], rel=1e-4)


def test_a_graph_finds_new_rates_where_it_read_the_old_ones() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = adam([weight], 0.1, (0.0, 0.99), "cpu")
    [group] = optimizer.param_groups
    group["capturable"] = True  # as on a GPU, where graphs hold numbers as they were and tensors by their place
    rates = Rates([optimizer], steps=4, decay=1.0)
    rates.set(0)
    held = group["lr"]
    rates.set(3)
    assert group["lr"] is held and held.item() == pytest.approx(0.025)


def test_without_a_decay_rates_stay_what_their_owner_makes_them() -> None:
    optimizer = adam([torch.nn.Parameter(torch.zeros(3))], 0.1, (0.0, 0.99), "cpu")
    rates = Rates([optimizer], steps=4, decay=0.0)
    optimizer.param_groups[0]["lr"] = 0.3
    rates.set(3)
    assert optimizer.param_groups[0]["lr"] == 0.3 and rates.share(3) == 1.0


@pytest.mark.parametrize("method", RUNS)
def test_every_training_but_a_critics_slows_down(
    method: str, train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed, seen = loop.StageRun._timed_step, {}

    def watched(self: loop.StageRun, step: int) -> None:
        timed(self, step)
        groups = [group for optimizer in self.stage.optimizers.values() for group in optimizer.param_groups]
        seen.setdefault(self.stage.name, []).append((self.stage.steps, step, [group["lr"] for group in groups]))

    monkeypatch.setattr(loop.StageRun, "_timed_step", watched)
    train(tmp_path / "run", **RUNS[method], lr_decay=0.5)
    for stage in STAGES[method]:
        full = seen[stage][0][2]
        for count, step, rates in seen[stage]:
            share = 1.0 if stage.startswith("phase2") else min(1.0, (count - step) / (count / 2))
            assert rates == pytest.approx([share * rate for rate in full]), (stage, step)


def test_a_training_that_stopped_goes_on_at_the_rate_it_would_have_had(train: Callable[..., Path], tmp_path: Path) -> None:
    flags = dict(RUNS["b"], lr_decay=1.0, snapshot_every=3)
    whole = train(tmp_path / "whole", **flags)
    timed = loop.StageRun._timed_step

    def stopping(self: loop.StageRun, step: int) -> None:
        if self.stage.name == "stylegan2" and step == 5:
            raise KeyboardInterrupt
        timed(self, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.StageRun, "_timed_step", stopping)
        train(tmp_path / "run", **flags)
    run = train(tmp_path / "run", **flags)
    for name, tensor in load_file(whole / "stages" / "stylegan2" / "model.safetensors").items():
        assert torch.equal(tensor, load_file(run / "stages" / "stylegan2" / "model.safetensors")[name]), name


@pytest.mark.parametrize("method,length", [("a", "epochs"), ("b", "kimg"), ("restore", "kimg")])
def test_a_run_whose_rate_fell_is_not_made_longer(method: str, length: str, train: Callable[..., Path], tmp_path: Path) -> None:
    flags = dict(RUNS[method], lr_decay=0.5)
    train(tmp_path / "run", **flags)
    with pytest.raises(FaceganError, match=f"another configuration .`{length}` .* there, .* here"):
        train(tmp_path / "run", **{**flags, length: 2 * flags[length]})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_more_than_the_whole_training_is_refused(share: float, train: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match="`lr_decay` is .*: expected (0 to 1|a finite number)"):
        train(tmp_path / "run", lr_decay=share)
