"""Method A's training step next to the same step written with torch.nn.functional alone, and to itself on the reference backend."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import contest, record, timer
from benchmarks.cases import Case
from facegan import backend as backends
from facegan.methods import configured
from facegan.methods.a.phase1 import Phase1
from facegan.models.conv_gan import MODULATION_GAIN, RGB_GAIN, channels
from facegan.pixels import to_float
from facegan.session import accelerator_for, make_context

RESOLUTION, BATCH, WIDTH = 32, 32, 0.5
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class PlainStep:
    """Phase 1's networks, losses and optimisers with the weights of `stage`, and nothing of this package's ops."""

    def __init__(self, stage: Phase1, images: np.ndarray) -> None:
        self.device, self.images, config = stage.context.device, images, stage.context.config
        self.g = self._copies(stage.generator.generator)
        self.d = self._copies(stage.discriminators.members[0].network)
        kernel = torch.tensor([1.0, 3.0, 3.0, 1.0], device=self.device) / 8
        self.fir = torch.outer(kernel, kernel)[None, None]
        adam: dict[str, Any] = dict(lr=config.lr, betas=(config.beta1, config.beta2))
        self.adam_g, self.adam_d = (torch.optim.Adam(weights.values(), **adam) for weights in (self.g, self.d))

    @staticmethod
    def _copies(network: torch.nn.Module) -> dict[str, Tensor]:
        return {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}

    @staticmethod
    def _scaled(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
        weight = weights[f"{name}.weight"]
        return weight / math.sqrt(weight[0].numel()), weights[f"{name}.bias"]

    def _conv(self, weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        weight, bias = self._scaled(weights, name)
        return F.leaky_relu(F.conv2d(x, weight, bias, padding=weight.shape[2] // 2), 0.2) * math.sqrt(2)

    def _linear(self, weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        return F.leaky_relu(F.linear(x, *self._scaled(weights, name)), 0.2) * math.sqrt(2)

    def _upsample(self, x: Tensor) -> Tensor:
        kernel = (4 * self.fir).expand(x.shape[1], 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

    def _down(self, name: str, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.fir.expand(x.shape[1], 1, 4, 4), padding=2, groups=x.shape[1])
        weight, bias = self._scaled(self.d, name)
        return F.leaky_relu(F.conv2d(x, weight, bias, stride=2), 0.2) * math.sqrt(2)

    def generate(self, z: Tensor) -> Tensor:
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        x = self._linear(self.g, "stem", z).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for size in (4, 8, 16, 32):
            x = self._conv(self.g, f"blocks.{size}.conv0", x)
            x = self._upsample(x) if image is not None else x
            x = self._conv(self.g, f"blocks.{size}.conv1", x)
            modulation = MODULATION_GAIN * F.linear(z, *self._scaled(self.g, f"blocks.{size}.modulation"))
            scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
            x = F.instance_norm(x) * (1 + scale) + shift
            colours = F.conv2d(x, *self._scaled(self.g, f"to_rgb.{size}")) * RGB_GAIN
            image = colours if image is None else self._upsample(image) + colours
        assert image is not None
        return image

    def discriminate(self, image: Tensor) -> Tensor:
        x = self._conv(self.d, "from_rgb", image.contiguous(memory_format=torch.channels_last))
        x = self._conv(self.d, "detail", x)
        for index in range(3):
            x = self._down(f"blocks.{index}", x)
        deviation = (x.reshape(-1, 4, *x.shape[1:]).var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        maps = deviation.repeat_interleave(4)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        x = torch.cat([x, maps], dim=1)
        x = self._linear(self.d, "hidden", self._conv(self.d, "final", x).flatten(1))
        return F.linear(x, *self._scaled(self.d, "score")).squeeze(1)

    def __call__(self, step: int) -> None:
        rows = np.random.default_rng(step).integers(len(self.images), size=BATCH)
        self.train(to_float(self.images[rows], self.device), torch.randn(BATCH, 128, device=self.device))

    def train(self, reals: Tensor, z: Tensor) -> None:
        fake = self.generate(z)
        real_score, fake_score = self.discriminate(torch.cat([reals, fake.detach()])).chunk(2)
        loss = ((real_score - 1).square().mean() + fake_score.square().mean()) / 2
        self.adam_d.zero_grad(set_to_none=True)
        loss.backward()
        self.adam_d.step()
        for weight in self.d.values():
            weight.requires_grad_(False)
        loss = (self.discriminate(fake) - 1).square().mean()
        self.adam_g.zero_grad(set_to_none=True)
        loss.backward()
        self.adam_g.step()
        for weight in self.d.values():
            weight.requires_grad_(True)


def phase_1(folder: Path, device: str, **flags: Any) -> Phase1:
    torch.manual_seed(0)
    common = dict(out=str(folder), data="synthetic", num=400, batch=BATCH, device=device)
    config = configured(**{**common, **flags})
    return Phase1(make_context(config, accelerator_for(config)), None)


@pytest.fixture(params=DEVICES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Phase1]:
    """Without what the plain step leaves out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bare = dict(recipe="thesis", r1_gamma=0.0, ema_images=0.0, augment="none")
    yield phase_1(tmp_path, request.param, resolution=RESOLUTION, width=WIDTH, **bare)
    torch.set_num_threads(threads)


def synchronised(function: Callable[[int], Any], step: int) -> float:
    start = time.perf_counter()
    function(step)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def expect_the_same_networks(plain: PlainStep, stage: Phase1) -> None:
    """Scores of generated images and their gradients by every weight agree."""
    z = torch.from_numpy(stage.noise("z", 0, BATCH)).to(stage.context.device)
    ours, theirs = stage.discriminators.members[0](stage.generator(z)), plain.discriminate(plain.generate(z))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    weights = [*stage.generator.parameters(), *stage.discriminators.parameters()]
    copies = [*plain.g.values(), *plain.d.values()]
    gradients = torch.autograd.grad(ours.square().mean(), weights), torch.autograd.grad(theirs.square().mean(), copies)
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_phase_1_step(benchmark: Any, stage: Phase1) -> None:
    """`extra_info["step / plain"]` is the median over the rounds of this step's time over the plain one's beside it."""
    context = stage.context
    plain = PlainStep(stage, np.ascontiguousarray(context.data.images[stage.used]))
    expect_the_same_networks(plain, stage)

    times: dict[str, list[float]] = {"plain": [], "ours": []}

    def plain_round() -> None:  # setup of each round: not part of its time
        times["plain"].append(synchronised(plain, len(times["plain"])))

    def our_round() -> None:
        times["ours"].append(synchronised(stage.step, len(times["ours"])))

    benchmark.pedantic(our_round, setup=plain_round, rounds=60, warmup_rounds=5)
    if benchmark.disabled:
        return
    ratios = [ours / theirs for ours, theirs in zip(times["ours"], times["plain"], strict=True)]
    benchmark.extra_info["step / plain"] = round(statistics.median(ratios[5:]), 3)


def test_method_a_step(benchmark: Any, device: str, backend: str, ticks: timer.Clock, tmp_path: Path, keep: Any) -> None:
    """Everything that a step does by default: augmentation, R1, the running average. A round is one cycle of R1's lazy schedule."""
    reasons = [backends.unavailable(op, backend, device) for op in ("bias_act", "upfirdn2d", "adain_affine")]
    if any(reasons):
        pytest.skip(next(reason for reason in reasons if reason))
    resolution, width = (RESOLUTION, WIDTH) if device == "cpu" else (64, 1.0)
    stage = phase_1(tmp_path, device, resolution=resolution, width=width)
    steps = itertools.count()

    def cycle() -> tuple[()]:
        for _ in range(stage.context.config.r1_every):
            stage.step(next(steps))
        return ()

    run, rivals = contest.served_by(backend, cycle), {"eager": contest.served_by("reference", cycle)}
    if benchmark.disabled:
        benchmark(run)
        return
    times = contest.race(benchmark, run, rivals, ticks, 5 * contest.WINDOW[device])
    per_step = {name: [seconds / stage.context.config.r1_every for seconds in found] for name, found in times.items()}
    c = channels(resolution, width)
    keep(record.row(Case("method_a_step", "step", "method-a", BATCH, c, resolution, c, "float32", "nhwc"), backend, per_step))
