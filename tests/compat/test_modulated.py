"""`ModulatedConv2d` of rosinality's and BasicSR's kind, written anew from Karras et al. 2020, on our operator."""

from __future__ import annotations

import copy
import importlib
import sys

import pytest
import torch

from facegan import compat

# In both, a forward pass of this kind: a weight per sample, resampling by a filter of 4 taps at the higher resolution.
FORWARD = """
import torch
import torch.nn.functional as F
from torch import nn
from stylegan_formulas import conv2d_resample

class Linear(nn.Linear):
    pass

class Smooth(nn.Module):
    def __init__(self, kernel, gain):
        super().__init__()
        f = torch.tensor(kernel, dtype=torch.float32)
        self.register_buffer("kernel", torch.outer(f, f) / f.sum() ** 2 * gain)

def convolved(self, x, style, up, down, kernel):
    w = self.weight * self.scale * self.modulation(style)[:, None, :, None, None]
    if self.demodulate:
        w = w / (w.square().sum((2, 3, 4), keepdim=True) + self.eps).sqrt()
    f = None if kernel is None else kernel / up ** 2
    size = self.padding
    return torch.cat([conv2d_resample(x[i:i+1], w[i], f, up, down, [size] * 4, 1, up == 1, False) for i in range(len(x))])

def common(self, inputs, outputs, size, styles, demodulate):
    self.scale, self.padding, self.demodulate = (inputs * size ** 2) ** -0.5, size // 2, demodulate
    self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size))
    self.modulation = Linear(styles, inputs)
"""
ROSINALITY = (
    FORWARD
    + """
class ModulatedConv2d(nn.Module):
    def __init__(self, in_channel, out_channel, kernel_size, style_dim, demodulate=True, upsample=False, downsample=False,
                 blur_kernel=[1, 3, 3, 1], fused=True):
        super().__init__()
        common(self, in_channel, out_channel, kernel_size, style_dim, demodulate)
        self.eps, self.upsample, self.downsample = 1e-8, upsample, downsample
        if upsample or downsample:
            self.blur = Smooth(blur_kernel, 4 if upsample else 1)
    def forward(self, input, style):
        blur = getattr(self, "blur", None)
        return convolved(self, input, style, 1 + self.upsample, 1 + self.downsample, None if blur is None else blur.kernel)
def made(mode, **options):
    return ModulatedConv2d(4, 6, 3, 5, upsample=mode == "upsample", downsample=mode == "downsample", **options)
"""
)
BASICSR = (
    FORWARD
    + """
class ModulatedConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, num_style_feat, demodulate=True, sample_mode=None,
                 resample_kernel=(1, 3, 3, 1), eps=1e-8):
        super().__init__()
        common(self, in_channels, out_channels, kernel_size, num_style_feat, demodulate)
        self.eps, self.sample_mode = eps, sample_mode
        if sample_mode:
            self.smooth = Smooth(resample_kernel, 4 if sample_mode == "upsample" else 1)
    def forward(self, x, style):
        smooth, mode = getattr(self, "smooth", None), self.sample_mode
        up, down = 2 if mode == "upsample" else 1, 2 if mode == "downsample" else 1
        return convolved(self, x, style, up, down, None if smooth is None else smooth.kernel)
def made(mode, **options):
    return ModulatedConv2d(4, 6, 3, 5, sample_mode=mode, **options)
"""
)
THEIRS = {"theirs.model": ROSINALITY, "theirs.stylegan2_arch": BASICSR}


@pytest.fixture
def module(importing, request):
    folder = importing / "theirs"
    folder.mkdir(exist_ok=True)
    (folder / (request.param.rpartition(".")[2] + ".py")).write_text(THEIRS[request.param])
    return request.param


@pytest.mark.parametrize("module", THEIRS, indirect=True)
@pytest.mark.parametrize("mode", [None, "upsample", "downsample"])
@pytest.mark.parametrize("demodulate", [True, False])
def test_the_forward_pass_is_ours_and_equal_with_its_gradients(module: str, mode, demodulate: bool) -> None:
    torch.manual_seed(0)
    plain = importlib.import_module(module).made(mode, demodulate=demodulate).double()
    inputs = torch.randn(2, 4, 6, 5, dtype=torch.float64).requires_grad_(), torch.randn(2, 5, dtype=torch.float64).requires_grad_()
    results = [_all(plain, inputs)]
    del sys.modules[module]
    compat.install(layers=True)
    ours = importlib.import_module(module).made(mode, demodulate=demodulate).double()
    assert compat.served()[module] == "facegan.compat.modulated: ModulatedConv2d"
    ours.load_state_dict(plain.state_dict())  # the same keys
    results.append(_all(ours, inputs))
    for theirs, mine in zip(*results, strict=True):
        assert torch.allclose(theirs, mine, rtol=1e-9, atol=1e-9)
    compat.uninstall()
    assert type(ours).forward.__module__ == module


def _all(layer, inputs):
    y = layer(*inputs)
    torch.manual_seed(1)
    first = torch.autograd.grad((y * torch.randn(y.shape, dtype=y.dtype)).sum(), [*inputs, *layer.parameters()], create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), [*inputs, *layer.parameters()])
    with torch.no_grad():
        still = layer(*inputs)
    return [y, *first, *second, still]


@pytest.mark.parametrize("module", THEIRS, indirect=True)
def test_weights_that_change_and_copies(module: str) -> None:
    compat.install(layers=True)
    layer = importlib.import_module(module).made("upsample").requires_grad_(False)
    x, style = torch.randn(1, 4, 6, 6), torch.randn(1, 5)
    before = layer(x, style)
    other = copy.deepcopy(layer)
    layer.weight.data.neg_()
    assert torch.allclose(layer(x, style), -before, atol=1e-5)
    assert torch.allclose(other(x, style), before, atol=1e-5)
    assert torch.allclose(layer.double()(x.double(), style.double()), -before.double(), atol=1e-5)


@pytest.mark.parametrize("module", ["theirs.stylegan2_arch"], indirect=True)
def test_another_epsilon_and_other_classes_are_left_to_the_project(module: str, importing) -> None:
    compat.install(layers=True)
    layer = importlib.import_module(module).made(None, eps=0.5)
    assert layer(torch.ones(1, 4, 6, 6), torch.ones(1, 5)).shape == (1, 6, 6, 6)
    source = BASICSR.replace("resample_kernel=(1, 3, 3, 1), eps=1e-8", "eps=1e-8, interpolation_mode='bilinear', resample_kernel=(1,)")
    (importing / "theirs" / "bilinear_arch.py").write_text(source)
    importlib.import_module("theirs.bilinear_arch")
    assert "theirs.bilinear_arch" not in compat.served()
