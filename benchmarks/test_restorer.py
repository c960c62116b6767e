"""Restoration: images a second and memory of the restorer's forward pass, beside the same network on the reference backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import contest, record
from benchmarks.contest import Run
from facegan import backend as backends
from facegan.methods.b.config import PRESETS
from facegan.models.restorer import Restorer
from facegan.models.stylegan2 import StyleGAN2Config


def test_restorer(case, backend, device, benchmark, ticks, keep, draw):
    reasons = [backends.unavailable(op, backend, device) for op in ("bias_act", "upfirdn2d", "modulated_conv2d")]
    if any(reasons):
        pytest.skip(next(reason for reason in reasons if reason))
    latent, layers, base, most = PRESETS[case.network.removeprefix("stylegan2-")][case.size]
    config = StyleGAN2Config(case.size, latent, latent, mapping_layers=layers, channel_base=base, channel_max=most, noise="concat")
    lower = replace(config, half_sizes=4, conv_clamp=256.0) if case.dtype == torch.bfloat16 else config
    torch.manual_seed(0)
    restorer = Restorer(lower).to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    for scale in restorer.scales():
        scale.fill_(1.0)  # as it starts, the maps would be multiplied by 0
    faces = draw(case.n, 3, case.size, case.size, dtype=torch.float32).detach().tanh()
    run, eager = (contest.runner(contest.served_by(name, restorer), (faces,), "fwd") for name in (backend, "reference"))
    contest.expect_close(run(), eager(), case.dtype, "fwd", backend)
    if benchmark.disabled:
        return benchmark(run)
    rivals: dict[str, Run] = {"eager": eager}
    times = contest.race(benchmark, run, rivals, ticks, contest.WINDOW[device])
    peaks = {name: contest.peak_bytes(call, device) for name, call in {"op": run, **rivals}.items()}
    keep(record.row(case, backend, times, peaks=peaks))
