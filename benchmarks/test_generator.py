"""The forward pass of a StyleGAN2-like synthesis network at 128 px: two layers and a toRGB per size, with skip connections."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.cases import NETWORKS
from benchmarks.contest import Work
from facegan.ops import modulated_conv2d, setup_filter, upsample2d

STYLE = 512


class Layer(nn.Module):
    """A synthesis layer, or with `colours` a toRGB."""

    def __init__(self, c_in: int, c_out: int, size: int, up: int = 1, colours: bool = False) -> None:
        super().__init__()
        self.up, self.kernel = up, 1 if colours else 3
        self.affine = nn.Linear(STYLE, c_in)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, self.kernel, self.kernel) / (c_in * self.kernel**2) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("noise", None if colours else 0.1 * torch.randn(size, size))
        self.register_buffer("f", setup_filter())

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        how = {"demodulate": False} if self.kernel == 1 else {"act": "lrelu", "noise": self.noise, "resample_filter": self.f}
        return modulated_conv2d(x, self.weight, self.affine(w), up=self.up, padding=self.kernel // 2, bias=self.bias, **how)


class Synthesis(nn.Module):
    """w [N, 512], float32 -> image [N, 3, 128, 128] of a dtype and layout."""

    def __init__(self, maps: tuple[tuple[int, int], ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
        super().__init__()
        self.dtype, self.layout = dtype, layout
        self.constant = nn.Parameter(torch.randn(1, maps[0][0], 4, 4))
        self.layers, self.colours = nn.ModuleList(), nn.ModuleList()
        c_in = maps[0][0]
        for c, size in maps:
            layers = [Layer(c_in, c, size, up=2), Layer(c, c, size)] if size > maps[0][1] else [Layer(c, c, size)]
            self.layers.append(nn.ModuleList(layers))
            self.colours.append(Layer(c, 3, size, colours=True))
            c_in = c
        self.register_buffer("f", setup_filter())

    def forward(self, w: Tensor) -> Tensor:
        x, image = self.constant.to(self.dtype).expand(len(w), -1, -1, -1).contiguous(memory_format=self.layout), None
        for layers, colours in zip(self.layers, self.colours, strict=True):
            for layer in layers:
                x = layer(x, w)
            colour = colours(x, w)
            image = colour if image is None else upsample2d(image, self.f) + colour
        return image


@pytest.fixture
def synthesis(case, device):
    torch.manual_seed(0)
    maps = tuple(entry for entry in NETWORKS["stylegan2-256"] if entry[1] <= case.size)
    return Synthesis(maps, case.dtype, case.memory_format).to(device).requires_grad_(False)


def test_generator(case, draw, measure, synthesis):
    measure(synthesis, (draw(case.n, STYLE, dtype=torch.float32),), Work(0, 0))
