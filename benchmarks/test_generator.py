"""The forward pass of StyleGAN2's synthesis network at 128 px, as for inference."""

from __future__ import annotations

import pytest
import torch

from benchmarks.contest import Work
from facegan.models.stylegan2 import StyleGAN2Config, Synthesis


@pytest.fixture
def synthesis(case, device):
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=case.size)
    if case.dtype == torch.bfloat16:
        config = StyleGAN2Config(resolution=case.size, half_sizes=len(config.sizes))
    return Synthesis(config).to(device).requires_grad_(False)


def test_generator(case, draw, measure, synthesis):
    w = draw(case.n, synthesis.config.num_ws, synthesis.config.w_dim, dtype=torch.float32)
    measure(lambda w: synthesis(w, "const"), (w,), Work(0, 0))
