"""The networks against a restatement of the paper's equations in float64: a weight per sample, zeros between the pixels, loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from facegan.errors import FaceganError
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config, minibatch_deviation

TINY = dict(resolution=16, z_dim=6, w_dim=5, mapping_layers=3, channel_base=96, channel_max=12)
FIR = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)


def lrelu(x):
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def linear(state, name, x, lr=1.0):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return x @ (weight * lr / math.sqrt(weight.shape[1])).T + bias * lr


def upsampled(x, margin=0):
    """Zeros between the pixels, then the filter, with the padding (2, 1) that keeps the plane in place and a margin around it."""
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x
    kernel = torch.outer(FIR, FIR) / FIR.sum() ** 2 * 4
    return F.conv2d(F.pad(spread, (2 + margin, 1 + margin) * 2), kernel.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def modulated(x, weight, style, demodulate, padding):
    """Eqs. 1 and 3, sample by sample."""
    images = []
    for image, s in zip(x, style, strict=True):
        w = weight * s[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        images.append(F.conv2d(image[None], w, padding=padding))
    return torch.cat(images)


def layer(state, name, x, w, up=False):
    style = linear(state, f"{name}.affine", w)
    x = modulated(upsampled(x, margin=1) if up else x, state[f"{name}.weight"], style, True, padding=0 if up else 1)
    x = x + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
    return lrelu(x + state[f"{name}.bias"][:, None, None])


def generated(state, config, z):
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for index in range(config.mapping_layers):
        w = lrelu(linear(state, f"mapping.fc{index}", w, lr=0.01))
    x, image = state["synthesis.b4.const"].expand(len(z), -1, -1, -1), 0
    for size in config.sizes:
        name = f"synthesis.b{size}"
        x = x if size == 4 else layer(state, f"{name}.conv0", x, w, up=True)
        x = layer(state, f"{name}.conv1", x, w)
        style = linear(state, f"{name}.torgb.affine", w) / math.sqrt(x.shape[1])
        colours = modulated(x, state[f"{name}.torgb.weight"], style, False, 0) + state[f"{name}.torgb.bias"][:, None, None]
        image = colours if size == 4 else upsampled(image) + colours
    return w, image


def doubled(network):
    """Every parameter random, so that noise strengths and biases count."""
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter)
    return {name: value.double() for name, value in network.state_dict().items()}


def test_generator_equals_its_equations():
    config = StyleGAN2Config(**TINY)
    torch.manual_seed(0)
    network = Generator(config)
    state, z = doubled(network), torch.randn(3, 6)
    w, image = generated(state, config, z.double())
    ws = network.mapping(z)
    assert ws.shape == (3, config.num_ws, 5)
    torch.testing.assert_close(ws.double(), w[:, None].expand_as(ws), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.synthesis(ws, "const").double(), image, rtol=1e-3, atol=1e-3 * image.abs().max().item())


def test_discriminator_equals_its_equations():
    config = StyleGAN2Config(**TINY)
    torch.manual_seed(1)
    network = Discriminator(config)
    state, image = doubled(network), torch.randn(4, 3, 16, 16)

    def conv(name, x, down=False):
        weight = state[f"{name}.weight"]
        weight = weight / math.sqrt(weight[0].numel())
        if down:  # the filter first, at the full size, then every second pixel of the convolution
            p = weight.shape[2] // 2
            kernel = (torch.outer(FIR, FIR) / FIR.sum() ** 2).expand(x.shape[1], 1, 4, 4)
            x = F.conv2d(F.pad(x, (1 + p,) * 4), kernel, groups=x.shape[1])
            return F.conv2d(x, weight, state.get(f"{name}.bias"), stride=2)
        return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[2] // 2)

    x = lrelu(conv("b16.fromrgb", image.double()))
    for size in (16, 8):
        skipped = conv(f"b{size}.skip", x, down=True)
        x = (skipped + lrelu(conv(f"b{size}.conv1", lrelu(conv(f"b{size}.conv0", x)), down=True))) * math.sqrt(0.5)
    deviation = (x.var(0, correction=0) + 1e-8).sqrt().mean()
    x = torch.cat([x, deviation.expand(4, 1, 4, 4)], dim=1)
    x = lrelu(linear(state, "b4.fc", lrelu(conv("b4.conv", x)).flatten(1)))
    expected = linear(state, "b4.out", x).squeeze(1)
    torch.testing.assert_close(network(image).double(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_minibatch_deviation_groups_images_that_lie_apart():
    x = torch.randn(6, 2, 3, 3)
    maps = minibatch_deviation(x, 4)  # 6 is not divisible by 4: groups of 3, images 0 2 4 and 1 3 5
    for first in (0, 1):
        group = x[[first, first + 2, first + 4]]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(maps[[first, first + 2, first + 4]], expected.expand(3, 1, 3, 3))


@pytest.mark.parametrize("options", [dict(architecture="resnet"), dict(c_dim=3), dict(half_sizes=2, conv_clamp=256.0)])
def test_variants_run_and_every_parameter_learns(options):
    config = StyleGAN2Config(**TINY, **options)
    torch.manual_seed(2)
    g, d = Generator(config), Discriminator(config)
    c = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]) if config.c_dim else None
    image = g(torch.randn(2, 6), c)
    assert image.dtype == torch.float32 and image.shape == (2, 3, 16, 16)
    d(image, c).square().sum().backward()
    for network in (g, d):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_truncation_and_noise():
    config = StyleGAN2Config(**TINY)
    g = Generator(config)
    for parameter in g.parameters():
        torch.nn.init.normal_(parameter)
    g.mapping.track(torch.ones(4, 5), beta=0.25)
    torch.testing.assert_close(g.mapping.w_avg, torch.full((5,), 0.75))
    z = torch.randn(2, 6)
    w = g.mapping(z)
    half = g.mapping(z, psi=0.5, cutoff=3)
    torch.testing.assert_close(half[:, :3], 0.75 + 0.5 * (w[:, :3] - 0.75))
    torch.testing.assert_close(half[:, 3:], w[:, 3:])
    assert torch.equal(g(z, noise_mode="const"), g(z, noise_mode="const"))
    assert not torch.equal(g(z), g(z)) and not torch.equal(g(z, noise_mode="none"), g(z, noise_mode="const"))


@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_noise_that_is_given_goes_to_the_layers_in_turn(architecture):
    config = StyleGAN2Config(**TINY, architecture=architecture)
    torch.manual_seed(3)
    g = Generator(config)
    for parameter in g.parameters():
        torch.nn.init.normal_(parameter)
    z = torch.randn(2, 6)
    planes = [(size, f"b{size}.{name}") for size in config.sizes for name in ("conv0", "conv1")[size == 4 :]]
    noise = torch.cat([g.synthesis.get_submodule(name).noise_const.flatten() for _, name in planes]).repeat(2, 1)
    assert noise.shape == (2, config.num_noise)
    torch.testing.assert_close(g(z, noise=noise), g(z, noise_mode="const"))
    noise.requires_grad_()
    gradient = torch.autograd.grad(g(z, noise=noise).square().sum(), noise)[0]
    assert all(part.abs().sum() > 0 for part in gradient.split([size**2 for size, _ in planes], dim=1))
    with pytest.raises(FaceganError, match=rf"noise has shape \[1, {config.num_noise}\]; expected \[N, num_noise\] = \[2, "):
        g(z, noise=noise[:1])


def test_bad_arguments():
    with pytest.raises(FaceganError, match="resolution is 48; expected a power of two"):
        StyleGAN2Config(resolution=48)
    g = Generator(StyleGAN2Config(**TINY))
    with pytest.raises(FaceganError, match=r"ws have shape \[1, 5, 5\]; expected \[N, 6, 5\]"):
        g.synthesis(torch.zeros(1, 5, 5))
    with pytest.raises(FaceganError, match="noise_mode is 'always'"):
        g(torch.zeros(1, 6), noise_mode="always")
    with pytest.raises(FaceganError, match=r"expected a label \[N, 3\], got none"):
        Generator(StyleGAN2Config(**TINY, c_dim=3))(torch.zeros(1, 6))


@pytest.mark.parametrize("half_sizes", range(5))
def test_half_sizes_are_the_largest(half_sizes):
    config = StyleGAN2Config(**TINY, half_sizes=half_sizes)  # 4, 8 and 16 px: more than there are means all
    assert [config.dtype(size) == torch.bfloat16 for size in config.sizes] == [3 - half_sizes <= i for i in range(3)]
