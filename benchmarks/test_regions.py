"""Faces with the lower half of another's styles, beside plain faces: one convolution whose styles vary by pixel, or a layer per style.

The first is as `Regions` has it by default, blended below 16 px; the second follows the mask in every layer and is bound to cost twice.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks import contest, record
from benchmarks.cases import BACKENDS, Case
from facegan import backend as backends
from facegan.methods.b.config import PRESETS
from facegan.models.regions import SHARED_FROM, Regions
from facegan.models.stylegan2 import StyleGAN2Config, Synthesis

# preset and resolution (that of the shipped `synthetic64`; the paper's), and faces at once, by device
SIZES = {"cpu": (("small", 64, 1), ("small", 64, 8), ("paper", 256, 1)), "cuda": (("small", 64, 64), ("paper", 256, 16))}
SHARED = {"regional_mix": SHARED_FROM, "blended_mix": 1 << 30}


@pytest.mark.parametrize("mix", SHARED)
@pytest.mark.parametrize("served", dict.fromkeys(name for names in BACKENDS.values() for name in names))
@pytest.mark.parametrize("index", range(3))
def test_regions(benchmark, device, ticks, keep, index, served, mix):
    if index >= len(SIZES[device]) or served not in BACKENDS[device]:
        pytest.skip(f"not measured on {device}")
    reason = backends.unavailable("modulated_conv2d", served, device)
    if reason:
        pytest.skip(reason)
    preset, size, n = SIZES[device][index]
    latent, _, base, most = PRESETS[preset][size]
    torch.manual_seed(0)
    config = StyleGAN2Config(size, latent, latent, channel_base=base, channel_max=most)
    network = Synthesis(config).to(device).eval().requires_grad_(False)
    ws, other = (torch.randn(n, config.num_ws, latent, device=device) for _ in range(2))
    masks = ((torch.arange(size, device=device) - size / 2) / (0.03 * size)).sigmoid()[:, None].expand(1, 1, size, size).contiguous()
    regions = Regions(other[:, None], masks, SHARED[mix])
    regional = contest.served_by(served, lambda ws: network(ws, "const", regions=regions))
    run = contest.runner(regional, (ws,), "fwd")
    truth = contest.truth(lambda ws: network(ws, "const", regions=regions), (ws,), "fwd")
    contest.expect_close(run(), truth, torch.float32, "fwd", served)
    if benchmark.disabled:
        return benchmark(run)
    plain = contest.runner(contest.served_by(served, lambda ws: network(ws, "const")), (ws,), "fwd")
    eager = contest.runner(contest.served_by("reference", lambda ws: network(ws, "const", regions=regions)), (ws,), "fwd")
    times = contest.race(benchmark, run, {"plain": plain, "eager": eager}, ticks, 4 * contest.WINDOW[device])
    channels = config.channels(size)
    case = Case(mix, "fwd", f"stylegan2-{preset}", n, channels, size, channels, "float32", "nhwc")
    keep(record.row(case, served, times))
    benchmark.extra_info["times a plain face"] = round(1 / contest.ratio(times["plain"], times["op"]), 2)
