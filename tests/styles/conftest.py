"""A network that projections work on: untrained, but with colours of a photo's range and a discriminator in its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from facegan.checkpoints.networks import StyleGAN2Checkpoint, save_networks
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.plotting.sheets import save_png, to_pil


@dataclass(frozen=True)
class Projectable:
    folder: Path  # of the network
    generator: Generator
    discriminator: Discriminator

    def ws(self, *seeds: int) -> torch.Tensor:
        """Truncated styles [N, num_ws, w_dim]."""
        z = np.stack([np.random.RandomState(seed).randn(self.generator.config.z_dim) for seed in seeds])
        return self.generator.mapping(torch.from_numpy(z).float(), psi=0.7)

    def faces(self, *seeds: int) -> torch.Tensor:
        return self.generator.synthesis(self.ws(*seeds), "const")

    def photo(self, path: Path, seed: int) -> Path:
        save_png(to_pil(self.faces(seed)[0]), path)
        return path


@pytest.fixture(scope="session")
def projectable(tmp_path_factory: pytest.TempPathFactory) -> Projectable:
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=16, z_dim=32, w_dim=32, mapping_layers=2, channel_base=256, channel_max=16)
    generator, discriminator = Generator(config).eval().requires_grad_(False), Discriminator(config).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.05)
        elif name.endswith("torgb.weight"):
            parameter.mul_(0.3)
    generator.mapping.w_avg.copy_(generator.mapping(torch.randn(4000, 32))[:, 0].mean(0))
    folder = tmp_path_factory.mktemp("projectable") / "net"
    save_networks(StyleGAN2Checkpoint(config, {"G_ema": generator.state_dict(), "D": discriminator.state_dict()}), folder)
    return Projectable(folder, generator, discriminator)
