"""The networks against a restatement of the papers' equations in float64, tests/support/stylegan2_equations.py."""

from __future__ import annotations

import json
import math

import pytest
import torch
from stylegan2_equations import generated, judged, mapped

from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config, minibatch_deviation

TINY = dict(resolution=16, z_dim=6, w_dim=5, mapping_layers=3, channel_base=96, channel_max=12)


def doubled(network):
    """Its parameters as float64 leaves, after random numbers on all of them, so that noise strengths and biases count."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter)
    state = {name: value.detach().double() for name, value in network.state_dict().items()}
    return {name: state[name].requires_grad_() for name, _ in network.named_parameters()}


def close(found, expected, tolerance=1e-4):
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


def gradients_agree(network, state, found, expected, retain=False):
    """By a random cotangent, for every parameter."""
    cotangent = torch.randn_like(expected)
    ours = torch.autograd.grad(found, list(network.parameters()), cotangent.float(), allow_unused=True, retain_graph=retain)
    theirs = torch.autograd.grad(expected, list(state.values()), cotangent, allow_unused=True, retain_graph=retain)
    for name, left, right in zip(state, ours, theirs, strict=True):
        if right is None or not right.any():
            assert left is None or not left.any(), name
        else:
            close(left, right, 1e-3)


def drawn_noise(config, n):
    """[n, num_noise], and the same as planes in float64, one for each layer."""
    sides = [size for size in config.sizes for _ in range(1 if size == 4 and config.architecture != "stylegan1" else 2)]
    planes = [torch.randn(n, 1, side, side) for side in sides]
    return torch.cat([plane.flatten(1) for plane in planes], dim=1), (plane.double() for plane in planes)


ARCHITECTURES = ["skip", "resnet", "orig", "stylegan1"]
LEVELS = [None, 2.0, 2.7, 3.0, 3.3, 4.0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("level", LEVELS)
def test_generator_equals_its_equations(architecture, level):
    config = StyleGAN2Config(**TINY, architecture=architecture, growing=level is not None)
    torch.manual_seed(0)
    network = Generator(config)
    state, z, (noise, planes) = doubled(network), torch.randn(3, 6), drawn_noise(config, 3)
    w = mapped(state, config, z.double())
    close(network.mapping(z)[:, -1], w)
    expected = generated(state, config, w[:, None].expand(-1, config.num_ws, -1), planes, level)
    found = network(z, noise=noise, level=level)
    close(found, expected)
    gradients_agree(network, state, found, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_path_length_and_its_gradient_equal_their_equations(architecture):
    """Every layer by a style of its own, and second order: the image's gradient by the styles (Karras et al. 2020a, eq. 4)."""
    config = StyleGAN2Config(**TINY, architecture=architecture)
    torch.manual_seed(2)
    network = Generator(config)
    state, ws, (noise, planes) = doubled(network), torch.randn(2, config.num_ws, 5, requires_grad=True), drawn_noise(config, 2)
    theirs, direction = ws.detach().double().requires_grad_(), torch.randn(2, 3, 16, 16)
    image, expected = network.synthesis(ws, noise=noise), generated(state, config, theirs, planes)
    close(image, expected)
    found = torch.autograd.grad(image, ws, direction, create_graph=True)[0].square().sum((1, 2))
    expected = torch.autograd.grad(expected, theirs, direction.double(), create_graph=True)[0].square().sum((1, 2))
    close(found, expected)
    gradients_agree(network, state, found, expected)


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("level", LEVELS)
def test_discriminator_equals_its_equations(c_dim, level):
    config = StyleGAN2Config(**TINY, c_dim=c_dim, growing=level is not None)
    torch.manual_seed(3)
    network = Discriminator(config)
    side = 16 if level is None else 2 ** math.ceil(level)
    state, image = doubled(network), torch.randn(4, 3, side, side, requires_grad=True)
    theirs = image.detach().double().requires_grad_()
    c = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]]) if c_dim else None
    found, expected = network(image, c, level=level), judged(state, config, theirs, None if c is None else c.double(), level)
    close(found, expected)
    gradients_agree(network, state, found, expected, retain=True)
    # R1 (Mescheder et al. 2018): second order
    found = torch.autograd.grad(found.sum(), image, create_graph=True)[0].square().sum((1, 2, 3))
    expected = torch.autograd.grad(expected.sum(), theirs, create_graph=True)[0].square().sum((1, 2, 3))
    close(found, expected)
    gradients_agree(network, state, found, expected)


OTHERS = {
    "without residual paths": dict(d_architecture="orig"),
    "colours at every size": dict(d_architecture="skip"),
    "limits within reach": dict(conv_clamp=1.5),
    "limits within reach, but of the residual paths": dict(conv_clamp=1.5, d_skip_clamp=False),
    "limits within reach, colours at every size": dict(conv_clamp=1.5, d_architecture="skip"),
    "fewer channels": dict(d_channel_base=64, d_channel_max=8),
    "several deviations": dict(deviation_maps=3, group=2),
    "no deviation": dict(deviation_maps=0),
    "a mapping of its own": dict(c_dim=3, d_mapping_layers=2, d_mapping_lr=0.1, mapping_activation="relu"),
    "short labels": dict(c_dim=3, d_label_dim=7, d_architecture="orig"),
    "grey": dict(img_channels=1),
    "transparent": dict(img_channels=4, d_architecture="skip"),
    **{name: dict(activation=name, mapping_activation=name, d_activation=name) for name in ("relu", "linear", "tanh", "sigmoid")},
}


@pytest.mark.parametrize("name", OTHERS)
def test_networks_of_other_kinds_equal_their_equations(name):
    config = StyleGAN2Config(**TINY, **OTHERS[name])
    torch.manual_seed(5)
    g, d = Generator(config), Discriminator(config)
    of_g, of_d, (noise, planes), z = doubled(g), doubled(d), drawn_noise(config, 4), torch.randn(4, 6)
    c = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]]) if config.c_dim else None
    wide = None if c is None else c.double()
    ws = mapped(of_g, config, z.double(), wide)[:, None].expand(-1, config.num_ws, -1)
    found, expected = g(z, c, noise=noise), generated(of_g, config, ws, planes)
    close(found, expected)
    gradients_agree(g, of_g, found, expected)
    image = torch.randn(4, config.img_channels, 16, 16)
    found, expected = d(image, c), judged(of_d, config, image.double(), wide)
    close(found, expected)
    gradients_agree(d, of_d, found, expected)


def test_a_configuration_tells_of_itself_what_is_out_of_the_ordinary():
    plain = StyleGAN2Config(**TINY)
    assert "d_architecture" not in plain.to_json() and "img_channels" not in plain.to_json()
    for options in OTHERS.values():
        config = StyleGAN2Config(**TINY, **options)
        assert StyleGAN2Config.from_json(json.loads(json.dumps(config.to_json())), "it") == config
    assert Discriminator(StyleGAN2Config(**TINY, d_channel_base=64, d_channel_max=8)).b8.conv0.weight.shape == (8, 8, 3, 3)


def test_conditional_mapping_equals_its_equations():
    config = StyleGAN2Config(**TINY, c_dim=3)
    torch.manual_seed(4)
    network = Generator(config)
    state, z, c = doubled(network), torch.randn(4, 6), torch.rand(4, 3).round()
    c[0] = 0  # no attribute at all
    close(network.mapping(z, c), mapped(state, config, z.double(), c.double())[:, None].expand(-1, config.num_ws, -1))


def test_minibatch_deviation_groups_images_that_lie_apart():
    x = torch.randn(6, 2, 3, 3)
    maps = minibatch_deviation(x, 4)  # 6 is not divisible by 4: groups of 3, images 0 2 4 and 1 3 5
    for first in (0, 1):
        group = x[[first, first + 2, first + 4]]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(maps[[first, first + 2, first + 4]], expected.expand(3, 1, 3, 3))
