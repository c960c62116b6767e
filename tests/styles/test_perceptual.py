"""Distances of images against their equations, and which one a machine gets."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facegan.styles import perceptual
from facegan.styles.perceptual import DiscriminatorFeatures, Lpips, Pyramid, distance, perceptual_for

CPU = torch.device("cpu")


def of(measure, a, b):
    return distance(measure.features(a), measure.features(b))


def test_the_discriminators_distance_is_that_of_unit_features_and_pixels(projectable):
    net = projectable.discriminator
    a, b = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    found = of(DiscriminatorFeatures(net), a, b)
    outputs = []
    hooks = [getattr(net, f"b{size}").register_forward_hook(lambda _m, _i, y: outputs.append(y)) for size in (16, 8)]
    net(a)
    net(b)
    for hook in hooks:
        hook.remove()
    expected = (a - b).square().sum(1).mean((1, 2))
    for x, y in zip(outputs[:2], outputs[2:], strict=True):
        assert x.shape[2:] in ((8, 8), (4, 4))
        expected = expected + (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean((1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class FakeLpips(nn.Module):
    """The parts of lpips.LPIPS that its own forward uses, with layers of random weights."""

    def __init__(self, net: str, verbose: bool) -> None:
        super().__init__()
        assert net == "vgg" and not verbose
        torch.manual_seed(0)
        self.convs = nn.ModuleList([nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3, stride=2)])
        self.net = SimpleNamespace(forward=self.layers)
        self.lins = [SimpleNamespace(model=nn.Sequential(nn.Dropout(), nn.Conv2d(c, 1, 1, bias=False))) for c in (5, 7)]
        for lin in self.lins:
            lin.model[1].weight.data.abs_()

    def scaling_layer(self, x):
        return (x - 0.1) / 0.45

    def layers(self, x):
        first = self.convs[0](x).relu()
        return first, self.convs[1](first).relu()

    def forward(self, a, b):
        total = 0
        for x, y, lin in zip(self.layers(self.scaling_layer(a)), self.layers(self.scaling_layer(b)), self.lins, strict=True):
            x, y = (v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (x, y))
            total = total + lin.model[1]((x - y).square()).mean((2, 3))
        return total.flatten()


def test_lpips_features_give_its_distance():
    model = FakeLpips("vgg", verbose=False)
    a, b = torch.randn(3, 3, 16, 16), torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(of(Lpips(model), a, b), model(a, b).detach(), rtol=1e-4, atol=1e-6)


def test_lpips_is_taken_only_where_its_weights_are(monkeypatch, tmp_path, projectable):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=FakeLpips))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert isinstance(perceptual_for(projectable.discriminator, CPU), DiscriminatorFeatures)  # it would download them
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16-397923af.pth").touch()
    assert isinstance(perceptual_for(projectable.discriminator, CPU), Lpips)
    monkeypatch.setitem(sys.modules, "lpips", None)  # not installed
    assert isinstance(perceptual_for(projectable.discriminator, CPU), DiscriminatorFeatures)
    assert isinstance(perceptual_for(None, CPU), Pyramid)
    assert len({kind.description for kind in (Lpips, DiscriminatorFeatures, Pyramid)}) == 3


def test_the_pyramid_sees_coarse_and_fine(tmp_path):
    grey = torch.zeros(1, 3, 32, 32)
    brighter = grey + 0.5
    stripes = grey.clone()
    stripes[..., ::2] = 0.5
    pyramid = Pyramid()
    assert of(pyramid, grey, grey).item() == 0
    assert of(pyramid, grey, brighter).item() > 0.5  # of the coarsest level: 3 channels of 0.25
    assert of(pyramid, grey, stripes).item() > 0.5


@pytest.mark.parametrize("resolution", [16, 64])
def test_images_of_any_size_have_a_gradient(resolution, monkeypatch):
    monkeypatch.setattr(perceptual, "LARGEST", 32)
    image = torch.randn(2, 3, resolution, resolution, requires_grad=True)
    features = Pyramid().features(image)
    (gradient,) = torch.autograd.grad(features.square().sum(), image)
    assert gradient.isfinite().all() and gradient.abs().sum((1, 2, 3)).min() > 0
    assert features.shape[1] < 3 * 32 * 32 * 5
