"""StyleGAN2 as a whole: images a second of the generator's forward pass and of a training step, R1 and path length by themselves.

Beside the same networks on the reference backend, in the grouped form, and NVIDIA's where a clone is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import contest, record
from benchmarks.cases import Case
from benchmarks.contest import Run, Work
from benchmarks.grouped import grouped_layers
from benchmarks.training_step import TrainingStep
from facegan import backend as backends
from facegan.methods.b.config import PRESETS
from facegan.models.stylegan2 import Generator, StyleGAN2Config


@pytest.fixture
def config(case: Case) -> StyleGAN2Config:
    latent, layers, base, most = PRESETS[case.network.removeprefix("stylegan2-")][case.size]
    config = StyleGAN2Config(case.size, latent, latent, mapping_layers=layers, channel_base=base, channel_max=most)
    return replace(config, half_sizes=4, conv_clamp=256.0) if case.dtype == torch.bfloat16 else config


def in_groups(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*inputs: Any) -> Any:
        with grouped_layers():
            return function(*inputs)

    return call


def test_stylegan2_forward(case, device, draw, measure, config, peer):
    torch.manual_seed(0)
    generator = Generator(config).to(device, memory_format=torch.channels_last).requires_grad_(False)
    z = draw(case.n, config.z_dim, dtype=torch.float32)
    theirs = peer and peer.networks(config)[0].to(device).requires_grad_(False)
    measure(
        lambda z: generator(z, noise_mode="const"),
        (z,),
        Work(0, 0),
        more={"grouped": in_groups(lambda z: generator(z, noise_mode="const"))},
        unlike={"peer": lambda z: theirs(z, None, noise_mode="const")} if theirs else {},
        compiled=False,  # minutes for one figure; test_generator has it at 128 px
    )


def race_steps(kind, case, backend, device, benchmark, ticks, keep, config, peer):
    reasons = [backends.unavailable(op, backend, device) for op in ("bias_act", "upfirdn2d", "modulated_conv2d")]
    if any(reasons):
        pytest.skip(next(reason for reason in reasons if reason))
    ours = TrainingStep(config, case.n, device)
    run: Run = contest.served_by(backend, getattr(ours, kind))
    rivals: dict[str, Run] = {"eager": contest.served_by("reference", getattr(ours, kind)), "grouped": in_groups(getattr(ours, kind))}
    truth = contest.served_by("reference", ours.gradients)(kind)
    for gradients, name in ((contest.served_by(backend, ours.gradients), backend), (in_groups(ours.gradients), "grouped")):
        contest.expect_close(gradients(kind), truth, case.dtype, case.order, name)
    if benchmark.disabled:
        return benchmark(run)
    if peer:
        rivals["peer"] = getattr(TrainingStep(config, case.n, device, peer.networks(config)), kind)
    del truth
    times = contest.race(benchmark, run, rivals, ticks, contest.WINDOW[device])
    peaks = {name: contest.peak_bytes(call, device) for name, call in {"op": run, **rivals}.items()}
    keep(record.row(case, backend, times, peaks=peaks))


def test_stylegan2_step(case, backend, device, benchmark, ticks, keep, config, peer):
    race_steps("step", case, backend, device, benchmark, ticks, keep, config, peer)


def test_stylegan2_r1(case, backend, device, benchmark, ticks, keep, config, peer):
    race_steps("r1", case, backend, device, benchmark, ticks, keep, config, peer)


def test_stylegan2_path_length(case, backend, device, benchmark, ticks, keep, config, peer):
    race_steps("path_length", case, backend, device, benchmark, ticks, keep, config, peer)
